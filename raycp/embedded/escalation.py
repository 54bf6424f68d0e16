"""Who may grant what: writes of roles and bindings, as ``pkg/registry/rbac/*/policybased`` judges them before they are validated.

A role grants only what its writer has, unless it is allowed the verb ``escalate`` on that role; a binding only a role whose rules
its writer has, unless it is allowed ``bind`` on it. An aggregation rule gathers anything, so its writer needs everything.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from raycp.embedded.access import RBAC, Access, Attributes
from raycp.embedded.auth import MASTERS, User
from raycp.embedded.errors import StatusError, forbidden
from raycp.embedded.pipeline import Draft, Object

Rule = dict[str, Any]

_ROLES = ("roles", "clusterroles")
_EVERYTHING: list[Rule] = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
]
_COLLECTED = ("ownerReferences", "finalizers", "managedFields", "resourceVersion")
"""the fields of metadata that garbage collection writes, which anybody may who may update, and those that follow"""


class Escalation:
    """One per cluster."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def check(self, user: User, draft: Draft, name: str) -> None:
        """Whether ``user`` may write this role or binding; ``name`` is that of the request. Other kinds pass. Raises 403, 404."""
        info = draft.resource.info
        if info.group != RBAC or not self._access.enforced or MASTERS in user.groups:
            return
        if info.plural in _ROLES:
            self._role(user, draft, name)
        else:
            self._binding(user, draft)

    def _role(self, user: User, draft: Draft, name: str) -> None:
        info, obj, old = draft.resource.info, draft.obj, draft.old
        ns, shown = _where(draft)
        if self._access.decide(user, Attributes("escalate", RBAC, "*", info.plural, "", ns, name)).allowed or _collected(obj, old):
            return
        missing = self._missing(user, obj.get("rules") or (), ns)
        if missing:
            raise forbidden(info, shown, missing)
        if (_aggregates(obj) or _aggregates(old)) and self._missing(user, _EVERYTHING, ns):
            raise forbidden(info, shown, "must have cluster-admin privileges to use the aggregationRule")

    def _binding(self, user: User, draft: Draft) -> None:
        info, obj = draft.resource.info, draft.obj
        ns, shown = _where(draft)
        ref = obj.get("roleRef") or {}
        kind, name = str(ref.get("kind") or ""), str(ref.get("name") or "")
        plural = {"Role": "roles", "ClusterRole": "clusterroles"}.get(kind)
        if _collected(obj, draft.old):
            return
        if plural is None:
            raise StatusError(500, "InternalError", f'Internal error occurred: unsupported role reference kind: "{kind}"')
        if self._access.decide(user, Attributes("bind", str(ref.get("apiGroup") or ""), "*", plural, "", ns, name)).allowed:
            return
        missing = self._missing(user, self._access.rules_of_role(kind, ns, name), ns)
        if missing:
            raise forbidden(info, shown, missing)

    def _missing(self, user: User, rules: Iterable[Rule], ns: str) -> str:
        """What of ``rules`` the user does not have, as an error says it; empty for nothing."""
        held = [rule for rule, _ in self._access.rules(user, ns)]
        missing = [part for rule in rules for part in _parts(rule) if not any(_covers(own, part) for own in held)]
        if not missing:
            return ""
        lines = "\n".join(sorted({_text(rule) for rule in _compact(missing)}))
        who = f"user {_quoted(user.name)} (groups=[{' '.join(map(_quoted, user.groups))}])"
        return f"{who} is attempting to grant RBAC permissions not currently held:\n{lines}"


def _where(draft: Draft) -> tuple[str, str]:
    """Namespace and name of the object."""
    meta = draft.obj["metadata"]
    return (meta.get("namespace") or "") if draft.resource.info.namespaced else "", meta.get("name") or ""


def _aggregates(role: Object | None) -> bool:
    return bool(((role or {}).get("aggregationRule") or {}).get("clusterRoleSelectors"))


def _collected(obj: Object, old: Object | None) -> bool:
    """Whether a write changes nothing but what garbage collection changes."""

    def rest(given: Object) -> Object:
        return {**given, "metadata": {k: v for k, v in given["metadata"].items() if k not in _COLLECTED}}

    return old is not None and rest(obj) == rest(old)


def _parts(rule: Rule) -> Iterator[Rule]:
    """A rule as rules of one verb and one resource or URL each, which a single rule covers or none does."""
    verbs, named = rule.get("verbs") or (), rule.get("resourceNames") or (None,)
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                for name in named:
                    only = {} if name is None else {"resourceNames": [name]}
                    yield {"apiGroups": [group], "resources": [resource], "verbs": [verb], **only}
    for url in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield {"nonResourceURLs": [url], "verbs": [verb]}


def _all(own: Iterable[str], wanted: Iterable[str]) -> bool:
    have = set(own)
    return "*" in have or have.issuperset(wanted)


def _covers(own: Rule, part: Rule) -> bool:
    def given(rule: Rule, key: str) -> list[str]:
        return rule.get(key) or []

    names, wanted = given(own, "resourceNames"), given(part, "resourceNames")
    return (
        _all(given(own, "verbs"), given(part, "verbs"))
        and _all(given(own, "apiGroups"), given(part, "apiGroups"))
        and all(_covers_resource(given(own, "resources"), one) for one in given(part, "resources"))
        and all(any(_covers_url(mine, url) for mine in given(own, "nonResourceURLs")) for url in given(part, "nonResourceURLs"))
        and (not names or (bool(wanted) and set(wanted) <= set(names)))
    )


def _covers_resource(own: list[str], wanted: str) -> bool:
    _, slash, sub = wanted.partition("/")
    return "*" in own or wanted in own or (bool(slash) and f"*/{sub}" in own)


def _covers_url(own: str, wanted: str) -> bool:
    return own == wanted or (own.endswith("*") and wanted.startswith(own.rstrip("*")))


def _compact(parts: list[Rule]) -> list[Rule]:
    """Rules of the same resource and name as one, with all their verbs."""
    found: dict[str, Rule] = {}
    kept: list[Rule] = []
    for part in parts:
        if "resources" not in part:
            kept.append(part)
            continue
        key = repr((part["apiGroups"], part["resources"], part.get("resourceNames")))
        into = found.setdefault(key, {**part, "verbs": []})
        into["verbs"] += [verb for verb in part["verbs"] if verb not in into["verbs"]]
    return [*kept, *found.values()]


def _text(rule: Rule) -> str:
    shown = (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("ResourceNames", "resourceNames"),
        ("Verbs", "verbs"),
    )
    parts = [f"{name}:[{' '.join(map(_quoted, rule[key]))}]" for name, key in shown if rule.get(key)]
    return "{" + ", ".join(parts) + "}"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
