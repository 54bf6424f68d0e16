"""Admission of priorities: of a new Pod, that of the PriorityClass that it names, or of the global default.

As the ``Priority`` admission plugin does (``plugin/pkg/admission/priority``).
"""

from typing import Any

from raycp.embedded.errors import forbidden
from raycp.embedded.registry import Registry, ServedResource

_DEFAULT = b'"globalDefault":true'
GROUP = "scheduling.k8s.io"


def admit_priority(registry: Registry, resource: ServedResource, obj: dict[str, Any]) -> None:
    """Set ``spec.priority`` and ``spec.preemptionPolicy`` of a new Pod; of PriorityClasses only one may be the global default.
    Raises 403."""
    plural = resource.info.plural
    if plural == "pods" and not resource.info.group:
        _pod(registry, resource, obj)
    elif plural == "priorityclasses" and obj.get("globalDefault"):
        classes = registry.find(GROUP, "v1", "priorityclasses")
        assert classes is not None
        known = next((one.name for one in classes.table.records("") if _DEFAULT in one.raw), None)
        if known is not None:
            text = f"PriorityClass {known} is already marked as default. Only one default can exist"
            raise forbidden(resource.info, obj["metadata"].get("name") or "", text)


def _pod(registry: Registry, resource: ServedResource, pod: dict[str, Any]) -> None:
    spec = pod.get("spec")
    classes = registry.find(GROUP, "v1", "priorityclasses")
    if not isinstance(spec, dict) or classes is None:
        return
    found = pod["metadata"].get("name") or pod["metadata"].get("generateName") or ""
    name = spec.get("priorityClassName")
    value, policy = 0, "PreemptLowerPriority"
    if name:
        record = classes.table.get("", name)
        if record is None:
            raise forbidden(resource.info, found, f"no PriorityClass with name {name} was found")
    else:
        # there are several only if they were made at different times: the lowest one counts
        defaults = [(one.decode()["value"], one.name, one) for one in classes.table.records("") if _DEFAULT in one.raw]
        record = min(defaults)[2] if defaults else None
        if record is not None:
            spec["priorityClassName"] = record.name
    if record is not None:
        chosen = record.decode()
        value, policy = chosen["value"], chosen.get("preemptionPolicy", policy)
    given, asked = spec.get("priority"), spec.get("preemptionPolicy")
    computed = "must not be provided in pod spec; priority admission controller computed"
    if given is not None and given != value:
        text = f"the integer value of priority ({given}) {computed} {value} from the given PriorityClass name"
        raise forbidden(resource.info, found, text)
    if asked is not None and asked != policy:
        text = f"the string value of PreemptionPolicy ({asked}) {computed} {policy} from the given PriorityClass name"
        raise forbidden(resource.info, found, text)
    spec["priority"], spec["preemptionPolicy"] = value, policy
