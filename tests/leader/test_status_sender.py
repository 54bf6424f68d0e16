"""The leader's status reaches the observer: at once when something matters, else every second, one at a time."""

import asyncio
from typing import Any

from inprocess import CLOCK, InProcess, until

from raycp.base.clock import Clock, VirtualClock
from raycp.base.loops import Loops
from raycp.base.problems import FLEET, FleetProblem, ProblemCode
from raycp.leader.roster import Roster
from raycp.leader.status_sender import SEND_EVERY, StatusSender
from raycp.protocol.control import Question, StatusUpdate
from raycp.protocol.members import OBSERVER_SLOT, Member, MemberState, Role
from raycp.protocol.status import FleetStatus, LeaderStatus
from raycp.protocol.substrate import MemberUnavailable


class Receiver(InProcess):
    """Takes the place of the observer."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[FleetStatus] = []
        self.open = asyncio.Event()
        self.open.set()
        self.reachable = True

    async def ask(self, member: Member, question: Question[Any], timeout: float = 10.0) -> Any:
        assert isinstance(question, StatusUpdate)
        await self.open.wait()
        if not self.reachable:
            raise MemberUnavailable("no answer")
        self.received.append(question.status)


class Made:
    """A sender whose observer is ``receiver``; ``woken`` is set when it asks for another step."""

    def __init__(self, clock: Clock, port: int = 1) -> None:
        self.receiver = Receiver()
        self.woken = asyncio.Event()
        roster = Roster(clock)
        state = MemberState(Member(Role.OBSERVER, "observer", 0))
        state.report.port = port
        roster.members[OBSERVER_SLOT] = state
        self.send = StatusSender(self.receiver, clock, Loops(clock), roster, self.woken.set).send


def status(uptime: float, *problems: str) -> FleetStatus:
    found = [FleetProblem(ProblemCode.OTHER, FLEET, each, 0.0) for each in problems]
    return FleetStatus(fleet="t", leader=LeaderStatus(uptime_seconds=uptime), problems=found)


async def test_what_matters_is_sent_at_once_and_numbers_every_second() -> None:
    clock = VirtualClock()
    made = Made(clock)
    receiver = made.receiver
    made.send(status(1.0))
    await until(lambda: len(receiver.received) == 1)
    made.send(status(2.0))
    made.send(status(3.0, "clock"))
    await until(lambda: len(receiver.received) == 2)
    assert [problem.message for problem in receiver.received[-1].found] == ["clock"]
    await clock.advance(SEND_EVERY)
    made.send(status(4.0, "clock"))
    await until(lambda: len(receiver.received) == 3)


async def test_one_status_is_under_way_at_a_time_and_the_next_step_follows_at_once() -> None:
    made = Made(CLOCK)
    receiver = made.receiver
    receiver.open.clear()
    made.send(status(1.0))
    made.send(status(1.0, "clock"))
    assert not made.woken.is_set()
    receiver.open.set()
    await until(made.woken.is_set)
    assert len(receiver.received) == 1
    made.send(status(1.0, "clock"))
    await until(lambda: len(receiver.received) == 2)


async def test_a_status_that_did_not_arrive_is_sent_again() -> None:
    made = Made(VirtualClock())
    receiver = made.receiver
    receiver.reachable = False
    made.send(status(1.0))
    await asyncio.sleep(0.05)
    receiver.reachable = True
    made.send(status(1.0))
    await until(lambda: len(receiver.received) == 1)


async def test_nothing_is_sent_before_the_observer_listens() -> None:
    made = Made(CLOCK, port=0)
    made.send(status(1.0))
    await asyncio.sleep(0.05)
    assert made.receiver.received == []
