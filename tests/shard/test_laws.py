"""Laws 1 and 2 under any order of changes and deaths: no key in two workers at once, and every change is seen in the end."""

import asyncio
from typing import Any

import fleet_samples as samples
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from inprocess import Stack, stack, until

KEYS = ["a", "b", "c"]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sampled_from(KEYS)),
        st.tuples(st.just("change"), st.sampled_from(KEYS)),
        st.tuples(st.just("delete"), st.sampled_from(KEYS)),
        st.tuples(st.just("break the link"), st.just("")),
        st.tuples(st.just("kill worker"), st.just("")),
        st.tuples(st.just("kill shard"), st.just("")),
        st.tuples(st.just("close watches"), st.just("")),
        st.tuples(st.just("wait"), st.just("")),
    ),
    min_size=3,
    max_size=14,
)


@given(what=steps)
@example(what=[("change", "a"), ("wait", ""), ("kill shard", ""), ("change", "a"), ("kill worker", ""), ("change", "b")])
@example(what=[("change", "a"), ("wait", ""), ("kill worker", ""), ("delete", "a"), ("change", "a"), ("break the link", "")])
@example(what=[("change", "a"), ("kill worker", ""), ("kill worker", ""), ("kill worker", ""), ("change", "a")])
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # a failure takes seconds: no time to make it smaller
)
def test_every_change_is_reconciled_and_no_key_runs_twice_at_once(what: list[tuple[str, str]]) -> None:
    asyncio.run(_live(what))


async def _live(what: list[tuple[str, str]]) -> None:
    async with stack(["tracked"], workers=2) as fleet:
        samples.DELAY = 0.02
        truth: dict[str, dict[str, str]] = {}
        for number, (step, key) in enumerate(what):
            await _step(fleet, step, key, number, truth)
        await fleet.new_quarantine()  # as a leader does: what may have ended two workers runs alone
        await fleet.configure()
        for key in KEYS:
            # What a reconcile saw last is what is.
            wanted = [truth[key]] if key in truth else [{}, None]
            await until(lambda: _last(key) in wanted, 10.0, f"{key} of {truth}")  # noqa: B023
        await until(lambda: not +samples.RUNNING)
        assert not samples.OVERLAPS


def _last(key: str) -> dict[str, Any] | None:
    return next((data for _, name, data in reversed(samples.SEEN) if name == key), None)


async def _step(fleet: Stack, step: str, key: str, number: int, truth: dict[str, dict[str, str]]) -> None:
    if step == "change":
        truth[key] = {"n": str(number)}
        await fleet.put("here", "tracked", key, n=str(number))
    elif step == "delete" and key in truth:
        # Observed and reconciled before anything else happens: a later primary can't know of deleted objects.
        await until(lambda: _last(key) is not None and fleet.shard().caches.clusters["here"].synced)
        del truth[key]
        await fleet.clusters["here"].api.delete("configmaps", "default", key)
        await until(lambda: _last(key) == {})
    elif step == "break the link":
        for core in fleet.substrate.living("worker"):
            for link in core.links.values():
                link.reset()
    elif step == "kill worker":
        slot = next(slot for slot in fleet.members if slot[0] == "worker")
        await fleet.kill(*slot)
        await fleet.new_worker()
        await fleet.configure()
    elif step == "kill shard":
        await fleet.kill("shard", "0")
        await fleet.new_shard("0")
        await fleet.configure()
    elif step == "close watches":
        for watch in list(fleet.clusters["here"].verbs.watches):
            watch.stop()
    else:
        await asyncio.sleep(0.03)
