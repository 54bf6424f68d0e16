"""``Backend``: what the SDK needs from the worker that runs it, or from a test. Bytes in, bytes out.

Five members at the seam: ``clusters`` (what is in the fleet), ``marks`` (the keys that prove ownership), ``read`` (a shard's
cache), ``request`` (the API server), ``event`` (fire and forget).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from raycp.base.keys import GVK
from raycp.base.owner_marks import MarkKeys
from raycp.base.tasks import Child, Task
from raycp.config.declared import ClusterTaint

Verb = Literal["get", "list", "create", "update", "patch", "delete"]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """A cluster of the fleet as the running worker knows it.

    ``reachable``: its API server answered lately. ``synced``: its caches are filled. ``reason`` says why not.
    ``free_pods`` is how many more Pods it has room for, None where that is unknown. ``clock_ahead`` is by how many seconds its
    server's clock is ahead of ours, negative if behind: times that it has stamped are that much later than ours.
    ``draining``: what runs there for the fleet is to go elsewhere. ``permit``: for how many seconds after it was lost a write of
    ours that is under way may still take effect there (law 6c). ``voided``: when its cache became void for the last time (law 7),
    Unix time by our clock; 0 where no running shard has seen that. ``taints``: as the fleet file has them.
    """

    name: str
    role: str = "member"
    labels: dict[str, str] = field(default_factory=dict)
    reachable: bool = True
    synced: bool = True
    reason: str = ""
    free_pods: int | None = None
    clock_ahead: float = 0.0
    draining: bool = False
    permit: float = 0.0
    voided: float = 0.0
    taints: tuple[ClusterTaint, ...] = ()


class CacheRead(msgspec.Struct, frozen=True):
    """A read from a shard's cache.

    ``op``: ``get`` one object by ``name``; ``list`` a ``namespace`` (empty: all) narrowed by ``selector``; ``owned`` lists the
    objects that belong to the owner whose uid is in ``name``: by label ``raycp.io/owner-uid`` with our mark; and, with
    ``references``, by owner reference in ``namespace`` (empty: any).

    Two answer for thousands of objects with rows, in the ``raw`` of few children: ``owners`` with a JSON list of ``ChildOwner``,
    ``uids`` with one of uids.
    """

    op: Literal["get", "list", "owned", "owners", "uids"]
    cluster: str
    kind: GVK
    namespace: str = ""
    name: str = ""
    selector: str = ""
    references: bool = False


class ChildOwner(msgspec.Struct, array_like=True, frozen=True):
    """An owner to which ``count`` objects of a kind are proven to belong, as these name it (``raycp.sdk.owner``): ``owner`` is
    ``cluster/namespace/name``, ``kind`` ``GROUP/VERSION/Kind``."""

    uid: str
    owner: str
    kind: str
    count: int


class ApiRequest(msgspec.Struct, frozen=True):
    """One API request. ``query`` and ``content_type`` are sent as they are; ``namespace`` is empty for cluster scope."""

    verb: Verb
    cluster: str
    kind: GVK
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    body: bytes | None = None
    content_type: str = "application/json"
    query: dict[str, str] = {}

    @property
    def writes(self) -> bool:
        """Whether this is a write, which needs a permit and is fenced (law 6)."""
        return self.verb not in ("get", "list")


class Answer(msgspec.Struct, frozen=True):
    """The API server's answer to an ``ApiRequest`` that succeeded. ``path`` is the request's, for the timeline."""

    status: int
    body: bytes
    path: str = ""


class Backend(Protocol):
    """What runs below a ``Context``.

    Guarantees that an implementation gives:

    1. ``read`` answers from the cache of the cluster's shard, own writes of this reconcile's key included (law 8); a kind that no
       shard watches is read from the API server instead.
    2. ``request`` with ``call.writes`` checks the task's permit right before sending, sends epoch, shard and term along, and
       hands the answer to the shard of the object written.
    3. ``event`` never blocks and never raises.
    4. All may be called from the loop that ``run_reconcile`` runs on; ``clusters`` and ``marks`` from any thread.
    """

    @property
    def clusters(self) -> Mapping[str, ClusterInfo]:
        """Every cluster of the fleet by name, hub included, as known at this moment."""
        ...

    @property
    def marks(self) -> MarkKeys | None:
        """The fleet's keys for owner marks, as known at this moment; None until they are."""
        ...

    async def namespaced(self, cluster: str, kind: GVK) -> bool:
        """Whether the kind has namespaces there. Raises ``NoSuchKind``, ``Unreachable``."""
        ...

    async def read(self, task: Task, query: CacheRead) -> list[Child]:
        """Objects from the cache. Raises ``Unreachable`` where it is not filled: an empty answer means that there are none."""
        ...

    async def request(self, task: Task, call: ApiRequest) -> Answer:
        """Send an API request. Raises ``ApiError`` (status 400 and above), ``Unreachable``, ``NoSuchKind``, ``Fenced``."""
        ...

    def event(self, task: Task, cluster: str, event: bytes) -> None:
        """Queue an ``events.k8s.io/v1`` Event (JSON, complete but for its name); it is aggregated and sent later."""
        ...
