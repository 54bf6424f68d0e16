"""Pod and PodTemplate."""

from raycp.embedded.strategy.causes import Errors, forbidden, immutable
from raycp.embedded.strategy.kinds import pod_defaults, pod_validation
from raycp.embedded.strategy.rules import Object, register


def _validate(obj: Object, errors: Errors) -> None:
    pod_validation.pod_spec(obj.get("spec") or {}, "spec", errors)


def _prepare_update(new: Object, old: Object) -> None:
    spec = new.get("spec")
    if spec is not None and spec is not old.get("spec"):
        new["spec"] = spec = dict(spec)
        pod_defaults.default_tolerations(spec)
        for name in ("priority", "preemptionPolicy"):
            if name not in spec and name in old["spec"]:
                spec[name] = old["spec"][name]


def _prepare_status(new: Object, old: Object) -> None:
    status = new["status"] = dict(new.get("status") or {})
    before = old.get("status") or {}
    if "qosClass" not in status and "qosClass" in before:
        status["qosClass"] = before["qosClass"]
    meta = new["metadata"]
    meta.pop("ownerReferences", None)
    if "ownerReferences" in old["metadata"]:
        meta["ownerReferences"] = old["metadata"]["ownerReferences"]


def _validate_status(new: Object, old: Object, errors: Errors) -> None:
    status, before = new.get("status") or {}, old.get("status") or {}
    if status.get("qosClass") != before.get("qosClass") and before.get("qosClass"):
        errors.append(immutable("status.qosClass", status.get("qosClass")))
    nominated, old_nominated = status.get("nominatedNodeName"), before.get("nominatedNodeName")
    if nominated and nominated != old_nominated and " " in nominated:
        errors.append(forbidden("status.nominatedNodeName", "not a valid node name"))
    restart = (old.get("spec") or {}).get("restartPolicy")
    for group in ("containerStatuses", "initContainerStatuses"):
        _no_resurrection(status.get(group) or [], before.get(group) or [], restart, f"status.{group}", errors)


def _no_resurrection(new: list[Object], old: list[Object], restart: str | None, field: str, errors: Errors) -> None:
    """``ValidateContainerStateTransition``: a container that must not restart does not leave ``terminated``."""
    if restart == "Always":
        return
    there = {one.get("name"): one for one in new}
    for index, was in enumerate(old):
        ended = (was.get("state") or {}).get("terminated")
        if ended is None or (ended.get("exitCode", 0) != 0 and restart == "OnFailure"):
            continue
        now = there.get(was.get("name"))
        if now is not None and (now.get("state") or {}).get("terminated") is None:
            errors.append(forbidden(f"{field}[{index}].state", "may not be transitioned to non-terminated state"))


register(
    "",
    "Pod",
    generation=True,
    defaults=pod_defaults.pod,
    create=pod_defaults.admit,
    update=_prepare_update,
    status_update=_prepare_status,
    validate=_validate,
    validate_update=pod_validation.update,
    validate_status=_validate_status,
    metadata_again=True,
)


def _template_defaults(obj: Object) -> None:
    spec = (obj.get("template") or {}).get("spec")
    if spec is not None:
        pod_defaults.pod_spec(spec)


def _template_validate(obj: Object, errors: Errors) -> None:
    pod_validation.template(obj.get("template"), "template", errors)


register(
    "",
    "PodTemplate",
    generation=True,
    generation_of=lambda obj: obj.get("template"),
    defaults=_template_defaults,
    validate=_template_validate,
)
