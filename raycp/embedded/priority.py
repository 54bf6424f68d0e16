"""Admission of Pods' priorities: the value of the PriorityClass that a Pod names, or of the global default.

As the ``Priority`` admission plugin does (``plugin/pkg/admission/priority``).
"""

from typing import Any

from raycp.embedded.errors import forbidden
from raycp.embedded.registry import Registry, ServedResource


def admit_priority(registry: Registry, resource: ServedResource, pod: dict[str, Any]) -> None:
    """Set ``spec.priority`` and ``spec.preemptionPolicy`` of a new Pod. Raises 403 for a class that does not exist."""
    spec = pod.get("spec")
    classes = registry.find("scheduling.k8s.io", "v1", "priorityclasses")
    if not isinstance(spec, dict) or classes is None:
        return
    name = spec.get("priorityClassName")
    if name:
        record = classes.table.get("", name)
        if record is None:
            found = pod["metadata"].get("name") or pod["metadata"].get("generateName") or ""
            raise forbidden(resource.info, found, f"no PriorityClass with name {name} was found")
    else:
        record = next((r for r in classes.table.records("") if b'"globalDefault":true' in r.raw), None)
        if record is None:
            return
        spec["priorityClassName"] = record.name
    chosen = record.decode()
    spec["priority"] = chosen["value"]
    spec["preemptionPolicy"] = chosen.get("preemptionPolicy", "PreemptLowerPriority")
