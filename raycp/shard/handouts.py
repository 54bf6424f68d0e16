"""An open hand-out, as the ledger keeps it until it ends: what was handed out, and what is to be done then."""

from typing import Any, NamedTuple, Protocol

from raycp.base.events import Event
from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Task
from raycp.queueing import Item
from raycp.shard.routes import Owned, Route, WatchRoute


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
