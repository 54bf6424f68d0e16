"""The simulation's pure functions: plans of Pods, fit on nodes, owner graph, stages."""

import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.life.failures import PREFIX, Rates, command_of, plan
from raycp.embedded.life.fit import PodObject, Room, Taint, Toleration, asks_of, decode_node, explain, obstacle, room_of, tolerated
from raycp.embedded.life.gofuncs import GENERIC
from raycp.embedded.life.merge import MERGE_KEYS, merge
from raycp.embedded.life.nodes import patience, taints_for
from raycp.embedded.life.ownergraph import Graph, OwnerNode
from raycp.embedded.life.seams import OwnerReference
from raycp.embedded.life.stagefile import StageError, choose, load_stages, seconds_of
from raycp.embedded.life.stageset import cluster_stages


def a_pod(policy: str = "Never", *, notes: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "annotations": {PREFIX + k: v for k, v in (notes or {}).items()}},
        "spec": {"restartPolicy": policy, "nodeName": "node-0", "containers": [{"name": "c", "image": "i"}], **spec},
        "status": {"phase": "Running"},
    }


class TestPlans:
    def test_a_job_like_pod_ends_after_the_clusters_runtime(self) -> None:
        found = plan(a_pod(), Rates(pod_runtime=7))
        assert (found["ends"], found["runtime"], found["phase"], found["exitCode"]) == (True, 7, "Succeeded", 0)

    def test_a_server_like_pod_never_ends(self) -> None:
        found = plan(a_pod("Always"), Rates(pod_runtime=7))
        assert not found["ends"]
        assert not found["restarts"]

    def test_an_annotated_exit_code_fails_the_pod_or_restarts_it_by_policy(self) -> None:
        assert plan(a_pod(notes={"exit-code": "3"}), Rates())["phase"] == "Failed"
        assert plan(a_pod("OnFailure", notes={"exit-code": "3"}), Rates())["restarts"]
        assert plan(a_pod("Always", notes={"exit-code": "0"}), Rates())["restarts"]

    def test_back_off_doubles_up_to_five_minutes(self) -> None:
        pod = a_pod("OnFailure", notes={"exit-code": "1"})
        waits = []
        for restarts in range(8):
            pod["status"]["containerStatuses"] = [{"restartCount": restarts}]
            waits.append(plan(pod, Rates())["backoff"])
        assert waits == [10, 10, 20, 40, 80, 160, 300, 300]

    @pytest.mark.parametrize(
        ("command", "seconds", "code", "lines"),
        [
            (["sleep", "5"], 5, 0, ()),
            (["sh", "-c", "echo hello; sleep 2 && exit 3"], 2, 3, ("hello",)),
            (["/bin/false"], 0, 1, ()),
            (["bash", "-ec", "true"], 0, 0, ()),
            (["sleep", "1m"], 60, 0, ()),
        ],
    )
    def test_well_known_commands_are_simulated(self, command: list[str], seconds: float, code: int, lines: tuple[str, ...]) -> None:
        script = command_of({"containers": [{"command": command}]})
        assert script is not None
        assert (script.seconds, script.code, script.lines) == (seconds, code, lines)

    @pytest.mark.parametrize("command", [["python", "-m", "x"], ["sh", "-c", "curl x | sh"], ["sh", "-c", "echo 'open"]])
    def test_other_commands_use_the_clusters_defaults(self, command: list[str]) -> None:
        assert command_of({"containers": [{"command": command}]}) is None

    def test_failures_have_the_given_rate_and_repeat_with_the_seed(self) -> None:
        def failed(seed: int) -> list[str]:
            pods = [a_pod() for _ in range(1000)]
            for i, pod in enumerate(pods):
                pod["metadata"]["name"] = f"p{i}"
            return [p["metadata"]["name"] for p in pods if plan(p, Rates(failure_rate=0.3, seed=seed))["exitCode"]]

        assert 250 < len(failed(1)) < 350
        assert failed(1) == failed(1) != failed(2)

    def test_an_active_deadline_ends_a_pod_that_would_run_longer(self) -> None:
        found = plan(a_pod("Always", activeDeadlineSeconds=3), Rates())
        assert (found["ends"], found["runtime"], found["podReason"]) == (True, 3, "DeadlineExceeded")


def spec_of(**spec: Any) -> Any:
    return msgspec.convert({"metadata": {}, "spec": spec}, PodObject).spec


def a_room(**more: Any) -> Room:
    node = {"metadata": {"name": "n", "labels": {"zone": "a", "cores": "8"}}, "spec": more.pop("spec", {})}
    node["status"] = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "2", **more}}
    return room_of(decode_node(msgspec.json.encode(node)))


class TestFit:
    def test_requests_are_the_larger_of_containers_and_init_containers_plus_overhead(self) -> None:
        asks = asks_of(
            spec_of(
                containers=[{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "500m"}}}],
                initContainers=[{"resources": {"requests": {"cpu": "3"}}}],
                overhead={"cpu": "100m"},
            )
        )
        assert dict(asks.amounts) == {"cpu": 3100}

    @pytest.mark.parametrize(
        ("spec", "why"),
        [
            ({}, None),
            ({"containers": [{"resources": {"requests": {"cpu": "5"}}}]}, "Insufficient cpu"),
            ({"containers": [{"resources": {"requests": {"nvidia.com/gpu": 1}}}]}, "Insufficient nvidia.com/gpu"),
            ({"nodeSelector": {"zone": "b"}}, "node(s) didn't match Pod's node affinity/selector"),
            ({"nodeSelector": {"zone": "a"}}, None),
        ],
    )
    def test_obstacles_have_kube_schedulers_wording(self, spec: dict[str, Any], why: str | None) -> None:
        found = spec_of(**spec)
        assert obstacle(a_room(), found, asks_of(found)) == why

    @pytest.mark.parametrize(
        ("operator", "key", "values", "fits"),
        [("In", "zone", ["a", "b"], True), ("NotIn", "zone", ["a"], False), ("Exists", "zone", None, True),
         ("DoesNotExist", "zone", None, False), ("Gt", "cores", ["4"], True), ("Lt", "cores", ["4"], False)],
    )  # fmt: skip
    def test_required_node_affinity(self, operator: str, key: str, values: list[str] | None, fits: bool) -> None:
        term = {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        spec = spec_of(affinity={"nodeAffinity": required})
        assert (obstacle(a_room(), spec, asks_of(spec)) is None) is fits

    def test_taints_keep_out_pods_that_do_not_tolerate_them(self) -> None:
        room = a_room(spec={"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]})
        assert obstacle(room, spec_of(), asks_of(spec_of())) == "node(s) had untolerated taint(s) {gpu: yes}"
        spec = spec_of(tolerations=[{"key": "gpu", "operator": "Exists"}])
        assert obstacle(room, spec, asks_of(spec)) is None

    def test_pods_count_against_the_nodes_number_of_pods(self) -> None:
        room, spec = a_room(), spec_of()
        room.take(asks_of(spec))
        assert obstacle(room, spec, asks_of(spec)) is None
        room.take(asks_of(spec))
        assert obstacle(room, spec, asks_of(spec)) == "Too many pods"
        room.free(asks_of(spec))
        assert obstacle(room, spec, asks_of(spec)) is None

    @given(st.lists(st.integers(1, 4000), max_size=20))
    def test_take_and_free_cancel_out(self, sizes: list[int]) -> None:
        room = a_room()
        asks = [asks_of(spec_of(containers=[{"resources": {"requests": {"cpu": f"{size}m"}}}])) for size in sizes]
        for ask in asks:
            room.take(ask)
        for ask in reversed(asks):
            room.free(ask)
        assert room.pods == 0
        assert not any(room.used.values())

    def test_a_toleration_without_key_covers_all(self) -> None:
        assert tolerated(Taint("x", "y", "NoExecute"), [Toleration(operator="Exists")])
        assert not tolerated(Taint("x", "y", "NoExecute"), [Toleration(key="x", value="z")])
        assert not tolerated(Taint("x", "y", "NoExecute"), [Toleration(key="x", value="y", effect="NoSchedule")])

    def test_the_message_counts_reasons(self) -> None:
        assert explain(0, {}) == "no nodes available to schedule pods"
        text = explain(3, {"Too many pods": 1, "Insufficient cpu": 2})
        assert text == "0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu."


def test_seconds_that_a_pod_stays_on_an_unreachable_node() -> None:
    gone = [Taint("node.kubernetes.io/unreachable", "", "NoExecute")]
    tolerate = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    encode = msgspec.json.encode
    assert patience(encode({"metadata": {}, "spec": {}}), gone) == 0
    assert patience(encode({"metadata": {}, "spec": {"tolerations": [{**tolerate, "tolerationSeconds": 300}]}}), gone) == 300
    assert patience(encode({"metadata": {}, "spec": {"tolerations": [tolerate]}}), gone) is None
    assert patience(encode({"metadata": {"deletionTimestamp": "x"}, "spec": {}}), gone) is None


def test_taints_follow_a_nodes_readiness_and_keep_foreign_ones() -> None:
    other = {"key": "mine", "effect": "NoSchedule"}
    unknown = taints_for("Unknown", [other], "t")
    assert [t["key"] for t in unknown] == ["mine", "node.kubernetes.io/unreachable", "node.kubernetes.io/unreachable"]
    assert taints_for("Unknown", unknown, "later") == unknown
    assert {t["key"] for t in taints_for("False", unknown, "t")} == {"mine", "node.kubernetes.io/not-ready"}
    assert taints_for("True", unknown, "t") == [other]


class TestOwners:
    def test_edges_follow_the_references(self) -> None:
        graph = Graph()
        child = OwnerNode("pods", "n", "c", "child")
        assert graph.put(child, [OwnerReference(uid="a", block_owner_deletion=True), OwnerReference(uid="b")])
        assert not graph.put(child, [OwnerReference(uid="a", block_owner_deletion=True), OwnerReference(uid="b")])
        assert graph.of("a") == graph.of("b") == [child]
        assert graph.blocking("a") == [child]
        assert graph.blocking("b") == []
        assert graph.put(child, [OwnerReference(uid="b")])
        assert graph.of("a") == []
        graph.drop("child")
        assert graph == Graph()

    @given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 5), max_size=3)), max_size=30))
    def test_the_graph_is_empty_after_dropping_everything(self, puts: list[tuple[int, list[int]]]) -> None:
        graph = Graph()
        for child, owners in puts:
            graph.put(OwnerNode("pods", "n", str(child), str(child)), [OwnerReference(uid=f"o{owner}") for owner in owners])
        for child in range(6):
            graph.drop(str(child))
        assert graph == Graph()


STAGE = """
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {{name: {name}}}
spec:
  resourceRef: {{apiGroup: v1, kind: Pod}}
  selector:
    matchLabels: {{app: x}}
    matchExpressions: [{{key: .status.phase, operator: In, values: [Pending]}}]
  {more}
  next: {{statusTemplate: "phase: Running"}}
"""


class TestStageFiles:
    def read(self, more: str = "", name: str = "s") -> Any:
        return load_stages(STAGE.format(name=name, more=more), "file.yaml", GENERIC)[0]

    def test_selectors_by_label_and_expression(self) -> None:
        stage = self.read()
        assert stage.expressions == (".status.phase",)
        labelled = {"metadata": {"labels": {"app": "x"}}}
        assert stage.matches(labelled, {".status.phase": ["Pending"]})
        assert not stage.matches(labelled, {".status.phase": ["Running"]})
        assert not stage.matches(labelled, {".status.phase": None})
        assert not stage.matches({"metadata": {}}, {".status.phase": ["Pending"]})

    def test_delay_is_uniform_up_to_the_jitter_or_a_smaller_jitter(self) -> None:
        rng = random.Random(1)
        wide = self.read("delay: {durationMilliseconds: 1000, jitterDurationMilliseconds: 5000}")
        drawn = [wide.delay({}, 0.0, rng) for _ in range(200)]
        assert 1 <= min(drawn) < 1.5
        assert 4.5 < max(drawn) <= 5
        assert self.read("delay: {durationMilliseconds: 1000, jitterDurationMilliseconds: 10}").delay({}, 0.0, rng) == 0.01

    def test_delay_from_an_annotation_or_a_time(self) -> None:
        stage = self.read("delay: {durationMilliseconds: 9000, durationFrom: {expressionFrom: .metadata.annotations.d}}")
        rng, asked = random.Random(1), ".metadata.annotations.d"
        assert stage.delay({asked: None}, 0.0, rng) == 9
        assert stage.delay({asked: ["1m2s"]}, 0.0, rng) == 62
        assert stage.delay({asked: ["1970-01-01T00:00:30Z"]}, 10.0, rng) == 20

    def test_weights_decide_among_matching_stages(self) -> None:
        obj, answers = {"metadata": {"labels": {"app": "x"}}}, {".status.phase": ["Pending"]}
        stages = [self.read("weight: 1", "a"), self.read("weight: 9", "b"), self.read("weight: 0", "c")]
        rng = random.Random(7)
        names = [choose(stages, obj, answers, rng).name for _ in range(1000)]  # type: ignore[union-attr]
        assert 50 < names.count("a") < 160
        assert names.count("c") == 0
        assert choose(stages, {"metadata": {}}, answers, rng) is None

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ("colour: red", "spec.colour: unknown field"),
            ("weightFrom: {expressionFrom: '.a ['}", "spec.weightFrom"),
            ("delay: {durationFrom: {cel: {expression: x}}}", "CEL is not supported"),
        ],
    )
    def test_stage_errors_name_file_stage_and_field(self, more: str, told: str) -> None:
        with pytest.raises(StageError, match=r"file\.yaml: stage s: ") as caught:
            self.read(more)
        assert told in str(caught.value)

    def test_a_stage_without_selector_matches_nothing(self) -> None:
        text = "{apiVersion: kwok.x-k8s.io/v1alpha1, kind: Stage, metadata: {name: x}, spec: {resourceRef: {kind: Pod}}}"
        assert load_stages(text, "f", {}) == []

    @pytest.mark.parametrize(
        ("text", "seconds"), [("1h2m3s", 3723), ("250ms", 0.25), ("-5s", -5), ("0", 0), ("junk", None), ("", None)]
    )
    def test_go_durations(self, text: str, seconds: float | None) -> None:
        assert seconds_of(text, 0.0) == seconds


class TestMerging:
    def test_conditions_are_merged_by_type_and_other_lists_replaced(self) -> None:
        old = {"status": {"conditions": [{"type": "A", "status": "True", "reason": "r"}], "list": [1, 2]}}
        new = merge(
            old,
            {"status": {"conditions": [{"type": "A", "status": "False", "reason": None}, {"type": "B"}], "list": [3]}},
            MERGE_KEYS,
        )
        assert new == {"status": {"conditions": [{"type": "A", "status": "False"}, {"type": "B"}], "list": [3]}}

    def test_null_removes_a_key(self) -> None:
        assert merge({"a": 1, "b": {"c": 1}}, {"a": None, "b": {"c": None}}, {}) == {"b": {}}


def test_a_stage_file_that_is_no_file_or_too_large_is_said_at_once(tmp_path: Path) -> None:
    fifo, large, binary = tmp_path / "fifo", tmp_path / "large", tmp_path / "binary"
    os.mkfifo(fifo)
    with large.open("wb") as file:
        file.truncate(50_000_000)
    binary.write_bytes(b"\xff")
    for path, why in (
        (fifo, "can't be read: it is not a regular file"),
        (Path("/dev/zero"), "can't be read: it is not a regular file"),
        (large, "can't be read: it has more than 4096 KiB"),
        (tmp_path / "none", "can't be read: No such file"),
        (binary, "is not UTF-8 text"),
    ):
        with pytest.raises(StageError, match=f"{path}: {why}"):
            cluster_stages(EmbeddedSpec(stages=[path]), GENERIC)
