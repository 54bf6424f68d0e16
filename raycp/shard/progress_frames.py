"""A primary's progress as frames that fit: state by key in pages, then what belongs to no key, in parts where it is long."""

import logging
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, field

from raycp.base.keys import RequestKey
from raycp.protocol.frames import ControllerStart, KeyProgress, MarkedKind, Progress, Reached, Unsendable, encode, pages

log = logging.getLogger(__name__)

PART = 2_000
"""Entries of each list in one frame: a name is at most 253 characters, an entry some hundred bytes."""


@dataclass
class Shared:
    """What is reported with the keys: as in ``Progress``."""

    reached: list[Reached] = field(default_factory=list)
    wakes: list[RequestKey] = field(default_factory=list)
    acknowledged: list[RequestKey] = field(default_factory=list)
    marks: list[MarkedKind] = field(default_factory=list)
    starts: list[ControllerStart] = field(default_factory=list)
    complete: bool = False

    def parts(self) -> Iterator["Shared"]:
        """In parts of which each fits; ``complete`` is the last one's."""
        lists: list[Sized] = [self.reached, self.wakes, self.acknowledged, self.marks, self.starts]
        longest = max(map(len, lists))
        for start in range(0, max(1, longest), PART):
            yield Shared(
                self.reached[start : start + PART],
                self.wakes[start : start + PART],
                self.acknowledged[start : start + PART],
                self.marks[start : start + PART],
                self.starts[start : start + PART],
                self.complete and start + PART >= longest,
            )


def progress_frames(number: Callable[[], int], changed: Sequence[KeyProgress], shared: Shared) -> Iterator[bytes]:
    """The encoded frames, the ones that report how far events are judged after those of all keys. ``number`` gives the next
    frame's number."""
    first, *others = shared.parts()

    def frame(part: Sequence[KeyProgress], last: bool) -> Progress:
        return _frame(number(), part, first, bool(others)) if last else Progress(number(), list(part), [], [], [])

    try:
        yield from pages(changed, frame, _weigh, _left_out)
        for at, part in enumerate(others, 1):
            yield encode(_frame(number(), [], part, at < len(others)))
    except Unsendable as error:
        log.error("a standby is not told how far this primary is: %s", error)
        yield encode(Progress(number(), [], [], [], []))


def _frame(number: int, changed: Sequence[KeyProgress], shared: Shared, more: bool) -> Progress:
    return Progress(
        number, list(changed), shared.reached, shared.wakes, shared.acknowledged, shared.complete, shared.marks, shared.starts, more
    )


def _weigh(progress: KeyProgress) -> int:
    weight = 200 + 4 * sum(map(len, progress.key)) + 100 * len(progress.due)
    if progress.saved is not None:
        weight += 100 + 4 * len(progress.saved.error) + sum(map(len, progress.saved.holds))
    if progress.clocks is not None:
        weight += 200 + 100 * len(progress.clocks.changes)
    if progress.suspicion is not None:
        weight += sum([300 + 4 * len(mark.reason) for mark in progress.suspicion.marks])
    if progress.note is not None:
        weight += 100 + 260 * len(progress.note.unusable)
    return weight


def _left_out(progress: KeyProgress, why: str) -> None:
    log.error("a standby does not learn of %s: %s", progress.key, why)
