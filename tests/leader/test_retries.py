"""Work at the clusters' APIs: whatever it raises, it is tried again with backoff, and its reason is shown."""

from raycp.base.clock import VirtualClock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import FLEET, ProblemCode
from raycp.kube import Unreachable
from raycp.leader.retries import FIRST_BACKOFF, MAX_BACKOFF, Retries

SUBJECT = ProblemCode.DOCUMENT_NOT_STORED, FLEET


async def test_an_exception_that_nobody_foresaw_backs_off_is_shown_and_counted() -> None:
    clock = VirtualClock()
    loops, failed, runs = Loops(clock), list[LoopName](), 0
    loops.failed = failed.append
    retries = Retries(clock, loops)

    async def work() -> None:
        nonlocal runs
        runs += 1
        raise AttributeError("'NoneType' object has no attribute 'x'")

    for _ in range(600):  # a leader's steps, ten a second
        retries.start(SUBJECT, work)
        await clock.advance(0.1)
    assert retries.problems == {SUBJECT: "AttributeError: 'NoneType' object has no attribute 'x'"}
    assert 5 <= runs <= 60 / MAX_BACKOFF + 6, "with backoff"
    assert failed == [LoopName.LEADER_RETRY] * runs
    assert loops.errands == []


async def test_a_failure_that_was_foreseen_is_shown_as_it_is_and_ends_with_success() -> None:
    clock = VirtualClock()
    loops, failed = Loops(clock), list[LoopName]()
    loops.failed = failed.append
    retries, errors = Retries(clock, loops), [Unreachable("no answer", sent=True)]

    async def work() -> None:
        if errors:
            raise errors.pop()

    retries.start(SUBJECT, work)
    await clock.advance(0.01)
    assert retries.problems == {SUBJECT: "no answer"}
    await clock.advance(FIRST_BACKOFF)
    retries.start(SUBJECT, work)
    await clock.advance(0.01)
    assert retries.problems == {}
    assert failed == []
