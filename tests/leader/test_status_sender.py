"""The leader's status reaches the observer: at once when something matters, else every second, one at a time."""

import asyncio
from typing import Any

import msgspec
from inprocess import CLOCK, InProcess, until

from raycp.base.clock import VirtualClock
from raycp.base.loops import Loops
from raycp.leader.roster import Roster
from raycp.leader.status_sender import SEND_EVERY, StatusSender
from raycp.protocol.members import Member, MemberState
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

    async def call(self, member: Member, method: str, payload: bytes = b"", timeout: float = 10.0) -> bytes:
        assert method == "status"
        await self.open.wait()
        if not self.reachable:
            raise MemberUnavailable("no answer")
        self.received.append(msgspec.msgpack.decode(payload, type=FleetStatus))
        return b""


def made(clock: Any = CLOCK) -> tuple[Receiver, Roster, StatusSender]:
    receiver = Receiver()
    roster = Roster(receiver, clock, Loops(clock))
    state = MemberState(Member("observer", "observer", 0))
    state.report.port = 1
    roster.members["observer", "observer"] = state
    return receiver, roster, StatusSender(roster)


def status(uptime: float, *problems: str) -> FleetStatus:
    return FleetStatus(fleet="t", leader=LeaderStatus(uptime_seconds=uptime), problems=dict.fromkeys(problems, ""))


async def test_what_matters_is_sent_at_once_and_numbers_every_second() -> None:
    clock = VirtualClock()
    receiver, _, sender = made(clock)
    sender.send(status(1.0))
    await until(lambda: len(receiver.received) == 1)
    sender.send(status(2.0))
    sender.send(status(3.0, "clock"))
    await until(lambda: len(receiver.received) == 2)
    assert receiver.received[-1].problems == {"clock": ""}
    await clock.advance(SEND_EVERY)
    sender.send(status(4.0, "clock"))
    await until(lambda: len(receiver.received) == 3)


async def test_one_status_is_under_way_at_a_time_and_the_next_step_follows_at_once() -> None:
    receiver, roster, sender = made()
    receiver.open.clear()
    sender.send(status(1.0))
    sender.send(status(1.0, "clock"))
    assert not roster.wake.is_set()
    receiver.open.set()
    await until(roster.wake.is_set)
    assert len(receiver.received) == 1
    sender.send(status(1.0, "clock"))
    await until(lambda: len(receiver.received) == 2)


async def test_a_status_that_did_not_arrive_is_sent_again() -> None:
    receiver, _, sender = made(VirtualClock())
    receiver.reachable = False
    sender.send(status(1.0))
    await asyncio.sleep(0.05)
    receiver.reachable = True
    sender.send(status(1.0))
    await until(lambda: len(receiver.received) == 1)


async def test_nothing_is_sent_before_the_observer_listens() -> None:
    receiver, roster, sender = made()
    roster.members["observer", "observer"].report.port = 0
    sender.send(status(1.0))
    await asyncio.sleep(0.05)
    assert receiver.received == []
