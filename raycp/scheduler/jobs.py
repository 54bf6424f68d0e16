"""``ScheduledJob``: what the scheduler reads of a ``BatchJob``, and the form of ``status.admission``.

Of an object only the fields that matter are decoded: a hub may have ten thousand jobs that wait.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import ValidationError

from raycp.base.objects import Obj
from raycp.base.text import message_of
from raycp.base.text_cache import cached_by_text
from raycp.controllers.batchjob.indexes import IndexSet
from raycp.controllers.batchjob.placementtypes import Placement, Topology, rules_of
from raycp.controllers.batchjob.types import JOB_CONTROLLER, MANAGED_BY
from raycp.scheduling import Rules
from raycp.scheduling.admission import JobOutcome
from raycp.scheduling.admissions import AdmissionRecord
from raycp.scheduling.demand import Dependency, JobDemand
from raycp.scheduling.labels import TolerationSpec
from raycp.scheduling.podrequests import pod_requests
from raycp.scheduling.relocation import Displacement
from raycp.sdk import conditions

_MARKERS = (b'"queue":', b'"gang":', b'"dependsOn":', b'"admission":')
_HIGHEST = 2**31 - 1
_IN_PLACE = Displacement()
_OWN = (None, MANAGED_BY, JOB_CONTROLLER)


class _Struct(msgspec.Struct, rename="camel"):
    pass


class _Gang(_Struct):
    min_available: int | None = None
    topology: Topology = "Any"
    timeout_seconds: int = 300


class _Dependency(_Struct):
    job: str
    condition: Literal["Complete", "Failed", "Started"] = "Complete"


class _PodToleration(_Struct):
    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: str = ""


class _Template(msgspec.Struct):
    spec: dict[str, Any] = {}


class _Spec(_Struct):
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool = False
    managed_by: str | None = None
    active_deadline_seconds: int | None = None
    queue: str | None = None
    priority: int | None = None
    priority_class_name: str | None = None
    gang: _Gang | None = None
    depends_on: list[_Dependency] = []
    placement: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    template: _Template = msgspec.field(default_factory=_Template)


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Refusal(msgspec.Struct):
    reason: str = ""
    message: str = ""
    times: int = 1
    until: str | None = None
    probe: int | None = None


class _Cluster(msgspec.Struct):
    name: str
    assigned: str = ""
    active: int = 0
    reachable: bool = True
    replaced: str = ""
    refusal: _Refusal | None = None


class _Status(_Struct):
    active: int = 0
    ready: int = 0
    terminating: int = 0
    succeeded: int = 0
    failed: int = 0
    start_time: str | None = None
    conditions: list[_Condition] = []
    clusters: list[_Cluster] = []
    admission: dict[str, Any] | None = None
    limits: dict[str, int] = {}
    unschedulable: int = 0


class _Job(msgspec.Struct):
    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)


_decoder = msgspec.json.Decoder(_Job)


@cached_by_text(4096, 8 << 10)
def _placement(text: bytes, topology: Topology) -> tuple[Placement, Rules]:
    """Many jobs have the same one, and what is known of equal ``Rules`` is known by their identity."""
    found = Placement.model_validate_json(text)
    return found, rules_of(found, topology)


class JobNotReadable(ValueError):
    """A job that the API server should have refused; its reconcile says so to the user."""


class ScheduledJob:
    """One state of a job. Raises ``JobNotReadable``."""

    def __init__(self, obj: Obj) -> None:
        self.obj = obj
        try:
            found = _decoder.decode(obj.raw)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise JobNotReadable(str(error)) from None
        self.spec, self.status = found.spec, found.status
        try:
            gang = self.spec.gang
            self.placement, self._rules = _placement(bytes(self.spec.placement), gang.topology if gang is not None else "Any")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            path = ".".join(map(str, ("spec", "placement", *first["loc"])))
            raise JobNotReadable(f"{path}: {first['msg']}") from None

    @property
    def uid(self) -> str:
        return self.obj.meta.uid

    @property
    def outcome(self) -> JobOutcome | None:
        """How it has ended; None for one that has not."""
        return "Complete" if self._true("Complete") else "Failed" if self._true("Failed") else None

    @property
    def ours(self) -> bool:
        """Whether the fleet runs it at all."""
        return self.spec.managed_by in _OWN

    @property
    def wants(self) -> bool:
        """Whether it asks for the scheduler itself, whatever the queue of its namespace."""
        return self.spec.queue is not None or self.spec.gang is not None or bool(self.spec.depends_on)

    @property
    def runs(self) -> bool:
        """Whether it has Pods, or may have: some are assigned to a cluster. A suspended job makes none, and
        gives up what is assigned where it sees that no Pod is left."""
        status = self.status
        if status.active or status.terminating:
            return True
        if self.spec.suspend and self._true("Suspended"):
            return False
        return any(each.assigned for each in status.clusters)

    def _true(self, condition: str) -> bool:
        return any(each.type == condition and each.status == "True" for each in self.status.conditions)

    @property
    def given_up(self) -> set[str]:
        """Unreachable clusters whose Pods the job has given up (``placement.onUnreachable: Replace``)."""
        return {each.name for each in self.status.clusters if each.replaced and not each.reachable}

    def gives_up(self, patience: int) -> bool:
        """Whether it gives up a cluster that is unreachable for ``patience`` seconds."""
        placement = self.placement
        return placement.on_unreachable == "Replace" and placement.unreachable_toleration_seconds <= patience

    def refused(self, now: float) -> dict[str, str]:
        """Clusters that take none of its Pods at ``now``, Unix seconds, and why (``refusals`` of the controller)."""
        found = {}
        for each in self.status.clusters:
            if (refusal := each.refusal) is not None:
                until = conditions.parse_time(refusal.until) or 0.0
                if until > now or refusal.probe is not None:
                    again = f"until {refusal.until}" if until > now else "a Pod is tried there"
                    times = f"refused {refusal.times} times, {again}" if refusal.times > 1 else again
                    found[each.name] = f"{refusal.message or refusal.reason} ({times})"
        return found

    def retry_at(self, now: float) -> float:
        """When the first of these may be tried again; 0 where none is waited for."""
        untils = [conditions.parse_time(each.refusal.until) or 0.0 for each in self.status.clusters if each.refusal is not None]
        return min((until for until in untils if until > now), default=0.0)

    def displacement(self, now: float) -> Displacement:
        """What it says of the clusters to which it is admitted."""
        status = self.status
        if not status.limits:
            return _IN_PLACE
        assigned = sum(len(IndexSet.read(each.assigned, _HIGHEST)) for each in status.clusters)
        return Displacement(status.limits, assigned <= status.unschedulable, self.retry_at(now))

    @property
    def ran(self) -> bool:
        """Whether a Pod of it runs or has run."""
        return bool(self.status.ready or self.status.succeeded or self.status.failed)

    @property
    def running(self) -> int:
        """Pods that run; of a gang that is about to be complete, at least as many as it needs: none is missed that succeeds."""
        spec, status = self.spec, self.status
        least = spec.gang.min_available if spec.gang is not None else None
        if least is None:
            least = 1 if spec.parallelism is None else spec.parallelism
        left = None if spec.completions is None else spec.completions - status.succeeded
        return status.ready if left is None or left >= least else max(status.ready, least)

    @property
    def record(self) -> AdmissionRecord | None:
        """``status.admission``; None where there is none, or none that can be read."""
        return read_record(self.status.admission)

    def demand(self, queue: str, priority: int, now: float) -> JobDemand:
        """What it asks for at ``now``. Raises ``JobNotReadable`` for resources that are no quantities."""
        spec, meta = self.spec, self.obj.meta
        gang, pod = spec.gang, spec.template.spec
        at_once = 1 if spec.parallelism is None else spec.parallelism
        pods = at_once if spec.completions is None else min(at_once, max(0, spec.completions - self.status.succeeded))
        try:
            requests = pod_requests(pod)
            tolerations = msgspec.convert(pod.get("tolerations") or [], list[_PodToleration])
        except Exception as error:  # law 12: the hub's server checks types of the template only
            raise JobNotReadable(f"spec.template.spec: {message_of(error)}") from None
        return JobDemand(
            meta.uid,
            meta.namespace,
            meta.name,
            conditions.parse_time(meta.creation_timestamp) or 0.0,
            pods,
            requests,
            queue,
            priority,
            pod.get("nodeSelector") or {},
            tuple(TolerationSpec(each.key, each.operator, each.value, each.effect) for each in tolerations),
            self._rules,
            min(pods, gang.min_available or pods) if gang is not None else 0,
            float(gang.timeout_seconds) if gang is not None else None,
            spec.active_deadline_seconds,
            tuple(Dependency(each.job, each.condition) for each in spec.depends_on),
            self.refused(now),
        )


def concerns(raw: bytes) -> bool:
    """Whether a job may ask for the scheduler itself: cheap, and never wrong where it says no."""
    return any(marker in raw for marker in _MARKERS)


_TIMES = ("admittedAt", "notBefore")


def read_record(status: Mapping[str, Any] | None) -> AdmissionRecord | None:
    """``status.admission`` as a record. Never raises: what can't be read is none."""
    if not status:
        return None
    plain = dict(status)
    for name in _TIMES:
        plain[name] = conditions.parse_time(plain.get(name)) or 0.0
    try:
        return msgspec.convert(plain, AdmissionRecord)
    except msgspec.ValidationError:
        return None


def written_record(record: AdmissionRecord) -> dict[str, Any]:
    """A record as ``status.admission``. Times are whole seconds, as in ``metav1.Time``; a wait is rounded up."""
    plain: dict[str, Any] = msgspec.to_builtins(record)
    for name in _TIMES:
        if plain.get(name):
            plain[name] = conditions.time_text(plain[name] + (0.999 if name == "notBefore" else 0.0))
        else:
            plain.pop(name, None)
    return plain
