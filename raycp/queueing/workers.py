"""The workers of a queue: what each holds, and how many slots they have."""

from raycp.base.keys import RequestKey
from raycp.queueing.entry import Entry


class Worker:
    """What a worker holds, and the most slots that it has been seen to have."""

    __slots__ = ("running", "slots")

    def __init__(self) -> None:
        self.running: dict[RequestKey, Entry] = {}
        self.slots = 0


class Workers:
    """``slots``: of all workers; ``assumed`` as long as there is none."""

    __slots__ = ("_assumed", "by_name", "slots")

    def __init__(self, assumed: int) -> None:
        self.by_name: dict[str, Worker] = {}
        self._assumed = assumed
        self.slots = assumed

    def assume(self, slots: int) -> None:
        """Replace the number of slots that is assumed while there is no worker."""
        self._assumed = slots
        self._count()

    def seen(self, name: str, slots: int | None, asked: int) -> Worker:
        """``name`` asks for ``asked`` keys and has ``slots`` slots (None: unknown, at least what it holds and asks for)."""
        worker = self.by_name.get(name)
        if worker is None:
            worker = self.by_name[name] = Worker()
        worker.slots = slots if slots is not None else max(worker.slots, len(worker.running) + asked)
        self._count()
        return worker

    def remove(self, name: str) -> list[Entry]:
        """The worker is dead. Returns what it held, in the order of the hand-outs."""
        worker = self.by_name.pop(name, None)
        if worker is None:
            return []
        self._count()
        return list(worker.running.values())

    def handouts(self, name: str | None) -> list[tuple[str, RequestKey, int]]:
        """What is handed out, to one worker or to all (None): worker, key, id of the hand-out."""
        return [
            (worker, key, entry.handout)
            for worker, holder in self.by_name.items()
            for key, entry in holder.running.items()
            if name is None or name == worker
        ]

    def _count(self) -> None:
        slots = (worker.slots for worker in self.by_name.values())
        self.slots = max(1, sum(slots)) if self.by_name else self._assumed
