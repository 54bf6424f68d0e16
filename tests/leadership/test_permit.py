"""Law 6 (c) and (d) as failing sequences: what would let an old holder write is played, and must not succeed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.base.loops import Loops
from raycp.kube import Unreachable
from raycp.leader.leadership_proof import LeadershipProof
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks import Confirmed
from raycp.leadership.permit import Grant, Permit, PermitLedger, Proof, take
from raycp.member.permits import PermitKeeper
from raycp.metrics import Metrics
from raycp.protocol.control import Question
from raycp.protocol.members import Member, Role
from raycp.protocol.substrate import MemberUnavailable

PERMIT = 6.0
HOLDER = Member(Role.WORKER, "standard/0", 0)


def test_permit_counts_from_before_the_request_was_sent() -> None:
    """A holder frozen with the answer in its socket buffer wakes up late: the answer is worth what is left, not 6 s."""
    permit = take(Permit(), Grant(PERMIT, 1, 1), asked=100.0)
    assert permit.until == 106.0
    assert permit.left(130.0) == 0.0


def test_ledger_never_ends_before_the_permit() -> None:
    ledger = PermitLedger(PERMIT, recorded=0.0)
    grant = ledger.grant("w", Proof(100.0), 100.4, 1, 1, {})
    permit = take(Permit(), grant, asked=100.2)
    assert permit.until <= ledger.ends("w")


def test_no_grant_outlives_the_proof() -> None:
    ledger = PermitLedger(PERMIT, recorded=0.0)
    assert ledger.grant("w", Proof(100.0), 104.0, 1, 1, {}).seconds == 2.0
    refused = ledger.grant("w", Proof(100.0), 106.0, 1, 1, {})
    assert refused.seconds == 0.0
    assert "still leads" in refused.refused


def test_new_incarnation_counts_silent_holders_as_permitted() -> None:
    ledger = PermitLedger(PERMIT, recorded=200.0)
    assert ledger.ends("unknown") == 206.0
    assert PermitLedger(PERMIT, recorded=200.0, fresh=True).ends("unknown") == 200.0


def test_a_shorter_permit_counts_when_the_last_longer_one_has_ended() -> None:
    ledger = PermitLedger(PERMIT, recorded=0.0, fresh=True)
    ledger.grant("w", Proof(100.0), 100.0, 1, 1, {})
    assert ledger.shorten(2.0, 101.0) == 5.0
    assert ledger.grant("w", Proof(101.0), 101.0, 1, 1, {}).seconds == 2.0
    assert ledger.shorten(2.0, 103.0) == 3.0, "the first attempt to record it has failed: the wait goes on"
    assert ledger.shorten(2.0, 107.0) == 0.0


def test_a_shorter_permit_counts_when_those_of_a_predecessor_in_the_epoch_have_ended() -> None:
    """Whose record names longer ones: a successor that read the shorter one meanwhile would not wait for its silent holders."""
    ledger = PermitLedger(2.0, recorded=200.0, silent=PERMIT)
    assert ledger.shorten(2.0, 201.0) == 5.0
    assert PermitLedger(2.0, recorded=200.0, fresh=True, silent=PERMIT).shorten(2.0, 201.0) == 0.0


def test_barred_holder_gets_no_permit() -> None:
    ledger = PermitLedger(PERMIT, recorded=0.0)
    ledger.grant("w", Proof(100.0), 100.0, 1, 1, {})
    ledger.bar("w", "replaced")
    assert ledger.grant("w", Proof(101.0), 101.0, 1, 1, {}).refused == "replaced"
    assert ledger.ends("w") == 106.0


def test_late_grant_of_a_replaced_leader_is_ignored() -> None:
    permit = take(Permit(), Grant(PERMIT, 2, 5), asked=100.0)
    assert take(permit, Grant(PERMIT, 2, 4), asked=103.0) is permit
    assert take(permit, Grant(PERMIT, 1, 9), asked=103.0) is permit


def test_refusal_changes_no_permit() -> None:
    permit = take(Permit(), Grant(PERMIT, 1, 1), asked=100.0)
    assert take(permit, Grant(0.0, 1, 1, refused="barred"), asked=101.0).until == 106.0


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(0, 3), st.booleans()), min_size=1, max_size=20))
def test_no_permit_outlives_what_its_successor_waits_for(steps: list[tuple[float, float, float, bool]]) -> None:
    """Whatever is delayed: all permits of a predecessor end within ``permit`` of its last read being sent, hence of the moment at
    which its successor was recorded."""
    now, proof = 0.0, Proof(0.0)
    ledger = PermitLedger(PERMIT, recorded=0.0)
    permit = Permit()
    for before, on_the_way, after, proves in steps:
        now += before
        asked = now
        now += on_the_way
        if proves:
            proof = Proof(now)
        grant = ledger.grant("w", proof, now, 1, 1, {})
        now += after
        permit = take(permit, grant, asked)
    assert permit.until <= proof.read_sent + PERMIT
    assert permit.until <= ledger.ends("w")


class Home:
    """The hub's record, as a leader reads it."""

    def __init__(self, mine: Leadership) -> None:
        self.found = mine
        self.reachable = True

    async def confirm(self) -> Confirmed:
        if not self.reachable:
            raise Unreachable("cut off", sent=True)
        return Confirmed(self.found)


class SuspendableClock(VirtualClock):
    """``suspended``: seconds for which the process was frozen, so that no sleeper was woken."""

    suspended = 0.0

    def now(self) -> float:
        return super().now() + self.suspended


@pytest.fixture
def clock() -> SuspendableClock:
    return SuspendableClock()


def leader(clock: VirtualClock) -> tuple[LeadershipProof, Home, PermitLedger]:
    mine = Leadership(1, 1, "a", 0.0, PERMIT)
    home, ledger = Home(mine), PermitLedger(PERMIT, clock.now())
    proof = LeadershipProof(clock, Loops(clock))
    proof.begin(mine, ledger, clock.now(), home.confirm)
    return proof, home, ledger


def asked(ledger: PermitLedger, proof: LeadershipProof, clock: VirtualClock) -> Grant:
    return ledger.grant("w", proof.proof, clock.now(), 1, 1, {})


async def test_leader_that_can_not_confirm_grants_less_and_less(clock: VirtualClock) -> None:
    proof, home, ledger = leader(clock)
    await clock.advance(3.0)
    assert asked(ledger, proof, clock).seconds > 4.9
    home.reachable = False
    await clock.advance(4.0)
    assert 0 < asked(ledger, proof, clock).seconds < 3.0
    await clock.advance(4.0)
    assert asked(ledger, proof, clock).seconds == 0.0
    assert proof.problems
    home.reachable = True
    await clock.advance(1.0)
    assert asked(ledger, proof, clock).seconds > 4.0
    await proof.end()


async def test_replaced_leader_grants_nothing(clock: SuspendableClock) -> None:
    """Frozen, it wakes up beside its successor: its first read shows that; until then its proof is too old to grant anything."""
    proof, home, ledger = leader(clock)
    await clock.advance(1.0)
    home.found = Leadership(1, 2, "b", 0.0, PERMIT)
    clock.suspended += 60.0
    assert asked(ledger, proof, clock).seconds == 0.0
    await clock.advance(2.0)
    assert "incarnation 2" in proof.superseded
    assert not proof.proven(PERMIT)
    answer = proof.grant("w", None)
    assert answer.seconds == 0.0
    await proof.end()


async def test_holder_stops_while_the_leader_is_silent(clock: VirtualClock) -> None:
    answers = True
    changes = []

    async def ask(question: Question[Any], timeout: float) -> Any:
        if not answers:
            raise MemberUnavailable("cut off from Ray's head")
        return Grant(PERMIT, 1, 1, {"0": 3})

    loops = Loops(clock)
    permits = PermitKeeper(HOLDER, clock, loops, Metrics(), ask, lambda: changes.append(permits.held))
    assert not permits.held
    await clock.advance(0.1)
    assert permits.held
    assert permits.term_of("0") == 3
    answers = False
    await clock.advance(4.0)
    assert permits.held, "it rides out a short silence"
    await clock.advance(2.5)
    assert not permits.held
    answers = True
    await clock.advance(0.5)
    assert permits.held
    assert changes == [True, False, True]
    await loops.stop()
