"""Capacity: from nodes and Pods to a summary, room on whole nodes only, exact undoing."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.base.quantities import QuantityError, parse_quantity, shown_quantity
from raycp.scheduling.accumulator import MAX_BINS, MAX_GROUPS, ClusterCapacity, NodeState, PodState
from raycp.scheduling.capacity import CapacitySummary, DeclaredNodes, declared_capacity
from raycp.scheduling.labels import TaintSpec, TolerationSpec
from raycp.scheduling.podrequests import pod_requests
from raycp.scheduling.rooms import ClusterRoom, PodShape


def node(cpu: int = 4000, **fields: Any) -> NodeState:
    return NodeState({"cpu": cpu, "pods": 110}, **fields)


@pytest.mark.parametrize(
    ("value", "resource", "expected"),
    [
        ("500m", "cpu", 500),
        (2, "cpu", 2000),
        ("0.1", "cpu", 100),
        ("1.5Gi", "memory", 3 << 29),
        ("1e3", "", 1000),
        ("100m", "memory", 1),
    ],
)
def test_quantities(value: object, resource: str, expected: int) -> None:
    assert parse_quantity(value, resource) == expected


@pytest.mark.parametrize("value", ["", "x", "-1", "1KiB", True, None, "9" * 40, "1e99", [], float("nan")])
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(value)


def test_quantities_for_people() -> None:
    assert [shown_quantity(2500, "cpu"), shown_quantity(3 << 29, "memory"), shown_quantity(8, "nvidia.com/gpu")] == [
        "2.5",
        "1.5Gi",
        "8",
    ]


def test_a_pod_requests_its_containers_or_the_largest_init_container_with_the_sidecars_before_it() -> None:
    def container(cpu: str, **more: Any) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "initContainers": [container("1", restartPolicy="Always"), container("4")],
        "containers": [container("1"), {"resources": {"limits": {"cpu": "500m", "nvidia.com/gpu": 2}}}],
        "overhead": {"cpu": "100m"},
    }
    assert pod_requests(spec) == {"pods": 1, "cpu": 5100, "nvidia.com/gpu": 2}
    with pytest.raises(QuantityError, match=r"containers\[0\]\.resources\.requests\.cpu"):
        pod_requests({"containers": [container("a lot")]})


def test_foreign_pods_and_daemon_sets_count_and_cordoned_nodes_take_none() -> None:
    capacity = ClusterCapacity("c")
    capacity.set_node("n1", node())
    capacity.set_node("n2", node(takes_pods=False))
    capacity.set_pod("p1", PodState({"cpu": 1500, "pods": 1}, "n1"))
    capacity.set_pod("p2", PodState({"cpu": 1000, "pods": 1}))
    capacity.set_pod("p3", PodState({"cpu": 1000, "pods": 1}, "n1", "job-1"))
    found = capacity.summary()
    assert found.room({"cpu": 1000}, {}, ()) == 2  # not 3: 2500 are free on one node; an admitted job has its room by its record
    assert (found.jobs, found.pending[0].count, found.groups[0].nodes) == ({"job-1": 1}, 1, 2)
    capacity.set_pod("p2", PodState({"cpu": 1000, "pods": 1}, "n1"))
    capacity.remove_pod("p1")
    capacity.remove_pod("p1")
    assert capacity.summary().room({"cpu": 1000}, {}, ()) == 3
    capacity.remove_node("n1")
    assert capacity.summary().room({"cpu": 1000}, {}, ()) == 0


def test_taints_and_labels_of_nodes() -> None:
    capacity = ClusterCapacity("c")
    capacity.set_node("gpu", node(labels={"kind": "gpu"}, taints=(TaintSpec("gpu"),)))
    capacity.set_node("cpu", node(labels={"kind": "cpu"}))
    found = capacity.summary()
    assert found.room({"cpu": 4000}, {}, ()) == 1
    assert found.room({"cpu": 4000}, {}, (TolerationSpec("gpu", "Exists"),)) == 2
    assert found.room({"cpu": 4000}, {"kind": "gpu"}, ()) == 0


def test_nodes_that_differ_by_some_memory_keep_their_labels() -> None:
    """Machines of one kind never have the same ``allocatable``."""
    cluster = ClusterCapacity("c")
    for number in range(200):
        labels = {"kubernetes.io/hostname": f"n{number}", "gpu": "yes" if number % 4 else "no", "zone": f"z{number % 3}"}
        cluster.set_node(f"n{number}", NodeState({"cpu": 64_000, "memory": 270_000_000_000 + 4096 * number, "pods": 110}, labels))
    summary = cluster.summary()
    assert len(summary.groups) <= 64
    assert summary.unknown_labels == ["kubernetes.io/hostname"]
    room = ClusterRoom(summary)
    assert room.room(PodShape.of({"cpu": 64_000, "pods": 1}, {"gpu": "yes"}, ())) == 150
    assert room.room(PodShape.of({"memory": 260_000_000_000, "pods": 1}, {"gpu": "no", "zone": "z0"}, ())) == 17
    assert room.room(PodShape.of({"memory": 270_000_000_000 + 4096 * 200, "pods": 1}, {}, ())) == 0


def test_a_summary_stays_small_and_never_promises_too_much() -> None:
    capacity = ClusterCapacity("c")
    rnd = random.Random(1)
    exact = 0
    for number in range(500):
        labels = {"kubernetes.io/hostname": f"n{number}", "rack": f"r{number % 100}", "zone": f"z{number % 3}"}
        capacity.set_node(f"n{number}", node(4000, labels=labels))
        taken = rnd.randint(1, 3999)
        exact += (4000 - taken) // 700
        capacity.set_pod(f"p{number}", PodState({"cpu": taken, "pods": 1}, f"n{number}"))
    found = capacity.summary()
    assert len(found.groups) <= MAX_GROUPS
    assert all(len(each.bins) <= MAX_BINS + 1 for each in found.groups)
    assert found.unknown_labels == ["kubernetes.io/hostname", "rack"]
    assert len(msgspec.msgpack.encode(found)) < 20_000
    assert 0.7 * exact < found.room({"cpu": 700, "pods": 1}, {}, ()) <= exact
    assert found.room({"cpu": 700, "pods": 1}, {"zone": "z1"}, ()) > 0
    assert found.room({"cpu": 700, "pods": 1}, {"rack": "r7"}, ()) > 0, "a label that is not told apart does not exclude"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=CapacitySummary) == found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 6), st.booleans()), max_size=20))
def test_room_is_what_is_free_and_undone_exactly(grants: list[tuple[int, int, bool]]) -> None:
    room = ClusterRoom(declared_capacity("c", [DeclaredNodes(3, {"cpu": 4}), DeclaredNodes(1, {"cpu": 7})]))
    whole = {size: room.room(PodShape.of({"cpu": size}, {}, ())) for size in (1, 2, 3)}
    assert whole == {1: 19, 2: 9, 3: 5}
    given_out: dict[str, int] = {}
    for number, (size, count, back) in enumerate(grants):
        shape = PodShape.of({"cpu": size}, {}, ())
        before = room.room(shape)
        got = room.grant(f"g{number}", shape, count)
        assert got == min(count, before)
        if back:
            room.revoke(f"g{number}")
            assert room.room(shape) == before
        else:
            given_out[f"g{number}"] = got * size
        assert room.room(PodShape.of({"cpu": 1}, {}, ())) == 19 - sum(given_out.values())
    for key in given_out:
        room.revoke(key)
    assert whole == {size: room.room(PodShape.of({"cpu": size}, {}, ())) for size in (1, 2, 3)}


def test_what_is_pending_takes_room_too() -> None:
    capacity = ClusterCapacity("c")
    capacity.set_node("n", node())
    capacity.set_pod("p", PodState({"cpu": 3000, "pods": 1}))
    room = ClusterRoom(capacity.summary())
    assert room.room(PodShape.of({"cpu": 1000, "pods": 1}, {}, ())) == 1
