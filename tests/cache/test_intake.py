"""The rules of a cluster's event budget, and what folding keeps."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from manual_clock import ManualClock

from raycp.base.events import Event, Source
from raycp.cache import EventBudget, Store
from raycp.cache.intake import DEBOUNCE, folded
from raycp.kube.codec import decode_watch_lines

NAMES = ["a", "b", "c"]


def history(steps: list[tuple[str, str]]) -> list[bytes]:
    """What a server sends: each object is created, changed, deleted and created anew; ``bookmark`` for any name."""
    lines: list[bytes] = []
    uids: dict[str, str] = {}
    for rv, (what, name) in enumerate(steps, 100):
        meta: dict[str, Any] = {"name": name, "namespace": "ns", "resourceVersion": str(rv)}
        if what == "bookmark":
            lines.append(json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(rv)}}}).encode())
        elif what == "garbage":
            lines.append(b"garbage")
        elif what == "change":
            kind = "MODIFIED" if name in uids else "ADDED"
            uids.setdefault(name, f"{name}-{rv}")
            lines.append(json.dumps({"type": kind, "object": {"metadata": {**meta, "uid": uids[name]}}}).encode())
        elif name in uids:
            lines.append(json.dumps({"type": "DELETED", "object": {"metadata": {**meta, "uid": uids.pop(name)}}}).encode())
    return lines


def applied(lines: list[bytes]) -> tuple[Store, list[Event]]:
    store, events = Store(), []
    for line in lines:
        for kind, obj in decode_watch_lines([line]).changes:
            events += store.apply(kind, obj, Source.WATCH, 0.0)
    return store, events


def arrive(budget: EventBudget, lines: int) -> None:
    """As a reflector does it."""
    budget.tokens -= lines
    if budget.tokens < 0 or budget.flooded:
        budget.arrived(lines)


what = st.sampled_from(["change", "change", "change", "delete", "bookmark", "garbage"])


@given(st.lists(st.tuples(what, st.sampled_from(NAMES)), max_size=60), st.integers(0, 60))
async def test_folded_lines_lead_to_the_same_cache(steps: list[tuple[str, str]], begin: int) -> None:
    lines = history(steps)
    known, rest = lines[:begin], lines[begin:]
    fewer = await folded(rest)
    assert [line for line in rest if line in set(fewer)] == fewer or len(set(rest)) < len(rest), "in their order"
    full, _ = applied(lines)
    less, _ = applied([*known, *fewer])
    assert {(obj.meta.name, obj.meta.uid, obj.rv) for obj in less} == {(obj.meta.name, obj.meta.uid, obj.rv) for obj in full}
    assert less.rv == full.rv
    assert fewer.count(b"garbage") == rest.count(b"garbage"), "not for it to judge"


@given(st.lists(st.tuples(what, st.sampled_from(NAMES)), max_size=60))
async def test_an_object_that_was_known_and_is_deleted_is_announced_as_deleted_before_its_successor(
    steps: list[tuple[str, str]],
) -> None:
    known = history([("change", name) for name in NAMES])
    lines = [line.replace(b'"resourceVersion": "1', b'"resourceVersion": "9') for line in history(steps)]
    store, _ = applied(known)
    first = {obj.meta.name: obj.meta.uid for obj in store}
    deletions = [
        json.dumps({"type": "DELETED", "object": {"metadata": {"name": n, "namespace": "ns", "uid": u, "resourceVersion": "200"}}})
        for n, u in first.items()
    ]
    _, events = applied([*known, *(await folded([*(line.encode() for line in deletions), *lines]))])
    told = [(event.type.value, event.obj.meta.name) for event in events[len(NAMES) :]]
    for name in NAMES:
        own = [kind for kind, each in told if each == name]
        assert own[0] == "deleted"
        assert all(before != after or before == "modified" for before, after in pairwise(own))


def test_a_cluster_within_its_budget_is_not_flooded_and_one_beyond_it_is_until_it_is_quiet() -> None:
    clock = ManualClock()
    budget = EventBudget(clock, 100.0)
    for _ in range(100):  # exactly the rate
        clock.time += 0.1
        arrive(budget, 10)
    assert not budget.flooded
    arrive(budget, 150)
    assert not budget.flooded, "twice the rate at once"
    arrive(budget, 150)
    assert budget.flooded
    for _ in range(50):
        clock.time += 0.1
        arrive(budget, 50)
        assert budget.flooded
        assert budget.processed(1, 50) >= DEBOUNCE
    assert budget.folded == 50 * 49
    clock.time += 1.0
    arrive(budget, 1)
    assert budget.flooded
    clock.time += 1.0
    assert not budget.review(), "also when nothing arrives any more"
    arrive(budget, 1)
    assert not budget.flooded


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 500), st.floats(0.0, 1.0)), max_size=60))
def test_in_a_flood_no_more_is_processed_than_the_budget_has(batches: list[tuple[float, int, float]]) -> None:
    """Of what is left after folding, over any time: the rate, twice it at once, and one batch."""
    clock = ManualClock()
    budget = EventBudget(clock, 100.0)
    begun, processed = clock.time, 0.0
    for pause, lines, kept in batches:
        clock.time += pause
        arrive(budget, lines)
        if budget.flooded:
            left = max(1, int(lines * kept))
            clock.time += budget.processed(left, lines)
            processed += left
        else:
            processed += lines
        assert processed <= 200.0 + 500.0 + 100.0 * (clock.time - begun) + 1.0
