"""The supervisor of all loops (law 12): what fails is logged once, counted, shown, and started again with a bounded backoff."""

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from raycp.base.clock import VirtualClock
from raycp.base.loop_names import LoopName
from raycp.base.loops import FIRST_BACKOFF, MAX_BACKOFF, RAN_WELL, Loops
from raycp.base.problems import ProblemCode, ProblemOwner

EAST = ProblemOwner(cluster="east")


class Work:
    """Raises what it is given, one exception at each start; else runs on."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.errors: list[BaseException] = []
        self.starts: list[float] = []
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        self.starts.append(self.clock.now())
        if self.errors:
            raise self.errors.pop(0)
        await self.stopped.wait()


class Made:
    """Loops under a virtual clock, and how often each has failed."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.loops = Loops(self.clock)
        self.failed: Counter[LoopName] = Counter()
        self.loops.failed = lambda name: self.failed.update([name])
        self.work = Work(self.clock)

    def start(self) -> asyncio.Task[None]:
        return self.loops.supervise(self.work.run, LoopName.REFLECTOR, EAST)


@pytest_asyncio.fixture
async def made() -> AsyncIterator[Made]:
    made = Made()
    yield made
    await made.loops.stop()


async def test_a_loop_is_started_again_with_doubling_bounded_waits(made: Made) -> None:
    made.work.errors = [ValueError("x") for _ in range(12)]
    made.start()
    await made.clock.advance(100.0)
    waits = [round(after - before, 3) for before, after in itertools.pairwise(made.work.starts)]
    assert waits[:4] == [FIRST_BACKOFF, 2 * FIRST_BACKOFF, 4 * FIRST_BACKOFF, 8 * FIRST_BACKOFF]
    assert len(waits) == 12
    assert max(waits) == MAX_BACKOFF
    assert made.failed == {LoopName.REFLECTOR: 12}


async def test_the_backoff_starts_anew_after_it_ran_well(made: Made) -> None:
    made.work.errors = [ValueError("x") for _ in range(6)]
    made.start()
    await made.clock.advance(60.0)
    made.work.starts.clear()
    made.work.errors = [ValueError("y")]
    made.work.stopped.set()  # returns, so it has ended
    await made.clock.advance(1.0)
    assert made.loops.supervised == []
    made.work.stopped.clear()
    made.work.errors = []
    task = made.start()
    await made.clock.advance(RAN_WELL + 1.0)
    (loop,) = made.loops.supervised
    before = made.clock.now()
    made.loops.inject(loop, ValueError("z"))
    await made.clock.advance(1.0)
    assert made.work.starts[-1] - before == pytest.approx(FIRST_BACKOFF)
    assert not task.done()


async def test_a_step_that_succeeds_resets_the_backoff(made: Made) -> None:
    outcomes = [ValueError("x")] * 5 + [None] + [ValueError("y")] * 2
    at: list[float] = []

    async def step() -> None:
        at.append(made.clock.now())
        if outcomes and (error := outcomes.pop(0)) is not None:
            raise error

    made.loops.forever(step, LoopName.SWEEP, every=1.0)
    await made.clock.advance(30.0)
    waits = [round(after - before, 3) for before, after in itertools.pairwise(at)]
    assert waits[5] == 1.0, "the step that succeeded"
    assert waits[6:8] == [FIRST_BACKOFF, 2 * FIRST_BACKOFF]


async def test_a_failure_is_shown_until_the_loop_has_run_well_and_keeps_its_beginning(made: Made) -> None:
    made.work.errors = [ValueError("first"), KeyError("second")]
    began = made.clock.wall()
    made.start()
    await made.clock.advance(1.0)
    (problem,) = made.loops.problems
    assert (problem.code, problem.owner) == (ProblemCode.LOOP_FAILED, ProblemOwner(cluster="east", loop="reflector"))
    assert (problem.message, problem.since) == ("KeyError: 'second'", began)
    await made.clock.advance(RAN_WELL - 2.0)
    assert made.loops.problems == [problem]
    await made.clock.advance(3.0)
    assert made.loops.problems == []


async def test_a_failure_is_logged_once_with_its_traceback_and_again_when_it_changes(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    made.work.errors = [ValueError("one"), ValueError("two"), ValueError("three"), KeyError("other"), KeyError("other")]
    with caplog.at_level(logging.DEBUG, "raycp.base.loops"):
        made.start()
        await made.clock.advance(20.0)
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info[0] for record in logged if record.exc_info] == [ValueError, KeyError]
    assert "reflector" in logged[0].getMessage()
    assert "cluster east" in logged[0].getMessage()


async def test_what_it_awaits_being_cancelled_ends_no_loop(made: Made) -> None:
    made.work.errors = [asyncio.CancelledError()]
    task = made.start()
    await made.clock.advance(1.0)
    assert not task.done()
    assert len(made.work.starts) == 2


async def test_cancelling_the_task_ends_the_loop_also_while_it_waits(made: Made) -> None:
    made.work.errors = [ValueError("x") for _ in range(50)]
    task = made.start()
    await made.clock.advance(20.0)
    task.cancel()
    await made.clock.advance(0.0)
    assert task.cancelled()
    assert made.loops.supervised == []
    assert made.loops.problems == []


async def test_a_failure_that_can_not_be_counted_ends_no_loop(made: Made) -> None:
    def refuse(name: LoopName) -> None:
        raise RuntimeError("no room for metrics")

    made.loops.failed = refuse
    made.work.errors = [ValueError("x")]
    task = made.start()
    await made.clock.advance(1.0)
    assert (len(made.work.starts), task.done()) == (2, False)


async def test_an_errand_that_fails_is_counted_as_one(made: Made) -> None:
    async def errand() -> None:
        raise ValueError("x")

    made.loops.spawn(errand(), "something to do once")
    await made.clock.advance(0.1)
    assert made.failed == {LoopName.ERRAND: 1}


async def test_after_close_nothing_starts(made: Made) -> None:
    task = made.start()
    made.loops.close()
    made.start()
    await made.clock.advance(1.0)
    assert task.cancelled()
    assert made.loops.supervised == []


def test_no_name_contains_an_object() -> None:
    """They are label values of a metric."""
    assert all(name.replace("-", "").isalpha() for name in LoopName)
