"""Answers in pages: a worker says how many bytes it takes, and asks for the rest when it has room for them.

So no answer is larger than a frame, and no worker is sent more than it can hold. What is left of an answer is kept here: references
to cached objects as they were at the first page, so that the pages together are one state.
"""

import itertools
from collections.abc import Iterable

from raycp.base.clock import Clock
from raycp.base.tasks import Child
from raycp.protocol.frames import LARGEST, PAGE, Read, Reply, ReplyCode

FORGOTTEN_AFTER = 60.0
"""Seconds without a question after which the rest of an answer is dropped. A reconcile that still wants it asks anew."""

MOST = 64
"""Unfinished answers of one worker; beyond that the oldest is dropped."""

_ENVELOPE = 64
"""Bytes of an object in a frame beside its JSON."""


class _Rest:
    """What is left of one answer: ``children`` from ``at`` on, of ``size`` bytes. ``expires``: its reader may have ended."""

    __slots__ = ("asked", "at", "children", "expires", "size")

    def __init__(self, children: list[Child], asked: float, expires: bool) -> None:
        self.children = children
        self.at = 0
        self.size = size_of(children)
        self.asked = asked
        self.expires = expires

    def take(self, limit: int) -> list[Child]:
        """The next objects, of ``limit`` bytes at most, but one at least."""
        start, room = self.at, limit
        for child in itertools.islice(self.children, start, None):
            weight = len(child.raw) + _ENVELOPE
            if weight > room and self.at > start:
                break
            room -= weight
            self.size -= len(child.raw)
            self.at += 1
        return self.children[start : self.at]


class ReadPages:
    """One shard's unfinished answers, by worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self.unfinished: dict[str, dict[str, _Rest]] = {}
        """By worker and token. Read it; only this class writes it."""

    def first(self, worker: str, reply: Reply, limit: int) -> Reply:
        """The first page of ``reply``, which has everything found."""
        if not reply.found or reply.error:
            return reply
        rest = _Rest(reply.found, self._clock.now(), True)
        if rest.size + _ENVELOPE * len(reply.found) <= _limit(limit):
            return reply
        rests = self.unfinished.setdefault(worker, {})
        while len(rests) >= MOST and (oldest := next((token for token, each in rests.items() if each.expires), "")):
            del rests[oldest]
        token = f"read {next(self._numbers)}"
        rests[token] = rest
        return self._page(worker, token, reply, limit)

    def keep(self, worker: str, token: str, children: list[Child]) -> None:
        """Keep the children of a task for its worker, until ``drop``."""
        self.unfinished.setdefault(worker, {})[token] = _Rest(children, self._clock.now(), False)

    def more(self, worker: str, read: Read) -> Reply:
        """The next page of an answer."""
        if read.name not in self.unfinished.get(worker, ()):
            return Reply(read.id, error="the rest of that answer is not kept any longer", code=ReplyCode.FAILED)
        return self._page(worker, read.name, Reply(read.id), read.limit)

    def drop(self, worker: str, token: str) -> None:
        """Nobody reads that any longer."""
        rests = self.unfinished.get(worker)
        if rests is not None and rests.pop(token, None) is not None and not rests:
            del self.unfinished[worker]

    def disconnected(self, worker: str) -> None:
        """Its reads have failed; the hand-outs that it runs go on."""
        for token in [token for token, rest in self.unfinished.get(worker, {}).items() if rest.expires]:
            self.drop(worker, token)

    def forget(self, worker: str) -> None:
        """The worker is dead."""
        self.unfinished.pop(worker, None)

    def expire(self) -> None:
        """Drop what nobody has asked for lately."""
        since = self._clock.now() - FORGOTTEN_AFTER
        for worker, rests in list(self.unfinished.items()):
            for token in [token for token, rest in rests.items() if rest.expires and rest.asked < since]:
                self.drop(worker, token)

    def _page(self, worker: str, token: str, reply: Reply, limit: int) -> Reply:
        rest = self.unfinished[worker][token]
        rest.asked = self._clock.now()
        reply.found, reply.token = rest.take(_limit(limit)), token
        reply.left = rest.size
        large = next((child for child in reply.found if len(child.raw) > LARGEST), None)
        if large is not None:
            reply.found, reply.error, reply.code = [], f"{_named(large)} has {len(large.raw)} bytes", ReplyCode.TOO_LARGE
        if reply.error or rest.at >= len(rest.children):
            self.drop(worker, token)
            reply.token, reply.left = "", 0
        return reply


def size_of(children: Iterable[Child]) -> int:
    """Bytes of their JSON."""
    return sum([len(child.raw) for child in children])


def _limit(asked: int) -> int:
    return min(asked, PAGE) if asked > 0 else PAGE


def _named(child: Child) -> str:
    return f"a {child.kind} of cluster {child.cluster}"
