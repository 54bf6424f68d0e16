"""Deficit round-robin: whose turn it is."""

import math
from collections import Counter

from raycp.queueing.drr import Ring, RingGate, RingMember


class Party(RingMember):
    """A member that counts how often it stepped aside."""

    def __init__(self, gate: RingGate | None = None) -> None:
        super().__init__(gate or RingGate())
        self.asides = 0

    def step_aside(self) -> None:
        self.asides += 1


def ring_of(*parties: Party, queued: int = 100) -> Ring[Party]:
    ring: Ring[Party] = Ring()
    for party in parties:
        for _ in range(queued):
            ring.added(party, True)
    return ring


def serve(ring: Ring[Party], below: float = math.inf) -> Party | None:
    party = ring.turn(below)
    if party is not None:
        ring.served(party)
    return party


def test_a_ring_takes_turns_and_charges_what_the_work_took() -> None:
    short, long = Party(), Party()
    ring = ring_of(short, long)
    used: Counter[Party] = Counter()
    for _ in range(100):
        party = serve(ring)
        assert party is not None
        cost = 4.0 if party is long else 1.0
        used[party] += int(cost)
        ring.ended(party, cost - 1.0)
    assert abs(used[short] - used[long]) <= 8


def test_a_member_takes_an_equal_part_of_the_slots_in_use_while_others_wait() -> None:
    first, second = Party(), Party()
    ring = ring_of(first, queued=10)
    assert [serve(ring) for _ in range(4)] == [first] * 4
    ring.added(second, True)
    ring.added(second, True)
    assert [serve(ring), serve(ring)] == [second, second]


def test_a_member_whose_gate_is_full_steps_aside_until_it_enters_again() -> None:
    gate = RingGate(limit=1)
    gated, free = Party(gate), Party()
    ring = ring_of(gated, free, queued=2)
    gate.in_flight = 1
    assert [serve(ring), serve(ring), serve(ring)] == [free, free, None]
    assert (gated.asides, gated.parked, gated.in_ring) == (1, True, False)
    ring.added(gated, True)
    assert serve(ring) is None, "nothing that is added brings it back"
    gate.in_flight, gated.parked = 0, False
    ring.enter(gated)
    assert serve(ring) is gated


def test_members_above_the_bound_are_passed_over() -> None:
    heavy, light = Party(), Party()
    ring = ring_of(heavy, light, queued=5)
    while heavy.in_flight < 2:
        serve(ring)
    assert serve(ring, below=2.0) is light
    assert serve(ring, below=1.0) is None
    assert serve(ring) is not None


def test_a_ring_counts_members_with_anything_queued_or_in_flight() -> None:
    one, other = Party(), Party()
    ring = ring_of(one, other, queued=1)
    assert (ring.active, ring.in_flight) == (2, 0)
    served = serve(ring)
    assert served is one
    assert (ring.active, ring.in_flight) == (2, 1)
    ring.discarded(other)
    ring.ended(one, 0.0)
    assert (ring.active, ring.in_flight) == (0, 0)
    assert serve(ring) is None
    assert not ring.members
