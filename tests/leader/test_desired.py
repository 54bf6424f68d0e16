"""What should live, and who watches what: pure functions."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from inprocess import fleet_doc, fleet_of, plan_of

from raycp.base.keys import GVK
from raycp.config import TIERS, FleetDoc
from raycp.leader.desired import assign_shards, wanted_members
from raycp.shard.routes import children_of, routes_of

names = st.lists(st.integers(0, 40).map(lambda n: f"c{n}"), unique=True, min_size=1, max_size=25)
CONFIGMAP, SECRET = GVK("", "v1", "ConfigMap"), GVK("", "v1", "Secret")


@given(names, st.integers(1, 8), st.dictionaries(st.integers(0, 40).map(lambda n: f"c{n}"), st.integers(0, 9).map(str)))
def test_clusters_are_spread_within_bounds_and_stay_where_they_are(clusters: list[str], most: int, before: dict[str, str]) -> None:
    placed = assign_shards(clusters, most, before)
    sizes = {shard: list(placed.values()).count(shard) for shard in placed.values()}
    assert set(placed) == set(clusters)
    assert max(sizes.values()) <= most
    known = {shard: [c for c in clusters if before.get(c) == shard] for shard in set(before.values())}
    for shard, members in known.items():
        assert sum(placed[cluster] == shard for cluster in members) >= min(len(members), most), "moved without need"
    assert assign_shards(clusters, most, placed) == placed, "the same again changes nothing"
    if not before:
        assert len(sizes) == -(-len(clusters) // most)


@given(names, st.integers(1, 4), st.integers(0, 24))
def test_one_cluster_more_or_less_moves_no_other(clusters: list[str], most: int, which: int) -> None:
    placed = assign_shards(clusters, most, {})
    gone = clusters[which % len(clusters)]
    rest = [cluster for cluster in clusters if cluster != gone]
    if rest:
        fewer = assign_shards(rest, most, placed)
        assert fewer == {cluster: placed[cluster] for cluster in rest}
        again = assign_shards(clusters, most, fewer)
        assert {cluster: again[cluster] for cluster in rest} == fewer


def doc_with(**spec: Any) -> FleetDoc:
    return fleet_doc(["hub", "east"], ["fleet_samples:tracked"], **spec)


@given(st.dictionaries(st.sampled_from(TIERS), st.integers(0, 5)), st.integers(1, 4))
def test_pools(pools: dict[str, int], shards: int) -> None:
    doc = doc_with()
    wanted = wanted_members(fleet_of(doc), {str(n) for n in range(shards)}, pools)
    for tier in TIERS:
        number = sum(role == "worker" and place.startswith(f"{tier}/") for role, place in wanted)
        assert number == pools.get(tier, doc.spec.tiers.of(tier).workers.min)
    assert {place for role, place in wanted if role == "embedded"} == {"hub", "east"}
    assert sum(role == "observer" for role, _ in wanted) == 1
    assert sum(role == "shard" for role, _ in wanted) == shards


def prints(doc: FleetDoc) -> dict[tuple[str, str], str]:
    return {slot: want.fingerprint for slot, want in wanted_members(fleet_of(doc), {"0"}, {}).items()}


def test_only_what_needs_it_is_replaced() -> None:
    base = prints(doc_with())
    assert prints(doc_with()) == base
    changed = prints(doc_with(slo=[{"controller": "tracked", "objective": "99%", "within": "1s"}], timeouts={"reconcile": 5}))
    assert changed == base, "objectives and time limits are told, not restarted for"
    slots = prints(doc_with(workers={"slots": 7}))
    assert {slot[0] for slot in base if slots[slot] != base[slot]} == {"worker"}
    port = prints(doc_with(observer={"port": 12345}))
    assert {slot[0] for slot in base if port[slot] != base[slot]} == {"observer"}
    env = prints(doc_with(ray={"env": {"A": "b"}}))
    assert {slot[0] for slot in base if env[slot] != base[slot]} == {"worker", "shard", "standby", "observer", "embedded"}
    pods = prints(fleet_doc(["hub", "east"], ["fleet_samples:tracked"], {"podRuntime": "9s"}))
    assert {slot[0] for slot in base if pods[slot] != base[slot]} == {"embedded"}
    more = prints(fleet_doc(["hub", "east", "west"], ["fleet_samples:tracked"]))
    assert all(more[slot] == base[slot] for slot in base)


def test_variables_reach_all_and_modules_the_workers_only() -> None:
    wanted = wanted_members(fleet_of(doc_with(ray={"env": {"A": "b"}})), {"0"}, {})
    for (role, _), want in wanted.items():
        runtime = want.options.get("runtime_env") or {}
        assert runtime["env_vars"]["A"] == "b"
        assert ("RAYCP_CODE" in runtime["env_vars"]) == (role == "worker")
        json.dumps(want.options)


def test_routes_of_one_controller() -> None:
    plan = plan_of({"hub": "0", "east": "0", "west": "1"}, "tracked")
    routes = routes_of(plan, ["hub", "east"])
    assert routes["hub"] == {}
    assert set(routes) == {"hub", "east"}
    route = routes["east"][CONFIGMAP]
    assert route.label_selector == "app=tracked", "the server filters"
    assert [primary.selector for primary in route.primaries] == [None]


def test_two_controllers_of_one_kind_share_a_reflector_and_filter_here() -> None:
    routes = routes_of(plan_of({"hub": "0", "east": "0"}, "tracked", "plain", "everything"), ["east"])
    route = routes["east"][CONFIGMAP]
    assert route.label_selector == ""
    by_name = {primary.controller.name: primary.selector for primary in route.primaries}
    tracked, plain = by_name["tracked"], by_name["plain"]
    assert tracked is not None
    assert plain is not None
    assert tracked.matches({"app": "tracked"})
    assert not tracked.matches({"app": "plain"})
    assert by_name["everything"] is None


def test_children_in_members_are_found_by_label_and_only_in_members() -> None:
    plan = plan_of({"hub": "0", "east": "0", "west": "1"}, "remote")
    here, there = routes_of(plan, ["hub", "east"]), routes_of(plan, ["west"])
    assert set(here["hub"]) == {CONFIGMAP}
    for route in (here["east"][SECRET], there["west"][SECRET]):
        assert route.label_selector == "raycp.io/owner-uid"
        assert [owned.remote for owned in route.owned] == [True]
    places = children_of(plan, ["hub", "east"])["remote", "hub"]
    assert [(place.kind, place.clusters) for place in places] == [(SECRET, ("east",))]


def test_a_fleet_of_one_cluster_is_its_own_hub() -> None:
    plan = plan_of({"here": "0"}, "remote", "parent")
    routes = routes_of(plan, ["here"])["here"]
    assert {(o.controller.name, o.remote) for o in routes[SECRET].owned} == {("remote", False), ("parent", False)}
    assert routes[SECRET].label_selector == ""
