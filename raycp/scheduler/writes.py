"""``AdmissionWriter``: writes decisions to the jobs' ``status.admission``, bound to the resourceVersion, until it is certain what
became of them.

A write whose answer is lost may have taken effect. It is repeated until the object says so, or says that it can't any more: its
resourceVersion is another one, over which the lost write can't be applied (law 6e).
"""

import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import msgspec

from raycp.base.clock import Clock
from raycp.base.objects import Obj
from raycp.kube.errors import ApiError, Fenced, KubeError
from raycp.scheduler.jobs import JobNotReadable, ScheduledJob, written_record
from raycp.scheduling.admissions import AdmissionRecord
from raycp.sdk.patches import merge_diff

log = logging.getLogger(__name__)

AGAIN_FIRST, AGAIN_MOST = 0.1, 2.0
"""Seconds between two tries of a write whose outcome is not known."""


class WriteResult(Enum):
    """What became of a write."""

    YES = "yes"
    CHANGED = "changed"
    """The job has changed so that the decision no longer applies; it was not written."""
    FAILED = "failed"
    """It was not insisted on, and is not known to be written."""
    REFUSED = "refused"
    """The API server takes it for wrong: nothing was written, and nothing would be."""
    GONE = "gone"


class JobStore(Protocol):
    """The jobs on the hub, as the scheduler reads and writes them."""

    def cached(self, namespace: str, name: str) -> Obj | None:
        """As the shard's cache has it."""
        ...

    async def read(self, namespace: str, name: str) -> Obj | None:
        """As the API server has it; None where it is gone. Raises ``KubeError``."""
        ...

    async def patch_status(self, namespace: str, name: str, body: bytes) -> Obj:
        """One fenced merge patch of the status, folded into the cache, with the job's key due. Raises ``KubeError``."""
        ...


class AdmissionWriter:
    """One scheduler's."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def write(self, obj: Obj, record: AdmissionRecord, *, insist: bool = True) -> tuple[WriteResult, Obj | None]:
        """Write ``record`` into the job ``obj``, which is any known state of it; the outcome, and the newest state. Without
        ``insist``, whatever hinders the first try ends it. Raises ``Fenced`` where this process may write no longer: what became
        of the last try is unknown then, and the successor will find out."""
        meta, wait = obj.meta, AGAIN_FIRST
        new = written_record(record)
        found: Obj | None = self._store.cached(meta.namespace, meta.name) or obj
        while True:
            if found is None or found.meta.uid != meta.uid:
                return WriteResult.GONE, None
            try:
                job = ScheduledJob(found)
            except JobNotReadable:
                return WriteResult.CHANGED, found
            if _same(job.status.admission, new):
                return WriteResult.YES, found
            if job.outcome is not None or (record.state == "Admitted" and (job.spec.suspend or meta_deleted(found))):
                return WriteResult.CHANGED, found
            try:
                return WriteResult.YES, await self._store.patch_status(meta.namespace, meta.name, _body(found, job, new))
            except ApiError as error:
                if error.not_found:
                    return WriteResult.GONE, None
                if not error.conflict:
                    log.warning("the admission of job %s/%s can't be written: %s", meta.namespace, meta.name, error)
                    if 400 <= error.status < 500 and error.status not in (401, 408, 429):
                        return WriteResult.REFUSED, found
                if not insist:
                    return WriteResult.CHANGED if error.conflict else WriteResult.FAILED, found
                if not error.conflict:
                    await self._pause(wait)
                    wait = min(AGAIN_MOST, wait * 2)
            except Fenced:
                raise
            except KubeError as error:
                if not insist:
                    return WriteResult.FAILED, found
                log.warning("the admission of job %s/%s is not known to be written: %s", meta.namespace, meta.name, error)
                await self._pause(wait)
                wait = min(AGAIN_MOST, wait * 2)
            found = await self._read(meta.namespace, meta.name)

    async def _read(self, namespace: str, name: str) -> Obj | None:
        wait = AGAIN_FIRST
        while True:
            try:
                return await self._store.read(namespace, name)
            except KubeError:
                await self._pause(wait)
                wait = min(AGAIN_MOST, wait * 2)

    async def _pause(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


def meta_deleted(obj: Obj) -> bool:
    """Whether the object is being deleted."""
    return obj.meta.deletion_timestamp is not None


def _same(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    return old is not None and dict(old) == dict(new)


def _body(obj: Obj, job: ScheduledJob, new: Mapping[str, Any]) -> bytes:
    old = job.status.admission or {}
    diff = merge_diff(old, new, replace=True)
    return msgspec.json.encode({"metadata": {"resourceVersion": obj.meta.resource_version}, "status": {"admission": diff}})
