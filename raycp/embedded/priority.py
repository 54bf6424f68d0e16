"""Admission of priorities: of a new Pod, that of the PriorityClass that it names, or of the global default.

As the ``Priority`` admission plugin does (``plugin/pkg/admission/priority``).
"""

from typing import Any, NamedTuple

from raycp.embedded.errors import forbidden
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.store import StoreChange, StoredObject

GROUP = "scheduling.k8s.io"
_POLICY = "PreemptLowerPriority"


class _Given(NamedTuple):
    """What a PriorityClass gives to a Pod."""

    value: int
    name: str
    policy: str


_NOTHING = _Given(0, "", _POLICY)


class Priorities:
    """The PriorityClasses of a cluster, decoded once and followed as they change: a new Pod costs a look into a dict."""

    def __init__(self, registry: Registry) -> None:
        classes, pods = registry.find(GROUP, "v1", "priorityclasses"), registry.find("", "v1", "pods")
        assert classes is not None
        assert pods is not None
        self._resource, self._pods = classes, pods
        self._classes: dict[str, _Given] = {}
        self._marked: set[str] = set()
        self._default = _NOTHING
        for record in classes.table.records(""):
            self._take(record)
        classes.table.subscribe("", self._changed)

    def admit(self, resource: ServedResource, obj: dict[str, Any]) -> None:
        """Set ``spec.priority`` and ``spec.preemptionPolicy`` of a new Pod; of PriorityClasses only one may be the global default.
        Raises 403."""
        if resource is self._pods:
            self._admit_pod(obj)
        elif resource is self._resource and obj.get("globalDefault") and self._marked:
            text = f"PriorityClass {min(self._marked)} is already marked as default. Only one default can exist"
            raise forbidden(resource.info, obj["metadata"].get("name") or "", text)

    def _admit_pod(self, pod: dict[str, Any]) -> None:
        spec = pod.get("spec")
        if not isinstance(spec, dict):
            return
        name = spec.get("priorityClassName")
        given = self._classes.get(name) if name else self._default
        if given is None:
            raise self._refused(pod, f"no PriorityClass with name {name} was found")
        if given.name:
            spec["priorityClassName"] = given.name
        stated, asked = spec.get("priority"), spec.get("preemptionPolicy")
        computed = "must not be provided in pod spec; priority admission controller computed"
        if stated is not None and stated != given.value:
            text = f"the integer value of priority ({stated}) {computed} {given.value} from the given PriorityClass name"
            raise self._refused(pod, text)
        if asked is not None and asked != given.policy:
            text = f"the string value of PreemptionPolicy ({asked}) {computed} {given.policy} from the given PriorityClass name"
            raise self._refused(pod, text)
        spec["priority"], spec["preemptionPolicy"] = given.value, given.policy

    def _refused(self, pod: dict[str, Any], text: str) -> Exception:
        meta = pod["metadata"]
        return forbidden(self._pods.info, meta.get("name") or meta.get("generateName") or "", text)

    # ---- what the store tells

    def _changed(self, change: StoreChange) -> None:
        if change.type == "DELETED":
            self._forget(change.record.name)
        else:
            self._take(change.record)

    def _take(self, record: StoredObject) -> None:
        self._forget(record.name)
        known = self._resource.read(record)
        self._classes[record.name] = _Given(known.get("value") or 0, record.name, known.get("preemptionPolicy") or _POLICY)
        if known.get("globalDefault"):
            self._marked.add(record.name)
            self._choose()

    def _forget(self, name: str) -> None:
        self._classes.pop(name, None)
        if name in self._marked:
            self._marked.discard(name)
            self._choose()

    def _choose(self) -> None:
        # there are several only if they were made at different times: the lowest one counts
        self._default = min((self._classes[name] for name in self._marked), default=_NOTHING)
