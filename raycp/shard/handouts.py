"""``HandOuts``: pulled keys on their way to a worker. What fails on the way is an error of that key alone."""

import logging
from collections.abc import Callable, Iterable

from raycp.base.tasks import Done, Outcome, Task
from raycp.base.text import message_of
from raycp.protocol.frames import PAGE, Tasks, Unsendable, encode, pages, task_token
from raycp.queueing import Item
from raycp.shard.ledger import Ledger
from raycp.shard.read_pages import ReadPages, size_of
from raycp.shard.tasks import TaskMaker
from raycp.shard.tokens import Tokens
from raycp.shard.worker_seat import WorkerSeat

log = logging.getLogger(__name__)


class HandOuts:
    """One shard's. ``ended`` is called for a task that was made and could not be sent, with the error of its key."""

    def __init__(
        self,
        ledger: Ledger,
        tasks: TaskMaker,
        tokens: Tokens,
        rests: ReadPages,
        ended: Callable[[WorkerSeat, Done], None],
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._tokens = tokens
        self._rests = rests
        self._ended = ended

    def send(self, seat: WorkerSeat, items: Iterable[Item]) -> None:
        """Hand out ``items``, which were pulled for ``seat``."""
        tasks: list[Task] = []
        weight = 0
        for item in items:
            try:
                task = self._tasks.make(seat.name, item)
                if task is None:
                    self._ledger.dropped(seat.name, item)
                    continue
                if self._tokens.active:
                    self._tokens.lend(seat.name, task)
            except Exception as error:
                self._not_started(seat, item, error)
                continue
            tasks.append(task)
            if task.raw is not None:
                weight += len(task.raw)
            if task.children:
                weight += size_of(task.children)
        if tasks:
            self._send(seat, tasks, weight)

    def _send(self, seat: WorkerSeat, tasks: list[Task], weight: int) -> None:
        """Encode before anything is counted, and send."""
        refused: dict[int, Done] = {}

        def refuse(task: Task, why: str) -> None:
            refused[task.id] = Done(task.id, task.key, Outcome.RETRY, 0.0, error=why, unused=task.tokens)

        try:
            bodies = [encode(Tasks(tasks))] if weight <= PAGE else []
        except Unsendable:
            bodies = []
        bodies = bodies or list(pages(tasks, lambda part, last: Tasks(list(part)), _weigh, refuse))
        # Counted before it is written: what may have reached a worker is never handed out again.
        number = seat.connection.sent + len(bodies) if seat.connection is not None else 0
        for task in tasks:
            if task.id not in refused:
                seat.in_flight[task.id] = number
                seat.credit -= 1
        try:
            for body in bodies:
                seat.write(body)
        finally:
            if seat.connection is not None and seat.connection.sent < number:
                seat.in_flight.update((task.id, seat.connection.sent) for task in tasks if task.id not in refused)
        for done in refused.values():
            log.error("%s could not be handed out: %s", done.key, done.error)
            self._ended(seat, done)

    def _not_started(self, seat: WorkerSeat, item: Item, error: Exception) -> None:
        log.exception("no task could be made of %s", item.key)
        identity = self._tasks.identity_of(item)
        self._rests.drop(seat.name, task_token(identity))
        self._ledger.not_started(seat.name, item, identity, f"internal: {message_of(error)}")


def _weigh(task: Task) -> int:
    weight = 256 if task.raw is None else 256 + len(task.raw)
    return weight + size_of(task.children) if task.children else weight
