"""What the status page's table of jobs says of one: of a ``BatchJob``, only the fields that are shown are decoded. Pure."""

from collections.abc import Callable
from typing import Any

import msgspec

from raycp.base.objects import Obj
from raycp.base.text import message_of
from raycp.controllers.batchjob.indexes import IndexSet
from raycp.protocol.job_query import PHASES
from raycp.scheduling.admissions import JobWait
from raycp.sdk import conditions

SHOWN_CLUSTERS = 6
"""Clusters of a row; the sums count all."""

_LONGEST = 400
"""Characters of a message."""

_HIGHEST = 10_000_000
"""Above all indexes that a job may have."""

_ENDED = {"Failing": "FailureTarget", "Failed": "Failed"}
_OVER = frozenset({"Complete", "Completing"})
_TROUBLES = ("QuotaReserved", "PodsAccepted", "Scheduled", "ClustersReachable", "PodsReady")
"""Conditions that say why Pods do not run, where they are False; what comes first is the cause of what follows."""

_RANKS = {phase: rank for rank, phase in enumerate(("Failing", "Pending", "New", "Queued", "Failed", "Running", "Completing"))}
"""Order of ``attention``; all others are last. One that runs and lacks Pods is as one that waits."""

_NEWEST_FIRST = frozenset({"Failed", "Complete"})


class _Struct(msgspec.Struct, rename="camel", gc=False):
    pass


class _Condition(_Struct):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class _Cluster(_Struct):
    name: str = ""
    assigned: str = ""
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    reachable: bool = True
    message: str = ""


class _Admission(_Struct):
    state: str = ""
    queue: str = ""
    clusters: dict[str, int] = {}
    reason: str = ""
    message: str = ""


class _Spec(_Struct):
    parallelism: int | None = None
    completions: int | None = None
    queue: str | None = None


class _Status(_Struct):
    phase: str = ""
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    start_time: str | None = None
    clusters: list[_Cluster] = []
    conditions: list[_Condition] = []
    admission: _Admission | None = None


class _Job(_Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


_decoder = msgspec.json.Decoder(_Job)


class JobLine(msgspec.Struct, gc=False):
    """One job, as it is filtered and sorted. ``queue`` is the one that itself or its admission names; ``text``: where words are
    looked for, in lower case; ``rank``, then ``turn``: the order of ``attention``; ``failed``: its failed Pods; ``created`` in Unix
    seconds. Of ten thousand of these, none is the garbage collector's business."""

    obj: Obj
    phase: str
    queue: str
    text: str
    rank: int
    turn: float
    failed: int
    created: float


def job_line(obj: Obj) -> JobLine:
    """Never raises: a job that can't be read is ``New``, and its row says why."""
    meta = obj.meta
    created = conditions.parse_time(meta.creation_timestamp) or 0.0
    try:
        job = _decoder.decode(obj.raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return JobLine(obj, "New", "", f"{meta.namespace}/{meta.name} new".lower(), _RANKS["New"], created, 0, created)
    status, phase = job.status, _phase(job.status)
    admission = status.admission
    queue = (admission.queue if admission is not None else "") or job.spec.queue or ""
    reason = _trouble(status, phase)[0]
    text = " ".join((f"{meta.namespace}/{meta.name}", queue, phase, reason, *(each.name for each in status.clusters))).lower()
    turn = -created if phase in _NEWEST_FIRST else created
    rank = _RANKS.get("Pending" if phase == "Running" and reason else phase, len(_RANKS))
    return JobLine(obj, phase, queue, text, rank, turn, status.failed, created)


def job_row(line: JobLine, queue: str, wait: JobWait | None) -> dict[str, Any]:
    """What the table shows, for JSON. ``wait`` is what the scheduler says of a job that waits. Times in Unix seconds."""
    meta = line.obj.meta
    row: dict[str, Any] = {
        "namespace": meta.namespace,
        "name": meta.name,
        "queue": queue,
        "phase": line.phase,
        "created": line.created,
        "started": None,
        "deleting": meta.deletion_timestamp is not None,
    }
    try:
        job = _decoder.decode(line.obj.raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        why = {"reason": "Unreadable", "message": _cut(message_of(error)), "position": 0, "pending": 0}
        return row | {"why": why, "clusters": [], "moreClusters": 0} | dict.fromkeys(("active", "ready", "succeeded", "failed"), 0)
    status, spec = job.status, job.spec
    pods = _pods_by_cluster(status)
    return row | {
        "started": conditions.parse_time(status.start_time),
        "parallelism": 1 if spec.parallelism is None else spec.parallelism,
        "completions": spec.completions,
        "active": status.active,
        "ready": status.ready,
        "succeeded": status.succeeded,
        "failed": status.failed,
        "clusters": pods[:SHOWN_CLUSTERS],
        "moreClusters": max(0, len(pods) - SHOWN_CLUSTERS),
        "why": _why(status, line.phase, wait),
    }


def _phase(status: _Status) -> str:
    return status.phase if status.phase in PHASES else "New"


def _pods_by_cluster(status: _Status) -> list[dict[str, Any]]:
    """Most Pods first. ``wanted``: Pods that run there or shall, those that have ended apart."""
    admission = status.admission
    admitted = admission.clusters if admission is not None and admission.state == "Admitted" else {}
    rows = {each.name: each for each in status.clusters}
    for name in admitted:
        rows.setdefault(name, _Cluster(name))
    found = [
        {
            "name": each.name,
            "wanted": max(each.active, _assigned(each.assigned)),
            "admitted": admitted.get(each.name),
            "active": each.active,
            "ready": each.ready,
            "succeeded": each.succeeded,
            "failed": each.failed,
            "reachable": each.reachable,
            "message": _cut(each.message),
        }
        for each in rows.values()
    ]
    return sorted(found, key=lambda row: (-(row["wanted"] + row["succeeded"] + row["failed"]), row["name"]))


def _assigned(indexes: str) -> int:
    return len(IndexSet.read(indexes, _HIGHEST)) if indexes else 0


def _why(status: _Status, phase: str, wait: JobWait | None) -> dict[str, Any]:
    reason, message = _trouble(status, phase)
    position = pending = 0
    if wait is not None and phase not in _ENDED and phase not in _OVER:  # newer than what the job was told last
        reason, message, position, pending = wait.reason or reason, wait.message or message, wait.position, wait.pending
    return {"reason": reason, "message": _cut(message), "position": position, "pending": pending}


def _trouble(status: _Status, phase: str) -> tuple[str, str]:
    """(reason, message) of why it does not run, or has failed; empty where all is well."""
    if phase in _OVER:
        return "", ""
    named: dict[str, _Condition] = {each.type: each for each in status.conditions}
    if phase in _ENDED:
        found = named.get(_ENDED[phase])
        return (found.reason, found.message) if found is not None else ("", "")
    if phase == "Suspended":
        return "Suspended", "the job is suspended"
    admission = status.admission
    if admission is not None and admission.state in ("Pending", "Evicting") and admission.reason:
        return admission.reason, admission.message
    bad = [named[each] for each in _TROUBLES if each in named and named[each].status == "False"]
    found = next((each for each in bad if each.message), bad[0] if bad else None)
    if found is not None and (found.message or phase != "Running"):
        return found.reason, found.message
    return ("NotReconciled", "no reconcile has seen it yet") if phase == "New" else ("", "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


Waits = Callable[[str, str], JobWait | None]
"""(namespace, name) -> why the job waits; None for one that does not, or of which the scheduler knows nothing."""
