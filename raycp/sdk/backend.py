"""``Backend``: what the SDK needs from whoever runs it. Bytes in, bytes out; the fleet's worker implements it, tests
too.

Four verbs at the seam: ``clusters`` (what is in the fleet), ``read`` (a shard's cache), ``request`` (the API server),
``event`` (fire and forget).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from raycp.base.keys import GVK
from raycp.base.tasks import Child, Task

Verb = Literal["get", "list", "create", "update", "patch", "delete"]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """A cluster of the fleet as the running worker knows it.

    ``reachable``: its API server answered lately. ``synced``: its caches are filled. ``reason`` says why not.
    ``free_pods`` is how many more Pods it is known to hold, None where nobody knows.
    """

    name: str
    role: str = "member"
    labels: dict[str, str] = field(default_factory=dict)
    reachable: bool = True
    synced: bool = True
    reason: str = ""
    free_pods: int | None = None


class CacheRead(msgspec.Struct, frozen=True):
    """A read from a shard's cache.

    ``op``: ``get`` one object by ``name``; ``list`` a ``namespace`` (empty: all) narrowed by ``selector``; ``owned``
    what carries the owner uid in ``name`` (owner reference or label ``raycp.io/owner-uid``).
    """

    op: Literal["get", "list", "owned"]
    cluster: str
    kind: GVK
    namespace: str = ""
    name: str = ""
    selector: str = ""


class Call(msgspec.Struct, frozen=True):
    """One API request. ``query`` and ``content_type`` go on the wire as they are; ``namespace`` is empty for cluster
    scope."""

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
        """Whether this changes something, and so needs a permit and is fenced (law 6)."""
        return self.verb not in ("get", "list")


class Answer(msgspec.Struct, frozen=True):
    """The API server's answer to a ``Call`` that succeeded. ``path`` is the request's, for the timeline."""

    status: int
    body: bytes
    path: str = ""


class Backend(Protocol):
    """What runs below a ``Context``.

    Guarantees asked of it:

    1. ``read`` answers from the cache of the cluster's shard, own writes of this reconcile's key included (law 8); a
       kind that nobody watches is read live instead.
    2. ``request`` with ``call.writes`` checks the task's permit right before sending, sends epoch, shard and term
       along, and hands the answer to the shard of the object written.
    3. ``event`` never blocks and never raises.
    4. All may be called from the loop that ``run_reconcile`` runs on.
    """

    def clusters(self) -> Sequence[ClusterInfo]:
        """Every cluster of the fleet, hub included."""
        ...

    async def namespaced(self, cluster: str, kind: GVK) -> bool:
        """Whether the kind has namespaces there. Raises ``NoSuchKind``, ``Unreachable``."""
        ...

    async def read(self, task: Task, query: CacheRead) -> list[Child]:
        """Raises ``Unreachable`` where the cache is not filled: an empty answer means that there is nothing."""
        ...

    async def request(self, task: Task, call: Call) -> Answer:
        """Raises ``ApiError`` (status 400 and above), ``Unreachable``, ``NoSuchKind``, ``Fenced``."""
        ...

    def event(self, task: Task, cluster: str, event: bytes) -> None:
        """Take an ``events.k8s.io/v1`` Event (JSON, complete but for its name) to be aggregated and sent some time."""
        ...
