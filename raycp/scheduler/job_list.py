"""``JobList``: pages of the hub's jobs, for the status page: filtered, sorted and cut here, where they are cached.

An answer has at most ``PAGE_LIMIT`` rows, however many jobs there are. It costs the shard's loop a decoding of each job that has
changed since the last answer, and a look at each job, with a pause after each two milliseconds of that. Nothing is kept, and
nothing runs, while nobody asks: what is kept for the next answer is dropped after a minute.
"""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from raycp.base.clock import Clock
from raycp.base.objects import Obj
from raycp.protocol.job_query import NO_QUEUE, PHASES, JobQuery
from raycp.scheduler.job_rows import JobLine, Waits, job_line, job_row

KEPT_FOR = 60.0
"""Seconds for which the lines are kept after an answer."""

MOST_ASKING = 4
"""Questions that wait for their answer; a further one gets none."""

SLICE = 1000
"""Jobs that are looked at between two pauses: one to two milliseconds of work."""

DECODED = 256
"""Bytes of a job that are decoded in the time of one look (a job of 2 300 bytes took 9 µs). A row takes ten times as long."""

WORDS = 4
"""Words that are looked for in that time."""

PART = 500
"""Jobs that are sorted at once."""

MOST_QUEUES = 200
"""Names of queues in an answer, to choose from."""

_Key = tuple[Any, ...]


class CachedJobs(Protocol):
    """Where the jobs are cached."""

    @property
    def listed(self) -> bool: ...

    def all_cached(self) -> Iterable[Obj]: ...


class JobList:
    """One scheduler's. ``queue_of``: the queue of a namespace's jobs, empty for none; ``waits``: see ``Waits``."""

    def __init__(self, jobs: CachedJobs, queue_of: Callable[[str], str], waits: Waits, clock: Clock) -> None:
        self._jobs = jobs
        self._queue_of = queue_of
        self._waits = waits
        self._clock = clock
        self._lines: dict[int, JobLine] = {}
        """By the identity of their objects, which they keep: whatever a server says of names and uids, and no copy of either."""
        self._asked_at = float("-inf")
        self._asking = 0
        self._one = asyncio.Lock()

    async def answer(self, query: JobQuery) -> dict[str, Any] | None:
        """The page, with the number of all jobs (``total``), of those that match (``matching``), and of all by phase and by queue;
        None where too many ask. ``listed``: whether all jobs of the hub are known."""
        if self._asking >= MOST_ASKING:
            return None
        self._asking += 1
        try:
            async with self._one:
                await self._refresh()
                return await self._page(query)
        finally:
            self._asking -= 1
            self._asked_at = self._clock.now()

    def expire(self) -> bool:
        """Drop what is kept if nobody has asked lately; whether nothing is kept."""
        if not self._asking and self._clock.now() - self._asked_at > KEPT_FOR:
            self._lines = {}
        return not self._asking and not self._lines

    async def _refresh(self) -> None:
        """Decode what has changed."""
        pause = _Pauses()
        known, fresh = self._lines, dict[int, JobLine]()
        for obj in self._jobs.all_cached():
            line = known.get(id(obj))
            if line is None:
                line = job_line(obj)
                await pause.after(len(obj.raw) // DECODED)
            fresh[id(obj)] = line
            await pause.after(1)
        self._lines = fresh

    async def _page(self, query: JobQuery) -> dict[str, Any]:
        pause = _Pauses()
        words = query.find.lower().split()
        matches, key, looks = _filter(query, words), _KEYS[query.order], 1 + len(words) // WORDS
        phases: Counter[str] = Counter()
        queues: Counter[str] = Counter()
        parts: list[list[tuple[_Key, int, str]]] = []
        part: list[tuple[_Key, int, str]] = []
        for known, line in self._lines.items():
            queue = line.queue or self._queue_of(line.obj.meta.namespace)
            phases[line.phase] += 1
            queues[queue or NO_QUEUE] += 1
            if matches(line, queue):
                part.append((key(line), known, queue))
            if len(part) == PART:
                part.sort()
                parts.append(part)
                part = []
            await pause.after(looks)
        part.sort()
        parts.append(part)
        rows = []
        until = query.offset + query.limit
        for at, (_, known, queue) in enumerate(itertools.islice(heapq.merge(*parts), until)):
            await pause.after(1)
            if at >= query.offset:
                line = self._lines[known]
                meta = line.obj.meta
                rows.append(job_row(line, queue, self._waits(meta.namespace, meta.name)))
                await pause.after(10 * (1 + len(line.obj.raw) // DECODED))
        return {
            "listed": self._jobs.listed,
            "total": len(self._lines),
            "matching": sum(map(len, parts)),
            "phases": {phase: phases[phase] for phase in PHASES if phases[phase]},
            "queues": dict(queues.most_common(MOST_QUEUES)),
            "items": rows,
        }


class _Pauses:
    """Lets others have the loop after each slice."""

    def __init__(self) -> None:
        self._done = 0

    async def after(self, looks: int) -> None:
        """So much has been done."""
        self._done += looks
        if self._done >= SLICE:
            self._done = 0
            await asyncio.sleep(0)


def _filter(query: JobQuery, words: list[str]) -> Callable[[JobLine, str], bool]:
    name = query.name.lower()
    wanted = "" if query.queue == NO_QUEUE else query.queue

    def matches(line: JobLine, queue: str) -> bool:
        if query.phase and line.phase != query.phase:
            return False
        if query.queue and queue != wanted:
            return False
        meta = line.obj.meta
        if name and name not in f"{meta.namespace}/{meta.name}".lower():
            return False
        return not words or all(word in line.text or word in queue.lower() for word in words)

    return matches


def _named(line: JobLine) -> tuple[str, str]:
    return line.obj.meta.namespace, line.obj.meta.name


_KEYS: dict[str, Callable[[JobLine], _Key]] = {
    "attention": lambda line: (line.rank, line.turn, *_named(line)),
    "name": _named,
    "newest": lambda line: (-line.created, *_named(line)),
    "oldest": lambda line: (line.created, *_named(line)),
    "failures": lambda line: (-line.failed, line.rank, line.turn, *_named(line)),
}
