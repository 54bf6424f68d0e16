"""What is told of keys that end worker processes (law 11): metrics, a Warning Event on the object, the shard's report; and a
Warning Event on those that ask to be reconciled again for ever.

The Event is written by the shard: the worker that knew the reconcile best is dead. It carries the shard's epoch and term like any
write of a worker, and none is sent without a permit (law 6).
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK, RequestKey
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.tasks import Done, Task
from raycp.kube import Fenced, Unreachable, WriteStamp
from raycp.metrics import Metrics, PoisonMetrics
from raycp.protocol.report import Report, SuspectReport
from raycp.sdk.backend import Answer, ApiRequest
from raycp.sdk.event_recorder import EventRecorder, event_for
from raycp.shard.caches import Caches
from raycp.shard.haste import LOOP
from raycp.shard.identity import ShardIdentity
from raycp.shard.ledger import Ledger
from raycp.shard.quarantine import Conviction
from raycp.shard.suspects import Level

log = logging.getLogger(__name__)

MOST = 20
"""Suspects that a report names."""

EVENT_REASON = "WorkerDied"


class EventPermits(Protocol):
    """The shard's permit, as a write needs it."""

    def left(self) -> float:
        """Seconds that remain of the permit."""
        ...


class Convictions:
    """One shard's. ``kind_of``: the kind that a controller reconciles."""

    def __init__(
        self,
        identity: ShardIdentity,
        ledger: Ledger,
        caches: Caches,
        kind_of: Callable[[str], GVK | None],
        permits: EventPermits,
        clock: Clock,
        loops: Loops,
        metrics: Metrics,
    ) -> None:
        self._identity = identity
        self._quarantine = ledger.quarantine
        self._caches = caches
        self._kind_of = kind_of
        self._permits = permits
        self._clock = clock
        self._loops = loops
        self._metrics = PoisonMetrics(metrics)
        self._recorder: EventRecorder | None = None
        ledger.quarantine.on_conviction = self._convicted
        ledger.notes.on_loop = self._looped
        metrics.before_snapshot(self._set_gauges)

    # reports

    def fill(self, report: Report) -> None:
        """Put the suspects into the shard's report."""
        if not self._quarantine.active:
            return
        alone = self._quarantine.alone()
        ahead = self._clock.wall() - self._clock.now()
        report.suspected, report.quarantine = len(alone), self._quarantine.due()
        for key, record in alone[:MOST]:
            convicted = record.level is Level.CONVICTED
            since = round(record.since + ahead, 1)
            row = SuspectReport(self.name_of(key), key.controller, convicted, record.deaths, record.reason, since)
            report.suspects.append(row)

    def name_of(self, key: RequestKey) -> str:
        """The key's object as ``raycp why`` takes it."""
        kind = self._kind_of(key.controller)
        return f"{key.cluster}/{kind or '?'}/{key.namespace or '-'}/{key.name}"

    def suspicion(self, key: RequestKey) -> Mapping[str, object] | None:
        """What is held against ``key``, for its timeline; None if nothing is."""
        record = self._quarantine.suspects.record(key)
        if record is None:
            return None
        return {"level": record.level.name.lower(), "deaths": record.deaths, "reason": record.reason}

    def _set_gauges(self) -> None:
        suspects: dict[tuple[str, ...], float] = {}
        convicted: dict[tuple[str, ...], float] = {}
        for key, record in self._quarantine.alone():
            for level, values in ((Level.SUSPECT, suspects), (Level.CONVICTED, convicted)):
                values[key[:2]] = values.get(key[:2], 0.0) + (record.level is level)
        self._metrics.suspects.replace(suspects)
        self._metrics.convicted.replace(convicted)

    # convictions

    def _convicted(self, conviction: Conviction) -> None:
        key, finding, deaths = conviction
        log.error("%s is convicted: %s (%d workers died with it in flight)", key, finding.reason, deaths)
        self._metrics.convictions.labels(key.controller, key.cluster).inc()
        self._warn(key, EVENT_REASON, f"{finding.reason}. It is reconciled alone, with backoff, until a reconcile succeeds.")

    def _looped(self, fault: Done) -> None:
        log.error("%s: %s", fault.key, fault.error)
        self._warn(fault.key, LOOP, f"controller {fault.key.controller}: {fault.error}")

    def _warn(self, key: RequestKey, reason: str, note: str) -> None:
        """A Warning Event on the key's object."""
        kind, obj = self._kind_of(key.controller), self._caches.object(key)
        if kind is None or obj is None or not self._identity.primary:
            return
        if self._recorder is None:
            self._recorder = EventRecorder(self._send, self._clock)
            self._loops.supervise(self._recorder.run, LoopName.EVENTS)
        meta = obj.meta
        target = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "resourceVersion": meta.resource_version},
        }
        controller = f"raycp.io/{key.controller}"
        event = event_for(target, "Warning", reason, note, "Reconcile", controller, self._identity.shard, self._clock.wall())
        self._recorder.record(self._task(key), key.cluster, msgspec.json.encode(event))

    def _task(self, key: RequestKey) -> Task:
        """Whose write the Event is: nobody's reconcile, this primary's."""
        identity = self._identity
        return Task(0, key, "background", EVENT_REASON, 1, identity.epoch, identity.shard, identity.term, 0, 0.0, None)

    async def _send(self, task: Task, call: ApiRequest) -> Answer:
        """As ``Backend.request``, by the client with which this shard watches the cluster. Raises ``KubeError``."""
        watched = self._caches.cluster(call.cluster)
        if watched is None or watched.client is None:
            raise Unreachable(f"cluster {call.cluster} is not connected", sent=False)

        def stamp() -> WriteStamp:
            left = self._permits.left()
            if left <= 0 or (task.epoch, task.term) != (self._identity.epoch, self._identity.term):
                raise Fenced("the permit, epoch or term of this shard has ended")
            headers = {"X-Raycp-Epoch": str(task.epoch), "X-Raycp-Shard": task.shard, "X-Raycp-Term": str(task.term)}
            return WriteStamp(headers, None if left == math.inf else left)

        resource = await watched.client.resource(call.kind)
        name = None if call.verb == "create" else call.name
        path = resource.path(call.namespace or None, name, None)
        verb = "POST" if call.verb == "create" else "PATCH"
        answer = await watched.client.request(verb, path, body=call.body, content_type=call.content_type, guard=stamp)
        return Answer(answer.status, answer.body, path)
