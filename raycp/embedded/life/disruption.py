"""The status of PodDisruptionBudgets: how many Pods there are, must be healthy, are, and may be disrupted.

As ``pkg/controller/disruption`` of kube-controller-manager.
"""

import math
from typing import Any, NamedTuple

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.life.seams import Api, Inbox, Object, Tables, iso, unix
from raycp.embedded.registry import Registry
from raycp.embedded.selectors import parse_label_dict
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject

BUDGETS = "poddisruptionbudgets.policy"
DELETION_TIMEOUT = 120.0
"""seconds in which a Pod that was evicted must be deleted (``DeletionTimeout``)"""
_SCALED = {
    ("apps/v1", "ReplicaSet"): "replicasets.apps",
    ("apps/v1", "StatefulSet"): "statefulsets.apps",
    ("v1", "ReplicationController"): "replicationcontrollers",
}


class Unscaled(Exception):
    """The Pods' controllers have no scale that could be counted."""


class _Counts(NamedTuple):
    expected: int
    desired: int


class Disruption:
    """``start()`` subscribes; ``run()`` works until cancelled."""

    def __init__(self, api: Api, store: ObjectStore, registry: Registry, clock: Clock) -> None:
        self.api = api
        self.clock = clock
        self.inbox = Inbox(self._reconcile, clock)
        self._tables = Tables(store, registry)
        self._registry = registry

    def start(self) -> None:
        self._budgets = self._tables.subscribe(BUDGETS, self._budget_changed)
        self._pods = self._tables.subscribe("pods", self._pod_changed)
        for record in self._budgets.records(""):
            self.inbox.put((record.ns, record.name))

    def stop(self) -> None:
        self._tables.close()

    async def run(self) -> None:
        await self.inbox.run()

    def _budget_changed(self, change: StoreChange) -> None:
        if change.type != "DELETED":
            self.inbox.put((change.record.ns, change.record.name))

    def _pod_changed(self, change: StoreChange) -> None:
        if self._budgets.count:
            self.inbox.put_all((one.ns, one.name) for one in self._budgets.records(change.record.ns))

    async def _reconcile(self, key: tuple[str, str]) -> float | None:
        record = self._budgets.get(*key)
        if record is None:
            return None
        budget = record.decode()
        status, again = self._status(budget)
        if status == budget.get("status"):
            return again
        try:
            await self.api.update(BUDGETS, {**budget, "status": status}, subresource="status")
        except StatusError as error:
            if error.code == 409:
                self.inbox.put(key)
            elif error.code != 404:
                raise
        return again

    def _status(self, budget: Object) -> tuple[Object, float | None]:
        """The status, and after how many seconds it may be another one."""
        before = budget.get("status") or {}
        generation = budget["metadata"].get("generation") or 0
        selector = (budget.get("spec") or {}).get("selector")
        wanted = parse_label_dict(selector) if selector is not None else None
        pods: list[StoredObject] = []
        if wanted is not None:
            pods = [one for one in self._pods.records(budget["metadata"]["namespace"]) if wanted(one.labels)]
        decoded = [one.decode() for one in pods]
        now = self.clock.wall()
        try:
            counts = self._counts(budget.get("spec") or {}, decoded)
        except Unscaled as error:
            failed = {**before, "disruptionsAllowed": 0}
            failed["conditions"] = self._conditions(before, False, "SyncFailed", str(error), before.get("observedGeneration") or 0)
            return failed, None
        disrupted = _disrupted(before.get("disruptedPods") or {}, decoded, now)
        healthy = sum(1 for one in decoded if _healthy(one, disrupted))
        allowed = max(0, healthy - counts.desired) if counts.expected > 0 else 0
        reason = "SufficientPods" if allowed else "InsufficientPods"
        status: Object = {
            "observedGeneration": generation,
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": counts.desired,
            "expectedPods": counts.expected,
            "conditions": self._conditions(before, bool(allowed), reason, "", generation),
        }
        if disrupted:
            status["disruptedPods"] = disrupted
        ends = [unix(text) + DELETION_TIMEOUT - now for text in disrupted.values()]
        return status, max(1.0, min(ends)) if ends else None

    def _conditions(self, before: Object, good: bool, reason: str, message: str, generation: int) -> list[Object]:
        known = before.get("conditions") or []
        old = next((one for one in known if one.get("type") == "DisruptionAllowed"), None)
        state = "True" if good else "False"
        since = old["lastTransitionTime"] if old is not None and old.get("status") == state else iso(self.clock.wall())
        made = {
            "type": "DisruptionAllowed",
            "status": state,
            "observedGeneration": generation,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }
        return [made if one is old else one for one in known] if old is not None else [*known, made]

    def _counts(self, spec: Object, pods: list[Object]) -> _Counts:
        most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
        if most is not None:
            expected = self._scale(pods)
            return _Counts(expected, max(0, expected - _share(most, expected)))
        if isinstance(least, str):
            expected = self._scale(pods)
            return _Counts(expected, _share(least, expected))
        return _Counts(len(pods), least or 0) if least is not None else _Counts(0, 0)

    def _scale(self, pods: list[Object]) -> int:
        """The replicas of the Pods' controllers together. Raises ``Unscaled``."""
        scales: dict[str, int] = {}
        for pod in pods:
            owner = _controller(pod)
            if owner is not None and owner["uid"] not in scales:
                found = self._owner(owner, pod["metadata"]["namespace"])
                if found is None:
                    raise Unscaled(f'found no controllers for pod "{pod["metadata"]["name"]}"')
                scales[owner["uid"]] = (found.get("spec") or {}).get("replicas") or 0
        return sum(scales.values())

    def _owner(self, owner: Object, namespace: str) -> Object | None:
        kind = (owner.get("apiVersion") or "", owner.get("kind") or "")
        name = _SCALED.get(kind)
        if name is None:
            resource = self._registry.by_kind(*kind)
            if resource is None or resource.info.crd is None or "scale" not in resource.info.subresources:
                return None
            name = f"{resource.info.plural}.{resource.info.version}.{resource.info.group}"
        found = self._tables.read(name, namespace, owner["name"])
        if found is None or found["metadata"].get("uid") != owner["uid"]:
            return None
        above = _controller(found)
        if name == "replicasets.apps" and above is not None and above.get("kind") == "Deployment":
            return self._tables.read("deployments.apps", namespace, above["name"]) or found
        return found


def _controller(obj: Object) -> Object | None:
    return next((one for one in obj["metadata"].get("ownerReferences") or () if one.get("controller")), None)


def _share(value: Any, of: int) -> int:
    """A number, or a percentage rounded up."""
    return math.ceil(int(value.rstrip("%")) * of / 100) if isinstance(value, str) else int(value)


def _disrupted(known: Object, pods: list[Object], now: float) -> Object:
    """The evicted Pods that are not being deleted yet, for as long as that may take."""
    there = {pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    return {name: since for name, since in known.items() if name in there and since and unix(since) + DELETION_TIMEOUT > now}


def _healthy(pod: Object, disrupted: Object) -> bool:
    if "deletionTimestamp" in pod["metadata"] or pod["metadata"]["name"] in disrupted:
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
