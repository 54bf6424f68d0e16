"""One reconcile's traffic: every read and write of a ``Context`` goes through its ``Session``.

The session

1. refuses traffic once the reconcile is revoked, timed out or has ended;
2. records writes (``Written``) and requests (``ApiCall``) for the acknowledgement;
3. tracks the newest resourceVersion of each object that this reconcile has read or written, so that consecutive writes of one
   reconcile do not conflict with each other;
4. knows the reconciled object, and fills in its cluster and namespace where the author names none;
5. records the clusters that the reconcile found unusable: it is run again when they are usable (law 13).
"""

import asyncio
from functools import cached_property
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.base.objects import version_number
from raycp.base.selections import ALL
from raycp.base.tasks import ApiCall, Child, Task, Written
from raycp.base.text import clean
from raycp.kube import decode_answer
from raycp.kube.errors import UNABLE, ApiError, BadAnswer, CircuitOpen, Fenced, Throttled, Unreachable
from raycp.sdk.backend import Answer, ApiRequest, Backend, CacheRead, ClusterInfo
from raycp.sdk.controller import Controller
from raycp.sdk.reconcile_log import ReconcileLog, reconcile_log
from raycp.sdk.written import written_by

_PATH_LENGTH = 1000
"""Characters of a request's path that are kept; names are at most 253."""

ObjectId = tuple[str, GVK, str, str]
"""cluster, kind, namespace, name"""


class Revoked(Exception):
    """The reconcile may not go on: its hand-out was revoked, it ran out of time, or it has already ended."""


class Session:
    """See the module. Made for one run of ``controller`` on ``task``, and revoked by its maker. Lives on the user loop."""

    def __init__(self, controller: Controller, task: Task, backend: Backend, clock: Clock) -> None:
        self.controller = controller
        self.task = task
        self.backend = backend
        self.clock = clock
        self.revoked = ""
        """Why the reconcile was revoked; empty while it may go on."""
        self.ended = False
        """Set by ``run_reconcile`` when the function has returned."""
        self.refused = False
        """Whether a write was refused because the reconcile was revoked or fenced."""
        self.work: asyncio.Future[Any] | None = None
        """The author's function, where it is async: ``revoke`` cancels it."""
        self.open: set[asyncio.Task[Answer]] = set()
        """Writes whose answers are outstanding."""
        self.writes: list[Written] = []
        self.calls: list[ApiCall] = []
        self.unusable: set[str] = set(task.unknown_clusters)
        self._own_raw = task.raw
        self._versions: dict[ObjectId, str] = {}

    @cached_property
    def log(self) -> ReconcileLog:
        """The reconcile's logger; made at its first use, most reconciles log nothing."""
        return reconcile_log(self.controller.name, self.task)

    # -- the end

    def revoke(self, reason: str = "revoked") -> None:
        """Refuse all further traffic and cancel the function if it is async. Call on the reconcile's loop; idempotent."""
        if not self.revoked:
            self.revoked = reason
            if self.work is not None:
                self.work.cancel()

    async def settle(self) -> None:
        """Wait for the answers of writes that are no longer awaited. Bounded by the backend's own deadline."""
        while self.open:
            await asyncio.wait(self.open)

    # -- traffic

    def clusters(self) -> list[ClusterInfo]:
        """The fleet's clusters, as they are known at this moment."""
        found = list(self.backend.clusters.values())
        self.unusable.update([info.name for info in found if not (info.reachable and info.synced)])
        return found

    def cluster(self, name: str) -> ClusterInfo:
        """One of them; an empty row for a cluster that is not of the fleet."""
        info = self.backend.clusters.get(name) or ClusterInfo(name)
        if not (info.reachable and info.synced):
            self.unusable.add(name)
        return info

    def clock_ahead(self, cluster: str) -> float:
        """Seconds that the cluster's clock is ahead of ours; 0 where that is not known."""
        info = self.backend.clusters.get(cluster)
        return info.clock_ahead if info is not None else 0.0

    async def read(self, query: CacheRead) -> list[Child]:
        """A cache read, see ``Backend.read``. Raises ``Revoked``."""
        self._check()
        try:
            return await self.backend.read(self.task, query)
        except Unreachable:
            self.unusable.add(query.cluster)
            raise

    async def request(self, call: ApiRequest) -> Answer:
        """An API request, see ``Backend.request``. Raises ``Revoked``.

        A write that was sent is followed to its end even if the reconcile is cancelled meanwhile.
        """
        self._check(write=call.writes)
        if not call.writes:
            return await self._timed(call)
        sent = asyncio.get_running_loop().create_task(self._timed(call))
        self.open.add(sent)
        sent.add_done_callback(self.open.discard)
        return await asyncio.shield(sent)

    async def live_get(self, cluster: str, kind: GVK, namespace: str, name: str) -> Answer | None:
        """The object as the API server has it, None if there is none."""
        try:
            answer = await self.request(ApiRequest("get", cluster, kind, namespace, name))
        except ApiError as error:
            if error.not_found:
                return None
            raise
        self._know((cluster, kind, namespace, name), decode(answer.body)["metadata"].get("resourceVersion", ""))
        return answer

    def wrote(self, call: ApiRequest, body: bytes, *, read: bool = False) -> None:
        """Record the answer of a write; ``read``: see ``written_by``."""
        written, version = written_by(call, body, read=read)
        self.writes.append(written)
        of = (call.cluster, call.kind, call.namespace, written.name)
        if written.deleted:
            self._versions.pop(of, None)
        else:
            self._know(of, version)

    # -- objects

    def version(self, of: ObjectId, given: str = "") -> str:
        """The newest resourceVersion known of an object: the one written or read here, else ``given``."""
        return self._versions.get(of, given)

    def seen(self, cluster: str, kind: GVK, raw: bytes) -> dict[str, Any]:
        """Decode an object that came from a cache. It does not replace a version that this reconcile wrote later."""
        obj = decode(raw)
        obj.setdefault("apiVersion", kind.api_version)
        obj.setdefault("kind", kind.kind)
        metadata = obj["metadata"]
        of = (cluster, kind, metadata.get("namespace", ""), metadata["name"])
        if of not in self._versions:
            self._know(of, metadata.get("resourceVersion", ""))
        return obj

    def own(self) -> dict[str, Any]:
        """The reconciled object, freshly decoded: changes that the author made to their copy do not show here.

        Raises ``ValueError`` where it is deleted.
        """
        if self._own_raw is None:
            raise ValueError(f"{self.task.key} is deleted: it has no status, can own nothing and takes no events")
        return self.seen(self.task.key.cluster, self.controller.kind, self._own_raw)

    @cached_property
    def own_identity(self) -> dict[str, Any]:
        """The reconciled object with uid and namespace only, which never change: for thousands of children. Raises as ``own``."""
        metadata = self.own()["metadata"]
        return {"metadata": {"uid": metadata["uid"], "namespace": metadata.get("namespace", "")}}

    def replace_own(self, obj: dict[str, Any]) -> None:
        """The reconciled object as a write of this reconcile has left it."""
        self._own_raw = msgspec.json.encode(obj)

    def cluster_or_own(self, cluster: str | None) -> str:
        """The named cluster, by default that of the reconciled object."""
        return self.task.key.cluster if cluster is None else cluster

    def namespace_or_own(self, namespace: str | None) -> str:
        """The named namespace, by default that of the reconciled object; empty for ``ALL``."""
        if namespace is None:
            return self.task.key.namespace
        return "" if namespace == ALL else namespace

    # -- inside

    def _check(self, *, write: bool = False) -> None:
        if self.revoked:
            self.refused = self.refused or write
            raise Revoked(f"this reconcile was stopped: {self.revoked}")
        if self.ended:
            raise Revoked("this reconcile has ended; a task that it left behind can't use its context")

    def _know(self, of: ObjectId, version: str) -> None:
        known = self._versions.get(of)
        if version and (known is None or version_number(version) >= version_number(known)):  # of two writes at once, the later
            self._versions[of] = version

    async def _timed(self, call: ApiRequest) -> Answer:
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
            if status in UNABLE:
                self.unusable.add(call.cluster)
            raise
        except Fenced:
            self.refused, status = True, -1
            raise
        except Unreachable as error:
            if isinstance(error, CircuitOpen | Throttled):
                status = -1
            if not isinstance(error, Throttled):
                self.unusable.add(call.cluster)
            raise
        except BaseException:  # no such kind, no connection as configured, cancelled: no evidence about the server
            status = -1
            raise
        finally:
            cluster, path = clean(call.cluster, _PATH_LENGTH), clean(path, _PATH_LENGTH)
            self.calls.append(ApiCall(call.verb, cluster, path, status, self.clock.now() - started, retry_after))


def decode(raw: bytes) -> dict[str, Any]:
    """An object's or a list's JSON. Raises ``BadAnswer`` for anything else."""
    value = decode_answer(raw, dict[str, Any], "object")
    if not isinstance(value.get("metadata"), dict):
        raise BadAnswer("the API server answered JSON without metadata where an object was expected")
    return value


def _path(call: ApiRequest) -> str:
    """A readable stand-in where the backend gives no path: in the right group, with the kind instead of its plural."""
    prefix = "/apis" if call.kind.group else "/api"
    return "/".join(part for part in (prefix, str(call.kind), call.namespace, call.name, call.subresource) if part)
