"""Where members live: pure functions of nodes, labels and the members' nodes."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from raycp.leader.placement import NODE_ID, Situation, actor_options, best_node, best_nodes, matches, misplaced
from raycp.protocol.members import OBSERVER_SLOT, Role, Slot
from raycp.protocol.nodes import Node

ZONES = st.sampled_from(["a", "b"])
SHARDS = ["0", "1", "2"]
SLOTS: list[Slot] = [
    *(Slot.of_shard(shard) for shard in SHARDS),
    *(Slot.of_standby(shard, number) for shard in SHARDS for number in range(2)),
    *(Slot.of_worker("standard", number) for number in range(3)),
    OBSERVER_SLOT,
]


@st.composite
def situations(draw: st.DrawFn, fewest: int = 0) -> Situation:
    """Up to five nodes, some draining or suspected, one the head; members and the leader on any of them, or on a lost one."""
    names = [f"n{number}" for number in range(draw(st.integers(fewest, 5)))]
    nodes = tuple(
        Node(name, labels={"zone": draw(ZONES)}, head=number == 0, draining=draw(st.booleans()) and draw(st.booleans()))
        for number, name in enumerate(names)
    )
    anywhere = st.sampled_from([*names, "lost"])
    where = draw(st.dictionaries(st.sampled_from(SLOTS), anywhere, max_size=len(SLOTS)))
    suspected = frozenset(draw(st.sets(anywhere, max_size=1)))
    return Situation(nodes, where, draw(st.sampled_from([*names, "lost", ""])), suspected)


@given(situations(), st.sampled_from(SLOTS), st.sampled_from([{}, {"zone": "a"}, {"zone": "!a"}]))
def test_member_is_placed_on_a_usable_node(situation: Situation, slot: Slot, selector: dict[str, str]) -> None:
    usable = {node.identity for node in situation.usable(selector)}
    spot = best_node(slot, situation, selector)
    assert bool(spot) == (len(usable) > 0 and len(situation.nodes) > 1), "a wish where there is a choice, and only there"
    if not spot:
        return
    assert spot in usable
    node = next(node for node in situation.nodes if node.identity == spot)
    assert not node.draining
    assert spot not in situation.suspected
    assert matches(selector, node.labels)
    if len(usable) == 1:
        return
    primary = situation.where.get(Slot.of_shard(slot.shard))
    if slot.role is Role.STANDBY:
        assert spot != primary
        own = {
            at
            for known, at in situation.where.items()
            if known != slot and known.role is Role.STANDBY and known.shard == slot.shard
        }
        if usable - own - {primary}:
            assert spot not in own, "another standby's node only where there is no free one"
    if slot.role is Role.SHARD:
        assert spot != situation.leader
        crowd = {
            each: sum(1 for k, at in situation.where.items() if k.role is Role.SHARD and k != slot and at == each)
            for each in usable
        }
        rivals = [each for each in usable if each != situation.leader and not _head(situation, each)]
        assert all(crowd[spot] <= crowd[each] for each in rivals) or _head(situation, spot)


def _head(situation: Situation, identity: str) -> bool:
    return any(node.head for node in situation.nodes if node.identity == identity)


@given(situations(fewest=2))
def test_whole_fleet_is_placed_at_once(situation: Situation) -> None:
    empty = replace(situation, where={})
    found = best_nodes(((slot, {}) for slot in SLOTS), empty)
    usable = {node.identity for node in empty.usable({})}
    assert set(found) == set(SLOTS)
    if len(usable) < 2:
        assert set(found.values()) == (usable or {""})
        return
    for shard in SHARDS:
        primary = found["shard", shard]
        standbys = [found["standby", f"{shard}/{number}"] for number in range(2)]
        assert primary not in standbys
        assert primary != empty.leader
        if len(usable) > 2:
            assert len({primary, *standbys}) == 3
    workers = [found["worker", f"standard/{number}"] for number in range(3)]
    assert len(set(workers)) == min(3, len(usable)), "no node has two workers while another has none"


@given(situations())
def test_moves_end_in_a_good_placement(situation: Situation) -> None:
    """Whatever stands wrong is set right one move at a time, and then nothing moves any more."""
    where = {slot: at for slot, at in situation.where.items() if at != "lost"}
    situation = replace(situation, where=where)
    for _ in range(4 * len(SLOTS)):
        warm: dict[str, list[str]] = {}
        for slot, at in situation.where.items():
            if slot.role is Role.STANDBY:
                warm.setdefault(slot.shard, []).append(at)
        move = misplaced(situation, {}, warm)
        if move is None:
            break
        where = dict(situation.where)
        if move.slot.role is Role.WORKER:
            del where[move.slot]
            where[move.slot] = best_node(move.slot, replace(situation, where=where))
            assert where[move.slot] != situation.where[move.slot]
        elif move.slot.role is Role.STANDBY:
            del where[move.slot]
            where[move.slot] = best_node(move.slot, replace(situation, where=where))
            assert where[move.slot] != where[Slot.of_shard(move.slot.shard)]
        else:
            good = [
                slot
                for slot, at in where.items()
                if slot.role is Role.STANDBY
                and slot.shard == move.slot.shard
                and at != situation.leader
                and at in {node.identity for node in situation.usable({})}
            ]
            successor = good[0]
            where[move.slot] = where.pop(successor)
            spot = best_node(successor, replace(situation, where=where))
            if spot:
                where[successor] = spot
            assert where[move.slot] != situation.leader
        situation = replace(situation, where=where)
    else:
        raise AssertionError("it never ends")
    for slot, at in situation.where.items():
        others = [node for node in situation.usable({}) if node.identity != at]
        if slot.role is Role.STANDBY and others:
            assert at != situation.where.get(Slot.of_shard(slot.shard))
    usable = [node.identity for node in situation.usable({})]
    workers = [at for slot, at in situation.where.items() if slot.role is Role.WORKER]
    assert not usable or max(workers.count(each) for each in usable) - min(workers.count(each) for each in usable) <= 1


def test_placement_is_soft_and_keeps_requested_labels() -> None:
    options = {"num_cpus": 0, "label_selector": {"raycp.io/role": "shard"}}
    assert actor_options(options, "") == options
    found = actor_options(options, "abc")
    assert found["label_selector"] == {"raycp.io/role": "shard", NODE_ID: "abc"}
    assert found["fallback_strategy"] == [{"label_selector": {"raycp.io/role": "shard"}}]
    assert actor_options({}, "abc")["fallback_strategy"] == [{"label_selector": {}}]


def test_label_selectors_match_as_in_ray() -> None:
    labels = {"zone": "a"}
    for good in ({"zone": "a"}, {"zone": "in(a,b)"}, {"zone": "!b"}, {"zone": "!in(b, c)"}, {"other": "!x"}, {}):
        assert matches(good, labels), good
    for bad in ({"zone": "b"}, {"zone": "in(b,c)"}, {"zone": "!a"}, {"zone": "!in(a)"}, {"other": "x"}):
        assert not matches(bad, labels), bad
