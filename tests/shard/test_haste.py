"""Keys that ask for another reconcile at once, for ever, are told from those that poll."""

from typing import Any

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.tasks import Done, Outcome
from raycp.shard.haste import LOOP, MANY, SOON, WITHIN, Haste
from raycp.shard.notes import KeyNotes
from raycp.shard.suspects import Finding, Level

KEY = RequestKey("hasty", "east", "default", "a")


def ended(after: float | None = 0.0, outcome: Outcome = Outcome.OK, key: RequestKey = KEY) -> Done:
    return Done(1, key, outcome, 0.001, requeue_after=after)


async def faults(haste: Haste, clock: VirtualClock, times: int, apart: float, after: float = 0.0) -> list[Any]:
    found = []
    for _ in range(times):
        found.append(haste.fault(ended(after)))
        await clock.advance(apart)
    return found


async def test_a_loop_is_a_fault_once_it_has_gone_on_and_stays_one_while_it_does() -> None:
    clock = VirtualClock()
    haste = Haste(clock)
    found = await faults(haste, clock, 4 * MANY, WITHIN / MANY / 2)
    assert found[: MANY - 1] == [None] * (MANY - 1)
    assert all(fault is not None for fault in found[MANY - 1 :])
    assert (found[-1].outcome, found[-1].error_class, found[-1].key) == (Outcome.RETRY, LOOP, KEY)
    assert "requeue_after=0" in found[-1].error
    await clock.advance(3 * WITHIN)
    later = await faults(haste, clock, 3, WITHIN + 1)
    assert later[-1] is None, "it has become slow"


async def test_polls_and_failures_are_none() -> None:
    clock = VirtualClock()
    haste = Haste(clock)
    assert not any(await faults(haste, clock, 3 * MANY, 0.01, after=2 * SOON)), "a poll"
    assert not any(await faults(haste, clock, 3 * MANY, WITHIN / MANY * 2)), "a few at once"
    assert [haste.fault(ended(0.0, Outcome.RETRY)) for _ in range(2 * MANY)] == [None] * 2 * MANY
    assert [haste.fault(ended(None)) for _ in range(2 * MANY)] == [None] * 2 * MANY


def test_a_loop_is_told_once_and_listed_until_the_key_comes_to_rest() -> None:
    notes, told = KeyNotes(VirtualClock()), list[Done]()
    notes.on_loop = told.append
    for _ in range(3 * MANY):
        notes.ended(ended(), 0)
    assert [fault.key for fault in told] == [KEY]
    assert list(notes.failing) == [KEY]
    notes.ended(ended(60.0), 0)
    assert not notes.failing
    for _ in range(MANY):
        notes.ended(ended(), 0)
    notes.drop(lambda key: True)
    assert not notes.failing
    assert not notes.ended(ended(), 0)
    assert not notes.failing, "it is counted anew"


def test_a_suspect_fails_and_what_was_only_there_does_not() -> None:
    notes = KeyNotes(VirtualClock())
    died = Done(1, KEY, Outcome.INTERRUPTED, 0.0, error="its worker died")
    notes.suspected(died, Finding(Level.EXPOSED, "it was there"))
    notes.suspected(died, None)
    assert not notes.failing
    notes.suspected(died, Finding(Level.SUSPECT, "it was in flight when 2 workers died"))
    assert notes.failing[KEY].cause == "it was in flight when 2 workers died"
