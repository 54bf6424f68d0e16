"""The recent steps of each object, for ``raycp why``: bounded, cheap, in plain words.

A step is kept as a small tuple and made readable on request. The last ``per_key`` steps of each key are kept, ``limit`` in all; the
keys without a step for the longest time are forgotten first.
"""

from collections import OrderedDict, deque
from typing import Any, NamedTuple

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall


class Step(NamedTuple):
    """``at`` in Unix seconds; ``what`` a key of ``MEANINGS``; ``detail`` its facts."""

    at: float
    what: str
    detail: dict[str, Any]


MEANINGS = {
    "received": "a change was observed",
    "queued": "put into a lane",
    "ignored": "needs no reconcile",
    "delayed": "made to wait before it is ready",
    "woken": "made ready before its time by a real event",
    "handed_out": "given to a worker",
    "returned": "came back without a result",
    "succeeded": "reconciled",
    "failed": "the reconcile failed and will be tried again",
    "gave_up": "failed for good until the object changes",
    "waiting": "reconciled, and waits for something outside the control plane",
    "problem": "something about the object is wrong",
    "suspected": "may end the process of its worker, and runs alone",
    "convicted": "has ended the process of a worker, and runs alone after its backoff",
    "cleared": "is suspected no longer",
    "fenced": "a write was refused because its epoch, term or permit had ended",
}


class Timelines:
    """The last steps of each key of one shard. Recording costs about a microsecond."""

    def __init__(self, clock: Clock, per_key: int = 40, limit: int = 100_000) -> None:
        self._clock = clock
        self._per_key = per_key
        self._limit = limit
        self._keys: OrderedDict[RequestKey, deque[Step]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Steps kept."""
        return self._count

    def record(self, key: RequestKey, what: str, **detail: Any) -> None:
        """Keep one step, stamped now."""
        steps = self._keys.get(key)
        if steps is None:
            steps = self._keys[key] = deque()
        else:
            self._keys.move_to_end(key)
        steps.append(Step(self._clock.wall(), what, detail))
        self._count += 1
        if len(steps) > self._per_key:
            steps.popleft()
            self._count -= 1
        while self._count > self._limit:
            _, oldest = self._keys.popitem(last=False)
            self._count -= len(oldest)

    def received(self, key: RequestKey, *, reason: str, source: str, tier: str, rv: int, delay: float = 0.0, why: str = "") -> None:
        """A change and the verdict on it; ``why`` explains the choice of the tier."""
        self.record(key, "received", reason=reason, source=source, tier=tier, resource_version=rv, delay=delay, why=why)

    def queued(self, key: RequestKey, *, tier: str, depth: int, ahead: str = "") -> None:
        """In its lane behind ``depth`` others; ``ahead`` names the key or tenant at its front."""
        self.record(key, "queued", tier=tier, depth=depth, ahead=ahead)

    def delayed(self, key: RequestKey, *, seconds: float, reason: str) -> None:
        self.record(key, "delayed", seconds=seconds, reason=reason)

    def handed_out(self, key: RequestKey, *, worker: str, attempt: int, waited: float) -> None:
        self.record(key, "handed_out", worker=worker, attempt=attempt, waited=waited)

    def ended(
        self, key: RequestKey, what: str, *, seconds: float, calls: list[ApiCall], error: str = "", waiting: str = ""
    ) -> None:
        """``what`` is succeeded, failed, gave_up, waiting or returned; at most 20 API calls are kept."""
        shown = [
            {"verb": c.verb, "cluster": c.cluster, "path": c.path, "status": c.status, "seconds": c.seconds} for c in calls[:20]
        ]
        detail: dict[str, Any] = {"seconds": seconds, "calls": shown}
        if len(calls) > 20:
            detail["calls_left_out"] = len(calls) - 20
        if error:
            detail["error"] = error[:500]
        if waiting:
            detail["waiting"] = waiting
        self.record(key, what, **detail)

    def of(self, cluster: str, namespace: str, name: str, controllers: set[str] | None = None) -> list[tuple[str, list[Step]]]:
        """(controller, steps, oldest first) of one object, for the controllers that reconcile its kind (None: all)."""
        return [
            (key.controller, list(steps))
            for key, steps in self._keys.items()
            if (key.cluster, key.namespace, key.name) == (cluster, namespace, name)
            and (controllers is None or key.controller in controllers)
        ]

    def forget(self, key: RequestKey) -> None:
        self._count -= len(self._keys.pop(key, ()))


def as_json(found: list[tuple[str, list[Step]]]) -> list[dict[str, Any]]:
    """For the observer's API: per controller, the steps with their meaning."""
    return [
        {
            "controller": controller,
            "steps": [{"at": s.at, "what": s.what, "meaning": MEANINGS.get(s.what, ""), **s.detail} for s in steps],
        }
        for controller, steps in found
    ]
