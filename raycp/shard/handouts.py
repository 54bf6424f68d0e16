"""What is handed out, and to whom: a ``Handout``, as the ledger keeps it until it ends, and a ``WorkerSeat``, which is what a shard
knows of one worker: its connection, its credit, and the hand-outs that it has."""

from typing import Any, NamedTuple, Protocol

from raycp.base.events import Event
from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Task
from raycp.protocol.frames import Culprit, Message
from raycp.protocol.transport import Connection
from raycp.queueing import Item
from raycp.shard.routes import Owned, Route, WatchRoute
from raycp.shard.silence import Silence

CONGESTED = 16 * 1024 * 1024
"""Bytes on their way to a worker beyond which nothing more is handed to it."""


class WatchedKey(NamedTuple):
    """One of the keys that read an object of a watched kind."""

    key: RequestKey
    watching: WatchRoute


class Deferred(NamedTuple):
    """An event about a key in work. Only when the work has ended it is known which events are echoes of its own writes."""

    cluster: str
    kind: GVK
    route: Route | Owned | WatchedKey
    event: Event


class Handout:
    """An open hand-out. ``rv``: of the object then. ``wakes``: the wakes that the reconcile will have seen (law 10). ``moves``:
    ``KeyNotes.moves`` when it began."""

    __slots__ = ("deferred", "due_again", "item", "moves", "rv", "task", "wakes", "worker")

    def __init__(self, worker: str, item: Item, task: Task, rv: int, moves: int) -> None:
        self.worker = worker
        self.item = item
        self.task = task
        self.rv = rv
        self.moves = moves
        self.deferred: list[Deferred] = []
        self.due_again = False
        self.wakes: Any = None


class WakeBook(Protocol):
    """Wakes of other shards, as the ledger needs them."""

    @property
    def incoming(self) -> object:
        """False where no other shard is connected."""
        ...

    def seen(self, key: RequestKey) -> Any:
        """A reconcile of ``key`` starts: the wakes that it will have seen, None without any."""
        ...

    def done(self, key: RequestKey, seen: Any) -> None:
        """It has ended: acknowledge them."""
        ...


class Seated(Protocol):
    """The dispatcher, as a seat needs it."""

    def received(self, seat: "WorkerSeat", message: Message) -> None: ...

    def lost(self, seat: "WorkerSeat") -> None: ...


class WorkerSeat:
    """One worker, over reconnections. ``credit``: hand-outs that it takes now; ``in_flight``: those that it has, with the number
    of the frame that brought it (0: an earlier connection's); ``foreign``: those of earlier primaries; ``alone``: whether it is
    this shard's quarantine worker; ``blocked``: whether it had not answered when its connection broke."""

    def __init__(self, name: str, dispatcher: Seated) -> None:
        self.name = name
        self.credit = 0
        self.slots = 0
        self.prefer: str | None = None
        self.address = ("", 0)
        self.in_flight: dict[int, int] = {}
        self.foreign: dict[int, RequestKey] = {}
        self.culprits: list[Culprit] = []
        self.silence = Silence()
        self.alone = False
        self.blocked = False
        self.reported: set[int] = set()
        """What the worker says that it has, while its report arrives."""
        self.revoked: dict[int, int] = {}
        """Hand-outs that were missing from its last report, with the number of the frame that revoked them."""
        self.connection: Connection | None = None
        self.dead = False
        self._dispatcher = dispatcher

    def received(self, message: Message) -> None:
        """A frame of this worker."""
        self._dispatcher.received(self, message)

    def send(self, message: Message) -> None:
        """Queue a frame; dropped where the worker is not connected. Raises ``Unsendable``."""
        if self.connection is not None:
            self.connection.send(message)

    def write(self, body: bytes) -> None:
        """As ``send``, for an encoded message."""
        if self.connection is not None:
            self.connection.write(body)

    @property
    def congested(self) -> bool:
        """Whether it has not read yet what was sent. Its acknowledgements will say when it has."""
        return self.connection is not None and self.connection.backlog > CONGESTED

    def lost(self) -> None:
        """The connection ended; ``on_lost`` finds out why."""
        self.connection = None
        self.credit = 0
        self._dispatcher.lost(self)
