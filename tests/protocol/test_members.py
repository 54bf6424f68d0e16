"""Names of members: roles, slots, actor names."""

import pytest

from raycp.protocol.members import LEADER, OBSERVER_SLOT, Member, Role, Slot


@pytest.mark.parametrize(
    ("slot", "place", "shard", "tier", "number"),
    [
        (Slot.of_shard("3"), "3", "3", "", 0),
        (Slot.of_standby("3", 1), "3/1", "3", "", 1),
        (Slot.of_worker("standard", 12), "standard/12", "", "standard", 12),
        (Slot.of_embedded("east"), "east", "", "", 0),
        (OBSERVER_SLOT, "observer", "", "", 0),
        (LEADER.slot, "leader", "", "", 0),
    ],
)
def test_a_slot_names_its_shard_tier_and_number(slot: Slot, place: str, shard: str, tier: str, number: int) -> None:
    assert (slot.place, slot.shard, slot.tier, slot.number) == (place, shard, tier, number)
    member = Member(*slot, 4)
    assert (member.slot, member.shard, member.tier) == (slot, shard, tier)
    assert str(slot) == f"{slot.role} {place}"


def test_a_slot_is_the_dictionary_key_that_its_strings_are() -> None:
    assert {Slot.of_worker("standard", 0): 1}["worker", "standard/0"] == 1  # type: ignore[index]


@pytest.mark.parametrize("role", Role)
def test_an_actor_name_is_parsed_to_its_member(role: Role) -> None:
    member = Member(role, "a/0", 7)
    found = Member.parse(member.actor_name)
    assert found == member
    assert found is not None
    assert found.role is role


@pytest.mark.parametrize("name", ["", "raycp::shard::0", "other::shard::0::g1", "raycp::shard::0::1", "raycp::cook::0::g1"])
def test_a_name_of_another_actor_is_no_member(name: str) -> None:
    assert Member.parse(name) is None
