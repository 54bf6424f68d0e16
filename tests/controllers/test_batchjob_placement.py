"""From a manifest to clusters: what ``spec.placement`` says is what the controller and the scheduler do, checked by rules of the
tests' own."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.controllers.batchjob.job import Job, JobCluster
from raycp.controllers.batchjob.placementtypes import rules_of
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.specs import read_spec
from raycp.kube.codec import decode_object
from raycp.scheduler.jobs import JobNotReadable, ScheduledJob
from raycp.scheduling import Candidate
from raycp.scheduling.admission import Admission
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity
from raycp.scheduling.labels import TaintSpec

NOW = 1_700_000_000.0
TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}


def manifest(placement: dict[str, Any], **spec: Any) -> dict[str, Any]:
    meta = {"name": "j", "namespace": "default", "uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {
        "apiVersion": "batch.raycp.io/v1alpha1",
        "kind": "BatchJob",
        "metadata": meta,
        "spec": {"template": TEMPLATE, "placement": placement, **spec},
    }


def cluster(name: str, taints: tuple[TaintSpec, ...] = (), **labels: str) -> JobCluster:
    return JobCluster(name, labels, taints=taints)


def placed(clusters: list[JobCluster], placement: dict[str, Any], pods: int) -> dict[str, int]:
    """Where the controller makes the Pods of a job that no scheduler has to admit."""
    spec = read_spec(manifest(placement, parallelism=pods))
    return dict(Counter(create.cluster for create in plan(Job("u", spec), [], clusters, NOW).creates))


def admitted(clusters: list[JobCluster], rooms: dict[str, int], placement: dict[str, Any], **spec: Any) -> dict[str, int]:
    """Where the scheduler admits them."""
    admission = Admission()
    for each in clusters:
        capacity = declared_capacity(each.name, [DeclaredNodes(1, {"cpu": 1, "pods": rooms.get(each.name, 100)})])
        admission.set_cluster(Candidate(each.name, each.labels, taints=each.taints), capacity, NOW)
    job = ScheduledJob(decode_object(msgspec.json.encode(manifest(placement, **spec))))
    admission.submit(job.demand("", 0, NOW), None, NOW)
    made = admission.decide(NOW)
    return made[0].record.clusters if made else {}


FLEET = [
    cluster("e1", region="east", zone="e-a", price="3"),
    cluster("e2", region="east", zone="e-b", price="1"),
    cluster("w1", region="west", zone="w-a", price="2", gpu="a100"),
    cluster("s1", (TaintSpec("spot", "true"),), region="south", zone="s-a", price="0.1"),
]


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


@pytest.mark.parametrize(
    ("placement", "clusters"),
    [
        ({}, {"e1", "e2", "w1"}),
        ({"clusters": ["w1", "e2"]}, {"w1", "e2"}),
        ({"clusterSelector": {"region": "east"}}, {"e1", "e2"}),
        (
            {
                "affinities": [
                    {"name": "a", "labelSelector": expression("region", "In", "north")},
                    {"name": "b", "clusters": ["w1"]},
                ]
            },
            {"w1"},
        ),
        ({"affinities": [{"name": "a", "labelSelector": expression("gpu", "Exists")}, {"name": "b", "clusters": ["e1"]}]}, {"w1"}),
        ({"affinities": [{"name": "a", "labelSelector": expression("gpu", "DoesNotExist")}]}, {"e1", "e2"}),
        ({"affinities": [{"name": "a", "labelSelector": expression("region", "NotIn", "east")}]}, {"w1"}),
        ({"affinities": [{"name": "a", "labelSelector": {"matchLabels": {"region": "east"}}, "clusters": ["e2", "w1"]}]}, {"e2"}),
        ({"tolerations": [{"key": "spot", "value": "true"}], "clusterSelector": {"region": "south"}}, {"s1"}),
        ({"tolerations": [{"key": "spot", "value": "false"}], "clusterSelector": {"region": "south"}}, set()),
        ({"strategy": "Pack", "cost": {"weight": 100, "label": "price"}}, {"e2"}),
        ({"strategy": "Pack", "cost": {"weight": 100, "label": "price"}, "tolerations": [{"operator": "Exists"}]}, {"s1"}),
        ({"strategy": "Pack", "preferences": [{"weight": 50, "preference": expression("gpu", "Exists")}]}, {"w1"}),
        ({"strategy": "Single", "preferences": [{"weight": -50, "preference": expression("region", "In", "east")}]}, {"w1"}),
        ({"weights": {"e1": 0, "w1": 0}}, {"e2"}),
    ],
)
def test_what_a_manifest_says_is_what_controller_and_scheduler_do(placement: dict[str, Any], clusters: set[str]) -> None:
    found = placed(FLEET, placement, 12)
    assert set(found) == clusters
    assert sum(found.values()) == (12 if clusters else 0)
    assert set(admitted(FLEET, {}, placement, parallelism=12, gang={})) == clusters


def test_weighted_follows_weights_and_free_room_where_it_is_known() -> None:
    two = [cluster("a"), cluster("b")]
    placement = {"strategy": "Weighted", "weights": {"a": 3}}
    assert admitted(two, {"a": 10, "b": 30}, placement, parallelism=20, gang={}) == {"a": 10, "b": 10}
    assert placed(two, placement, 20) == {"a": 15, "b": 5}, "the controller knows no room"


@pytest.mark.parametrize(("policy", "counts"), [("DoNotSchedule", {"a": 3, "b": 2}), ("ScheduleAnyway", {"a": 8, "b": 2})])
def test_a_spread_constraint_holds_or_gives_way(policy: str, counts: dict[str, int]) -> None:
    two = [cluster("a", zone="z1"), cluster("b", zone="z2")]
    placement = {"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": policy}]}
    assert admitted(two, {"a": 20, "b": 2}, placement, parallelism=10, gang={"minAvailable": 5}) == counts


def test_clusters_without_domain_get_none_or_come_last() -> None:
    two = [cluster("a", zone="z1"), cluster("b")]
    placement: dict[str, Any] = {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 100}]}
    assert placed(two, placement, 6) == {"a": 6}
    placement["topologySpreadConstraints"][0]["whenUnsatisfiable"] = "ScheduleAnyway"
    assert admitted(two, {"a": 4}, placement, parallelism=6, gang={}) == {"a": 4, "b": 2}


def test_a_job_that_says_nothing_is_placed_as_before() -> None:
    rules = rules_of(read_spec({"metadata": {"name": "j"}, "spec": {"template": TEMPLATE}}).placement)
    assert rules == type(rules)()


def test_a_placement_that_no_server_should_have_taken_is_told_by_its_path() -> None:
    wrong = manifest({"affinities": [{"name": "a", "clusters": 5}]})
    with pytest.raises(JobNotReadable, match=r"spec\.placement\.affinities\.0\.clusters: "):
        ScheduledJob(decode_object(msgspec.json.encode(wrong)))


KEYS, VALUES = ["region", "tier"], ["x", "y"]
LABELS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
TAINTS = st.lists(
    st.builds(TaintSpec, st.sampled_from(["t", "u"]), st.sampled_from(["", "v"]), st.sampled_from(["NoSchedule", "NoExecute"])),
    max_size=2,
)


@st.composite
def expressions(draw: st.DrawFn) -> dict[str, Any]:
    operator = draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]))
    values = draw(st.lists(st.sampled_from(VALUES), min_size=1, unique=True)) if operator in ("In", "NotIn") else None
    return {"key": draw(st.sampled_from(KEYS)), "operator": operator, **({"values": values} if values else {})}


@st.composite
def selectors(draw: st.DrawFn) -> dict[str, Any]:
    return {"matchLabels": draw(LABELS), "matchExpressions": draw(st.lists(expressions(), max_size=2))}


@st.composite
def placements(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {"strategy": draw(st.sampled_from(["Spread", "Pack", "Weighted"]))}
    names = st.lists(st.sampled_from([f"c{n}" for n in range(5)]), unique=True, max_size=4)
    made["clusters"] = draw(names)
    made["clusterSelector"] = draw(st.one_of(st.just({}), LABELS))
    made["weights"] = draw(st.dictionaries(st.sampled_from(["c0", "c1"]), st.integers(0, 3)))
    groups = draw(st.lists(st.tuples(names, selectors()), max_size=3))
    made["affinities"] = [{"name": f"g{at}", "clusters": few, "labelSelector": each} for at, (few, each) in enumerate(groups)]
    made["tolerations"] = draw(
        st.lists(
            st.sampled_from(
                [
                    {"operator": "Exists"},
                    {"key": "t", "operator": "Exists"},
                    {"key": "u", "value": "v", "effect": "NoSchedule"},
                    {"key": "t", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
                ]
            ),
            max_size=2,
        )
    )
    skew = {"topologyKey": "region", "maxSkew": draw(st.integers(1, 2))}
    skew["whenUnsatisfiable"] = draw(st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]))
    made["topologySpreadConstraints"] = draw(st.sampled_from([[], [skew]]))
    return made


def selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector["matchLabels"].items()):
        return False
    for each in selector["matchExpressions"]:
        has, value = each["key"] in labels, labels.get(each["key"])
        wanted = {"In": value in each.get("values", ()), "NotIn": value not in each.get("values", ()), "Exists": has}
        if not wanted.get(each["operator"], not has):
            return False
    return True


def tolerated(taint: TaintSpec, tolerations: list[dict[str, Any]]) -> bool:
    for each in tolerations:
        key = not each.get("key") or each["key"] == taint.key
        value = each.get("operator") == "Exists" or each.get("value", "") == taint.value
        effect = not each.get("effect") or each["effect"] == taint.effect
        if key and value and effect and "tolerationSeconds" not in each:
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(placements(), st.lists(st.tuples(LABELS, TAINTS, st.integers(0, 6)), min_size=1, max_size=5), st.integers(1, 12))
def test_no_pod_is_where_its_manifest_does_not_allow_it(
    placement: dict[str, Any], shapes: list[tuple[dict[str, str], list[TaintSpec], int]], pods: int
) -> None:
    fleet = [cluster(f"c{at}", tuple(taints), **labels) for at, (labels, taints, _) in enumerate(shapes)]
    rooms = {f"c{at}": room for at, (*_, room) in enumerate(shapes)}
    ways = [placed(fleet, placement, pods), admitted(fleet, rooms, placement, parallelism=pods, gang={"minAvailable": 1})]
    for way in ways:
        fits = {
            each.name
            for each in fleet
            if (not placement["clusters"] or each.name in placement["clusters"])
            and all(each.labels.get(key) == value for key, value in placement["clusterSelector"].items())
            and placement["weights"].get(each.name, 1)
            and all(tolerated(taint, placement["tolerations"]) for taint in each.taints)
        }
        groups = [
            {
                each.name
                for each in fleet
                if (not group["clusters"] or each.name in group["clusters"]) and selected(group["labelSelector"], dict(each.labels))
            }
            for group in placement["affinities"]
        ] or [{each.name for each in fleet}]
        assert any(set(way) <= fits & group for group in groups), "all in one group"
        hard = [each for each in placement["topologySpreadConstraints"] if each["whenUnsatisfiable"] == "DoNotSchedule"]
        regions = {each.name: each.labels.get("region") for each in fleet}
        for each in hard:
            assert None not in {regions[name] for name in way}
            counts: Counter[str | None] = Counter()
            for name, count in way.items():
                counts[regions[name]] += count
            assert max(counts.values(), default=0) - min(counts.values(), default=0) <= each["maxSkew"]
    if not any(fits & group for group in groups):
        assert ways == [{}, {}]
    elif not hard:
        assert sum(ways[0].values()) == pods, "no room is known there, so that all have a place"
        most = max(sum(rooms[name] for name in fits & group) for group in groups)
        assert sum(ways[1].values()) == min(pods, most)
