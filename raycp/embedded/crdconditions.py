"""A CustomResourceDefinition's status: accepted names, the Established condition, and termination after a DELETE.

Follows ``apiextensions-apiserver``'s ``pkg/controller/status``, ``establish`` and ``finalizer``.
"""

from typing import Any

Object = dict[str, Any]
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def is_true(crd: Object, kind: str) -> bool:
    """Whether the CRD has this condition."""
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == kind and one.get("status") == "True" for one in conditions)


def _set_condition(conditions: list[Object], kind: str, status: str, reason: str, message: str, now: str) -> None:
    new = {"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message}
    for index, one in enumerate(conditions):
        if one["type"] == kind:
            if one["status"] == status:
                new["lastTransitionTime"] = one.get("lastTransitionTime") or now
            conditions[index] = new
            return
    conditions.append(new)


def status_of(crd: Object, others: list[Object], now: str) -> Object:
    """The status that the naming and establishing controllers would write, given the other CRDs.

    A name that another CRD of the group holds is not accepted. A CRD with all names accepted is Established for good.
    """
    status = dict(crd.get("status") or {})
    wanted = (crd.get("spec") or {}).get("names") or {}
    group = crd["spec"]["group"]
    accepted = dict(status.get("acceptedNames") or {})
    singular_like: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        if other["spec"]["group"] != group:
            continue
        held = (other.get("status") or {}).get("acceptedNames") or {}
        singular_like |= {held.get("plural", ""), held.get("singular", ""), *(held.get("shortNames") or ())}
        kinds |= {held.get("kind", ""), held.get("listKind", "")}
    problems: list[tuple[str, str]] = []
    for key, taken, reason in (
        ("plural", singular_like, "PluralConflict"),
        ("singular", singular_like, "SingularConflict"),
        ("shortNames", singular_like, "ShortNamesConflict"),
        ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ):
        value = wanted.get(key)
        if not value:
            accepted.pop(key, None)
            continue
        clash = [one for one in (value if isinstance(value, list) else [value]) if one in taken]
        if clash:
            problems.append((reason, f'"{clash[0]}" is already in use'))
        else:
            accepted[key] = value
    if wanted.get("categories"):
        accepted["categories"] = wanted["categories"]
    else:
        accepted.pop("categories", None)
    accepted.setdefault("plural", "")
    accepted.setdefault("kind", "")
    conditions = [dict(one) for one in status.get("conditions") or ()]
    if problems:
        _set_condition(conditions, "NamesAccepted", "False", problems[-1][0], problems[-1][1], now)
        if not is_true(crd, "Established"):
            text = "not all names are accepted"
            _set_condition(conditions, "Established", "False", "NotAccepted", text, now)
    else:
        _set_condition(conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
        if not is_true(crd, "Established"):
            text = "the initial names have been accepted"
            _set_condition(conditions, "Established", "True", "InitialNamesAccepted", text, now)
    status["acceptedNames"] = accepted
    status["conditions"] = conditions
    status.setdefault("storedVersions", [v["name"] for v in crd["spec"]["versions"] if v.get("storage")])
    return status


def terminating(crd: Object, now: str) -> None:
    """Add the finalizer and the condition that a DELETE gives a CRD, in place."""
    meta = crd["metadata"]
    if CLEANUP_FINALIZER not in (meta.get("finalizers") or ()):
        meta["finalizers"] = [*(meta.get("finalizers") or ()), CLEANUP_FINALIZER]
    status = crd["status"] = dict(crd.get("status") or {})
    conditions = [dict(one) for one in status.get("conditions") or ()]
    text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    _set_condition(conditions, "Terminating", "True", "InstanceDeletionPending", text, now)
    status["conditions"] = conditions
