"""One reconcile's traffic: every read and write of a ``Context`` goes through its ``Session``.

The session refuses traffic once the reconcile was revoked, timed out or has ended; keeps what was written
(``Written``) and called (``ApiCall``) for the acknowledgement; and knows the newest resourceVersion of each object
that this reconcile has seen or written, so that consecutive writes of one reconcile don't conflict with each other.
"""

import asyncio
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.base.tasks import ApiCall, Child, Task, Written
from raycp.kube.errors import ApiError, CircuitOpen, Fenced, Throttled, Unreachable
from raycp.sdk.backend import Answer, Backend, CacheRead, Call


class Revoked(Exception):
    """The reconcile may not go on: its hand-out was revoked, it ran out of time, or it has already ended."""


class Running:
    """The handle by which a worker stops a reconcile. Thread-safe in the way of a flag."""

    def __init__(self) -> None:
        self.reason = ""
        """Why it was revoked; empty while it may go on."""
        self._task: asyncio.Future[Any] | None = None

    def attach(self, task: "asyncio.Future[Any]") -> None:
        """The task to cancel on ``revoke`` (async reconcilers)."""
        self._task = task
        if self.reason:
            task.cancel()

    def runs_as(self, task: "asyncio.Future[Any] | None") -> bool:
        """Whether ``task`` is the author's function."""
        return task is not None and self._task is task

    def revoke(self, reason: str = "revoked") -> None:
        """Refuse all further traffic and cancel the function if it is async. Call on the reconcile's loop;
        idempotent."""
        if not self.reason:
            self.reason = reason
            if self._task is not None:
                self._task.cancel()


ObjectId = tuple[str, GVK, str, str]
"""cluster, kind, namespace, name"""


class _Head(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] | None = None


class _Envelope(msgspec.Struct):
    kind: str = ""
    metadata: _Head = msgspec.field(default_factory=_Head)


_envelope = msgspec.json.Decoder(_Envelope)


class Session:
    """See the module. ``ended`` is set by ``run_reconcile`` when the function has returned."""

    def __init__(self, task: Task, backend: Backend, clock: Clock, running: Running) -> None:
        self.task = task
        self.backend = backend
        self.clock = clock
        self.running = running
        self.ended = False
        self.refused = False
        """Whether a write was refused because the reconcile was revoked or fenced."""
        self.writes: list[Written] = []
        self.calls: list[ApiCall] = []
        self._versions: dict[ObjectId, str] = {}
        self._open: set[asyncio.Task[Answer]] = set()

    def check(self, *, write: bool = False) -> None:
        """Raises ``Revoked`` when nothing more may happen."""
        if self.running.reason:
            self.refused = self.refused or write
            raise Revoked(f"this reconcile was stopped: {self.running.reason}")
        if self.ended:
            raise Revoked("this reconcile has ended; a task that it left behind can't use its context")

    async def read(self, query: CacheRead) -> list[Child]:
        """A cache read, see ``Backend.read``."""
        self.check()
        return await self.backend.read(self.task, query)

    async def request(self, call: Call) -> Answer:
        """An API request. A write that has been sent is followed to its end even if the reconcile is cancelled
        meanwhile."""
        self.check(write=call.writes)
        if not call.writes:
            return await self._timed(call)
        sent = asyncio.get_running_loop().create_task(self._timed(call))
        self._open.add(sent)
        sent.add_done_callback(self._open.discard)
        return await asyncio.shield(sent)

    async def settle(self) -> None:
        """Wait for writes whose answers nobody waits for any more. Bounded by the backend's own deadline."""
        while self._open:
            await asyncio.wait(self._open)

    def version(self, of: ObjectId, given: str = "") -> str:
        """The newest resourceVersion known of an object: ours if we wrote it, else the ``given`` one."""
        return self._versions.get(of, given)

    def know(self, of: ObjectId, version: str) -> None:
        """Remember the resourceVersion of an object that was just read."""
        if version:
            self._versions[of] = version

    def wrote(self, call: Call, body: bytes, *, read: bool = False) -> None:
        """Record a write's answer. An object that a delete leaves behind (grace period, finalizers) counts as
        changed. ``read``: it is not the answer but what was found in its place; others may have changed it since, so the cache
        takes it from its own watch, which tells of it, and the key waits until it has."""
        try:
            found = _envelope.decode(body)
        except msgspec.MsgspecError:
            found = _Envelope()
        head = found.metadata
        namespace, name = head.namespace or call.namespace, head.name or call.name
        of = (call.cluster, call.kind, call.namespace, name)
        gone = call.verb == "delete" and (
            found.kind == "Status" or not (head.finalizers or (head.deletion_timestamp and head.deletion_grace_period_seconds))
        )
        rv = int(head.resource_version) if head.resource_version.isdigit() else 0
        raw = None if gone or read or found.kind == "Status" else body
        uid = head.uid
        self.writes.append(Written(call.cluster, str(call.kind), namespace, name, uid, rv, raw, deleted=gone))
        if gone:
            self._versions.pop(of, None)
        else:
            self.know(of, head.resource_version)

    async def _timed(self, call: Call) -> Answer:
        started = self.clock.now()
        status, path, retry_after = 0, _path(call), None
        try:
            answer = await self.backend.request(self.task, call)
            status, path = answer.status, answer.path or path
            if call.writes:
                self.wrote(call, answer.body)
            return answer
        except ApiError as error:
            status, retry_after = error.status, error.retry_after
            raise
        except Fenced:
            self.refused, status = True, -1
            raise
        except Unreachable as error:
            if isinstance(error, CircuitOpen | Throttled):
                status = -1
            raise
        except BaseException:  # no such kind, no connection as configured, cancelled: says nothing of the server
            status = -1
            raise
        finally:
            self.calls.append(ApiCall(call.verb, call.cluster, path, status, self.clock.now() - started, retry_after))


def _path(call: Call) -> str:
    """A readable stand-in where the backend gives no path."""
    return "/".join(part for part in (str(call.kind), call.namespace, call.name, call.subresource) if part)
