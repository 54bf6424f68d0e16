"""The simulation on a server, in virtual time: Pods, nodes, owners, namespaces."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raycp.base.clock import VirtualClock
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError
from raycp.embedded.life import evaluator
from raycp.embedded.life.nodes import STATE
from raycp.embedded.logparameters import LogParameters

Make = Callable[..., Awaitable[EmbeddedCluster]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[EmbeddedCluster] = []

    async def start(**spec: Any) -> EmbeddedCluster:
        cluster = EmbeddedCluster("test", EmbeddedSpec.model_validate(spec), VirtualClock())
        await cluster.start()
        made.append(cluster)
        return cluster

    yield start
    for cluster in made:
        await cluster.stop()


async def until(check: Callable[[], Any], why: str = "") -> Any:
    """Run the event loop until ``check`` is true, without advancing virtual time."""
    end = time.monotonic() + 30.0
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        await asyncio.sleep(0.001)
    raise AssertionError(why or "not so")


async def advance(cluster: EmbeddedCluster, seconds: float) -> None:
    assert isinstance(cluster.clock, VirtualClock)
    await cluster.clock.advance(seconds)
    await asyncio.sleep(0.02)


async def pod(cluster: EmbeddedCluster, name: str, *, meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return await cluster.api.create(
        "pods",
        {
            "metadata": {"name": name, **(meta or {})},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}], **spec},
        },
        "default",
    )


async def settled(cluster: EmbeddedCluster) -> None:
    """Run the event loop until the next stage of every object is chosen."""
    await until(lambda: not cluster.life.player.busy, "stages are still being chosen")


def phase(cluster: EmbeddedCluster, name: str) -> str:
    found = cluster.api.get("pods", "default", name)
    return str(found["status"].get("phase")) if found else "gone"


class TestPods:
    async def test_a_pod_is_bound_runs_and_ends(self, make: Make) -> None:
        cluster = await make(nodes=1, startup_delay="1s", pod_runtime="5s")
        await pod(cluster, "p")
        bound = await until(lambda: (cluster.api.get("pods", "default", "p") or {})["spec"].get("nodeName"))
        assert bound == "node-0"
        await settled(cluster)
        assert phase(cluster, "p") == "Pending"
        await advance(cluster, 1.1)
        await until(lambda: phase(cluster, "p") == "Running")
        await settled(cluster)
        status = cluster.api.get("pods", "default", "p")["status"]  # type: ignore[index]
        assert status["podIP"].startswith("10.")
        assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
        await advance(cluster, 4)
        await settled(cluster)
        assert phase(cluster, "p") == "Running"
        await advance(cluster, 2)
        await until(lambda: phase(cluster, "p") == "Succeeded")
        ended = cluster.api.get("pods", "default", "p")["status"]["containerStatuses"][0]["state"]  # type: ignore[index]
        assert ended["terminated"]["exitCode"] == 0

    async def test_a_label_change_does_not_restart_a_pods_runtime(self, make: Make) -> None:
        cluster = await make(pod_runtime="5s")
        await pod(cluster, "p")
        await until(lambda: phase(cluster, "p") == "Running")
        await settled(cluster)
        await advance(cluster, 4)
        await cluster.api.patch_merge("pods", "default", "p", b'{"metadata":{"labels":{"x":"y"}}}')
        await settled(cluster)
        await advance(cluster, 1.5)
        await until(lambda: phase(cluster, "p") == "Succeeded")

    async def test_an_image_that_can_not_be_pulled(self, make: Make) -> None:
        """Reasons and messages as kubelet's (pkg/kubelet/images)."""
        cluster = await make(nodes=1)
        containers = [{"name": "c", "image": "i"}, {"name": "d", "image": "registry.invalid/app:1"}]
        await pod(cluster, "p", containers=containers)

        def waiting() -> list[dict[str, Any]]:
            found = cluster.api.get("pods", "default", "p")
            assert found is not None
            return [one["state"].get("waiting", {}) for one in found["status"].get("containerStatuses") or ()]

        why = (
            'failed to pull and unpack image "registry.invalid/app:1": failed to resolve reference "registry.invalid/app:1": '
            'failed to do request: Head "https://registry.invalid/v2/app/manifests/1": '
            "dial tcp: lookup registry.invalid: no such host"
        )
        await until(waiting)
        assert waiting() == [{"reason": "ContainerCreating"}, {"reason": "ErrImagePull", "message": why}]
        await settled(cluster)
        await advance(cluster, 11)
        await until(lambda: waiting()[1].get("reason") == "ImagePullBackOff")
        assert waiting()[1]["message"] == f'Back-off pulling image "registry.invalid/app:1": ErrImagePull: {why}'
        assert phase(cluster, "p") == "Pending"
        found = cluster.api.get("pods", "default", "p")
        assert found is not None
        found["spec"]["containers"][1]["image"] = "i"
        await cluster.api.update("pods", found)
        await until(lambda: phase(cluster, "p") == "Running")
        note = {"annotations": {"embedded.raycp.io/image-pull-error": ""}}
        await pod(cluster, "q", meta=note, initContainers=[{"name": "first", "image": "i"}])
        await until(lambda: (cluster.api.get("pods", "default", "q") or {})["status"].get("initContainerStatuses"))
        state = cluster.api.get("pods", "default", "q")["status"]["initContainerStatuses"][0]["state"]  # type: ignore[index]
        assert state["waiting"]["reason"] == "ErrImagePull"
        assert state["waiting"]["message"].endswith('failed to resolve reference "i": not found')

    async def test_logs_have_the_environment(self, make: Make) -> None:
        cluster = await make(nodes=1)
        env = [
            {"name": "WHO", "value": "a; b"},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "TWICE", "value": "$(ME)$(ME) $$(ME) $(NONE)"},
        ]
        script = "echo $WHO \"${ME}\" '$WHO' ${NONE:-none}; echo $TWICE $(ME)"
        container = {"name": "c", "image": "i", "command": ["sh", "-c", script], "env": env}
        made = await pod(cluster, "p", meta={"labels": {"app": "x"}}, containers=[container])
        await until(lambda: phase(cluster, "p") == "Succeeded")
        found = cluster.api.get("pods", "default", made["metadata"]["name"])
        assert cluster.life.logs(found, "c", LogParameters()).decode() == "a; b x $WHO none\nxx $(ME) $(NONE) x\n"

    async def test_exit_code_and_restart_policy(self, make: Make) -> None:
        cluster = await make(pod_runtime="5s")
        note = {"annotations": {"embedded.raycp.io/exit-code": "7"}}
        await pod(cluster, "fails", meta=note)
        await pod(cluster, "again", meta=note, restartPolicy="OnFailure")
        await until(lambda: phase(cluster, "again") == phase(cluster, "fails") == "Running")
        await settled(cluster)
        await advance(cluster, 5.1)
        await until(lambda: phase(cluster, "fails") == "Failed")

        def container() -> dict[str, Any]:
            return cluster.api.get("pods", "default", "again")["status"]["containerStatuses"][0]  # type: ignore[index,no-any-return]

        await until(lambda: container()["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
        assert container()["lastState"]["terminated"]["exitCode"] == 7
        await settled(cluster)
        await advance(cluster, 10.1)
        await until(lambda: "running" in container()["state"])
        assert container()["restartCount"] == 1
        events = [e for e in cluster.api.list("events")[0] if e["reason"] == "BackOff"]
        assert len(events) == 1

    async def test_logs_of_containers_that_do_not_run(self, make: Make) -> None:
        """``validateContainerLogStatus`` of kubelet: the last run while a container backs off; an error where there is none."""
        cluster = await make(nodes=1)
        script = {"name": "c", "image": "i", "command": ["sh", "-c", "echo hi; exit 3"]}
        await pod(cluster, "crash", restartPolicy="Always", containers=[script])
        await pod(cluster, "unpulled", containers=[{"name": "c", "image": "registry.invalid/x"}])

        def container(name: str) -> dict[str, Any]:
            status = (cluster.api.get("pods", "default", name) or {})["status"]
            return (status.get("containerStatuses") or [{}])[0]  # type: ignore[no-any-return]

        def log(name: str, **parameters: Any) -> str:
            found = cluster.api.get("pods", "default", name)
            assert found is not None
            return cluster.life.logs(found, "c", LogParameters(**parameters)).decode()

        await until(lambda: "waiting" in container("crash").get("state", {}) and container("crash").get("lastState"))
        await until(lambda: "waiting" in container("unpulled").get("state", {}))
        assert log("crash") == log("crash", previous=True) == "hi\n"
        with pytest.raises(StatusError, match='container "c" in pod "unpulled" is waiting to start: ') as refused:
            log("unpulled")
        assert refused.value.code == 400
        with pytest.raises(StatusError, match='previous terminated container "c" in pod "unpulled" not found'):
            log("unpulled", previous=True)

    async def test_deletion_is_graceful_and_waits_for_finalizers(self, make: Make) -> None:
        cluster = await make(nodes=1, pod_runtime="1h")
        await pod(cluster, "free")
        await pod(cluster, "held", meta={"finalizers": ["x.io/hold"]})
        await until(lambda: phase(cluster, "held") == phase(cluster, "free") == "Running")
        await cluster.api.delete("pods", "default", "free")
        await cluster.api.delete("pods", "default", "held")
        await until(lambda: phase(cluster, "free") == "gone")
        await until(lambda: phase(cluster, "held") == "Failed")
        await cluster.api.patch_merge("pods", "default", "held", b'{"metadata":{"finalizers":null}}')
        await until(lambda: phase(cluster, "held") == "gone")

    async def test_stage_files_replace_the_shipped_ones(self, make: Make, tmp_path: Path) -> None:
        stage = tmp_path / "stage.yaml"
        stage.write_text(
            "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {name: odd}\n"
            "spec:\n  resourceRef: {apiGroup: v1, kind: Pod}\n"
            "  selector: {matchExpressions: [{key: .status.phase, operator: In, values: [Pending]}]}\n"
            "  delay: {durationMilliseconds: 3000}\n"
            "  next: {event: {type: Normal, reason: Odd, message: so be it}, statusTemplate: 'phase: Unknown'}\n"
        )
        cluster = await make(stages=[str(stage)])
        await pod(cluster, "p")
        await settled(cluster)
        assert phase(cluster, "p") == "Pending"
        await advance(cluster, 3.1)
        await until(lambda: phase(cluster, "p") == "Unknown")
        await until(lambda: [e for e in cluster.api.list("events")[0] if e["reason"] == "Odd"])

    async def test_a_stage_whose_expression_never_ends_harms_no_other(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(evaluator, "SECONDS", 0.2)
        stage = tmp_path / "stage.yaml"
        stage.write_text(
            "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {name: endless}\n"
            "spec:\n  resourceRef: {apiGroup: v1, kind: Pod}\n"
            "  selector: {matchExpressions: [{key: 'def f: f; f', operator: Exists}]}\n  next: {delete: true}\n"
            "---\napiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {name: good}\n"
            "spec:\n  resourceRef: {apiGroup: v1, kind: Pod}\n"
            "  selector: {matchExpressions: [{key: .status.phase, operator: In, values: [Pending]}]}\n"
            "  next: {patches: [{type: json, subresource: status, root: status,\n"
            "    template: '[{op: replace, path: /phase, value: Running}]'}]}\n"
        )
        cluster = await make(stages=[str(stage)])
        for name in ("a", "b"):
            await pod(cluster, name)
        await until(lambda: phase(cluster, "a") == phase(cluster, "b") == "Running")
        events = await until(lambda: [e for e in cluster.api.list("events")[0] if e["reason"] == "StageFailed"])
        message = "stage endless: jq expression 'def f: f; f' ran for longer than 0.2 s"
        assert events[0].get("note", events[0].get("message")) == message

    async def test_what_changes_while_jq_runs_is_evaluated_again(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage = tmp_path / "stage.yaml"
        stage.write_text(
            "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {name: end}\n"
            "spec:\n  resourceRef: {apiGroup: v1, kind: ConfigMap}\n"
            "  selector: {matchExpressions: [{key: .data.end, operator: In, values: ['yes']}]}\n  next: {delete: true}\n"
        )
        cluster = await make(stages=[str(stage)])
        ask, asked = evaluator.Evaluator.answers, []

        async def slow(self: evaluator.Evaluator, kind: str, obj: Any) -> evaluator.Answers:
            found = await ask(self, kind, obj)
            if not asked and obj["metadata"]["name"] == "c":
                asked.append(found)
                await cluster.api.patch_merge("configmaps", "default", "c", b'{"data":{"end":"no"}}')
            return found

        monkeypatch.setattr(evaluator.Evaluator, "answers", slow)
        await cluster.api.create("configmaps", {"metadata": {"name": "c"}, "data": {"end": "yes"}}, "default")
        await until(lambda: asked)
        await settled(cluster)
        assert cluster.api.get("configmaps", "default", "c"), "it was to be deleted as it was before"

    async def test_a_json_patch_that_fails_is_an_event(self, make: Make, tmp_path: Path) -> None:
        stage = tmp_path / "stage.yaml"
        stage.write_text(
            "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {name: wrong}\n"
            "spec:\n  resourceRef: {apiGroup: v1, kind: Pod}\n"
            "  selector: {matchExpressions: [{key: .status.phase, operator: In, values: [Pending]}]}\n"
            "  next: {patches: [{type: json, subresource: status, root: status, template: '[{op: remove, path: /nothing}]'}]}\n"
        )
        cluster = await make(stages=[str(stage)])
        await pod(cluster, "p")
        await until(lambda: "missing path" in cluster.life.player.problems.get("wrong", ""))


class TestScheduling:
    async def test_a_budget_says_what_may_be_disrupted(self, make: Make) -> None:
        """pkg/controller/disruption: a number of Pods, a share of their controllers' replicas, Pods that are being evicted."""
        cluster = await make(nodes=1, controllers={"gc": False})
        labels = {"app": "a"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"replicas": 4, "selector": {"matchLabels": labels}, "template": template}
        owner = await cluster.api.create("replicasets.apps", {"metadata": {"name": "r"}, "spec": spec}, "default")
        ref = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": owner["metadata"]["uid"], "controller": True}
        for name in ("a", "b", "c"):
            await pod(cluster, name, meta={"labels": labels, "ownerReferences": [ref]}, restartPolicy="Always")
            await until(lambda name=name: phase(cluster, name) == "Running")
        budgets = "poddisruptionbudgets.policy"

        async def status(name: str, **given: Any) -> dict[str, Any]:
            wanted = {"selector": {"matchLabels": labels}, **given}
            await cluster.api.create(budgets, {"metadata": {"name": name}, "spec": wanted}, "default")
            await until(lambda: "conditions" in ((cluster.api.get(budgets, "default", name) or {}).get("status") or {}))
            found: dict[str, Any] = cluster.api.get(budgets, "default", name)["status"]  # type: ignore[index]
            return found

        first = await status("number", minAvailable=2)
        counted = {key: first[key] for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")}
        assert counted == {"disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3}
        assert (first["observedGeneration"], first["conditions"][0]["reason"]) == (1, "SufficientPods")
        second = await status("share", maxUnavailable="25%")
        assert (second["desiredHealthy"], second["expectedPods"], second["disruptionsAllowed"]) == (3, 4, 0)
        assert second["conditions"][0]["reason"] == "InsufficientPods"
        await cluster.api.delete("pods", "default", "a")
        await until(lambda: cluster.api.get(budgets, "default", "number")["status"]["disruptionsAllowed"] == 0)  # type: ignore[index]
        job = {**ref, "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "x"}
        await pod(cluster, "d", meta={"labels": labels, "ownerReferences": [job]}, restartPolicy="Always")
        failed = await until(
            lambda: [
                one
                for one in cluster.api.get(budgets, "default", "share")["status"]["conditions"]  # type: ignore[index]
                if one["reason"] == "SyncFailed"
            ]
        )
        assert failed[0]["message"] == 'found no controllers for pod "d"'

    async def test_a_pod_preempts_those_of_lower_priority(self, make: Make) -> None:
        """pkg/scheduler/framework/preemption: the node whose victims matter least, its name, conditions and events."""
        cluster = await make(nodes=2, node={"cpu": "2", "memory": "1Gi", "pods": 10})
        for name, value in (("low", 1), ("middle", 5), ("high", 10)):
            await cluster.api.create("priorityclasses.scheduling.k8s.io", {"metadata": {"name": name}, "value": value})

        async def one(name: str, priority: str, cpu: str, **more: Any) -> None:
            container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
            await pod(cluster, name, priorityClassName=priority, restartPolicy="Always", containers=[container], **more)

        def read(name: str) -> dict[str, Any]:
            return cluster.api.get("pods", "default", name) or {}

        for name, priority, node in (("a", "low", 0), ("b", "middle", 1)):
            await one(name, priority, "1500m", nodeSelector={"kubernetes.io/hostname": f"node-{node}"})
            await until(lambda name=name: phase(cluster, name) == "Running")
        changes: list[dict[str, Any]] = []
        table = cluster.store.table("", "pods")
        table.subscribe("", lambda change: changes.append(change.record.decode()))
        await one("no", "low", "1")
        await until(lambda: "status" in read("no") and read("no")["status"].get("conditions"))
        assert {read(name)["metadata"]["name"] for name in "ab"} == {"a", "b"}
        await one("c", "high", "1")
        await until(lambda: read("c").get("spec", {}).get("nodeName") == "node-0")
        assert read("a") == {}
        assert read("b")["spec"]["nodeName"] == "node-1"
        marked = [one for one in changes if one["metadata"]["name"] == "a"][-1]["status"]["conditions"]
        target = next(one for one in marked if one["type"] == "DisruptionTarget")
        assert (target["reason"], target["message"]) == (
            "PreemptionByScheduler",
            "default-scheduler: preempting to accommodate a higher priority pod",
        )
        nominated = [one["status"].get("nominatedNodeName") for one in changes if one["metadata"]["name"] == "c"]
        assert "node-0" in nominated
        assert "nominatedNodeName" not in read("c")["status"]
        events = [one for one in cluster.api.list("events", "default")[0] if one["reason"] == "Preempted"]
        assert [one["message"] for one in events] == [f"Preempted by pod {read('c')['metadata']['uid']} on node node-0"]

    async def test_a_pod_that_is_annotated_as_unschedulable(self, make: Make) -> None:
        cluster = await make(nodes=1)
        note = {"annotations": {"embedded.raycp.io/unschedulable": "node(s) had volume node affinity conflict"}}
        await pod(cluster, "p", meta=note)
        found = await until(lambda: (cluster.api.get("pods", "default", "p") or {})["status"].get("conditions"))
        assert found[0]["message"] == "0/1 nodes are available: 1 node(s) had volume node affinity conflict."
        patch = b'{"metadata":{"annotations":{"embedded.raycp.io/unschedulable":null}}}'
        await cluster.api.patch_merge("pods", "default", "p", patch)
        await until(lambda: phase(cluster, "p") == "Running")

    async def test_a_pod_that_fits_no_node_is_unschedulable_until_capacity_is_free(self, make: Make) -> None:
        cluster = await make(nodes=2, node={"cpu": "2", "pods": 10}, pod_runtime="1h")
        asks = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1500m"}}}]
        for name in ("a", "b", "c"):
            await pod(cluster, name, containers=asks)

        def waiting() -> list[str]:
            return [n for n in ("a", "b", "c") if phase(cluster, n) == "Pending"]

        await until(lambda: len(waiting()) == 1)
        last = waiting()[0]

        def told() -> dict[str, Any]:
            found = cluster.api.get("pods", "default", last)
            return {c["type"]: c for c in found["status"].get("conditions") or ()}.get("PodScheduled", {})  # type: ignore[index]

        # before the nodes were ready, it was another message
        await until(lambda: told().get("message") == "0/2 nodes are available: 2 Insufficient cpu.")
        assert told()["reason"] == "Unschedulable"
        await until(lambda: [e for e in cluster.api.list("events")[0] if e["reason"] == "FailedScheduling"])
        await cluster.api.delete("pods", "default", "a" if last != "a" else "b", grace=0)
        await until(lambda: phase(cluster, last) == "Running")

    async def test_pods_spread_over_nodes(self, make: Make) -> None:
        cluster = await make(nodes=4, pod_runtime="1h")
        await until(lambda: not any(node["spec"].get("taints") for node in cluster.api.list("nodes")[0]))
        for i in range(40):
            await pod(cluster, f"p{i}")
        await until(lambda: all(phase(cluster, f"p{i}") == "Running" for i in range(40)))
        nodes = [p["spec"]["nodeName"] for p in cluster.api.list("pods")[0]]
        assert {nodes.count(f"node-{i}") for i in range(4)} == {10}


class TestNodes:
    async def test_a_node_that_is_down_becomes_unknown_and_its_pods_are_evicted(self, make: Make) -> None:
        cluster = await make(nodes=1, pod_runtime="1h")
        quick = [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]
        await pod(cluster, "p", tolerations=quick)
        await until(lambda: phase(cluster, "p") == "Running")
        await cluster.life.nodes.fail("node-0")

        def ready() -> str:
            node = cluster.api.get("nodes", "", "node-0")
            return next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")  # type: ignore[index]

        for _ in range(10):
            await advance(cluster, 5)
        await until(lambda: ready() == "Unknown")
        taints = (cluster.api.get("nodes", "", "node-0") or {})["spec"]["taints"]
        assert {t["effect"] for t in taints if t["key"] == "node.kubernetes.io/unreachable"} == {"NoSchedule", "NoExecute"}
        for _ in range(20):
            await advance(cluster, 5)
        await until(lambda: "deletionTimestamp" in (cluster.api.get("pods", "default", "p") or {})["metadata"])
        await cluster.life.nodes.recover("node-0")
        await until(lambda: ready() == "True")
        await until(lambda: phase(cluster, "p") == "gone")
        await until(lambda: not (cluster.api.get("nodes", "", "node-0") or {})["spec"].get("taints"))

    async def test_leases_are_renewed(self, make: Make) -> None:
        cluster = await make(nodes=2)

        def renewed() -> list[str]:
            return [lease["spec"]["renewTime"] for lease in cluster.api.list("leases.coordination.k8s.io")[0]]

        before = await until(lambda: renewed() if len(renewed()) == 2 else None)
        await advance(cluster, 11)
        await until(lambda: all(a < b for a, b in zip(before, renewed(), strict=True)))

    async def test_a_kubelet_that_is_not_ready(self, make: Make) -> None:
        cluster = await make(nodes=1)
        await until(lambda: (cluster.api.get("nodes", "", "node-0") or {}).get("status", {}).get("conditions"))
        patch = f'{{"metadata":{{"annotations":{{"{STATE}":"not-ready"}}}}}}'
        await cluster.api.patch_merge("nodes", "", "node-0", patch.encode())
        await until(lambda: (cluster.api.get("nodes", "", "node-0") or {})["spec"].get("taints"))


async def config_map(cluster: EmbeddedCluster, name: str, owner: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, **more}
    if owner is not None:
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"]}
        meta["ownerReferences"] = [{**reference, "uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}]
    return await cluster.api.create("configmaps", {"metadata": meta}, "default")


class TestGarbageCollection:
    def there(self, cluster: EmbeddedCluster, *names: str) -> list[str]:
        return [name for name in names if cluster.api.get("configmaps", "default", name)]

    async def test_dependents_follow_their_owner(self, make: Make) -> None:
        cluster = await make()
        owner = await config_map(cluster, "owner")
        child = await config_map(cluster, "child", owner)
        await config_map(cluster, "grandchild", child)
        await config_map(cluster, "other")
        await cluster.api.delete("configmaps", "default", "owner", propagation="Background")
        await until(lambda: self.there(cluster, "owner", "child", "grandchild", "other") == ["other"])

    async def test_foreground_deletion_starts_at_the_leaves(self, make: Make) -> None:
        cluster = await make()
        owner = await config_map(cluster, "owner")
        await config_map(cluster, "held", owner, finalizers=["x.io/hold"])
        await config_map(cluster, "child", owner)
        await cluster.api.delete("configmaps", "default", "owner", propagation="Foreground")
        await until(lambda: self.there(cluster, "owner", "held", "child") == ["owner", "held"])
        await cluster.api.patch_merge("configmaps", "default", "held", b'{"metadata":{"finalizers":null}}')
        await until(lambda: not self.there(cluster, "owner", "held"))

    async def test_a_circle_of_owners_does_not_block_deletion(self, make: Make) -> None:
        """``Garbage collector should not be blocked by dependency circle``."""
        cluster = await make()
        made = [await config_map(cluster, name) for name in ("a", "b", "c")]
        for name, owner in zip(("a", "b", "c"), (made[2], made[0], made[1]), strict=True):
            about = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
            patch = {"metadata": {"ownerReferences": [{**about, "controller": True, "blockOwnerDeletion": True}]}}
            await cluster.api.patch_merge("configmaps", "default", name, json.dumps(patch).encode())
        await cluster.api.delete("configmaps", "default", "a", propagation="Foreground")
        await until(lambda: not self.there(cluster, "a", "b", "c"))

    async def test_orphaned_dependents_lose_their_owner_reference(self, make: Make) -> None:
        cluster = await make()
        owner = await config_map(cluster, "owner")
        await config_map(cluster, "child", owner)
        await cluster.api.delete("configmaps", "default", "owner", propagation="Orphan")
        await until(lambda: self.there(cluster, "owner", "child") == ["child"])
        assert "ownerReferences" not in (cluster.api.get("configmaps", "default", "child") or {})["metadata"]

    async def test_a_finalizer_of_a_collected_dependent_decides_over_its_own_dependents(self, make: Make) -> None:
        cluster = await make()
        owner = await config_map(cluster, "owner")
        orphaning = await config_map(cluster, "orphaning", owner, finalizers=["orphan"])
        await config_map(cluster, "kept", orphaning)
        plain = await config_map(cluster, "plain", owner)
        await config_map(cluster, "gone", plain)
        await cluster.api.delete("configmaps", "default", "owner", propagation="Background")
        await until(lambda: self.there(cluster, "owner", "orphaning", "kept", "plain", "gone") == ["kept"])
        assert "ownerReferences" not in (cluster.api.get("configmaps", "default", "kept") or {})["metadata"]

    async def test_a_dependent_of_an_owner_that_never_existed_is_collected(self, make: Make) -> None:
        cluster = await make()
        await config_map(cluster, "child", {"metadata": {"name": "never", "uid": "nobody"}})
        await until(lambda: not self.there(cluster, "child"))

    async def test_a_dependent_with_one_existing_owner_is_kept(self, make: Make) -> None:
        cluster = await make()
        one, two = await config_map(cluster, "one"), await config_map(cluster, "two")
        child = await config_map(cluster, "child", one)
        child["metadata"]["ownerReferences"] += [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "two", "uid": two["metadata"]["uid"]}
        ]
        await cluster.api.update("configmaps", child)
        await cluster.api.delete("configmaps", "default", "one")

        def owners() -> list[str]:
            found = cluster.api.get("configmaps", "default", "child")
            return [ref["name"] for ref in found["metadata"]["ownerReferences"]]  # type: ignore[index]

        await until(lambda: owners() == ["two"])
        await cluster.api.delete("configmaps", "default", "two")
        await until(lambda: not self.there(cluster, "child"))


class TestNamespaces:
    async def test_a_new_namespace_gets_its_default_objects_and_gets_them_again(self, make: Make) -> None:
        cluster = await make()
        await cluster.api.create("namespaces", {"metadata": {"name": "new"}})
        await until(lambda: cluster.api.get("serviceaccounts", "new", "default"))
        bundle = await until(lambda: cluster.api.get("configmaps", "new", "kube-root-ca.crt"))
        assert bundle["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
        await cluster.api.delete("serviceaccounts", "new", "default")
        await until(lambda: cluster.api.get("serviceaccounts", "new", "default"))

    async def test_a_deleted_namespace_is_emptied_first(self, make: Make) -> None:
        cluster = await make()
        await cluster.api.create("namespaces", {"metadata": {"name": "new"}})
        await cluster.api.create("configmaps", {"metadata": {"name": "held", "finalizers": ["x.io/hold"]}}, "new")
        await cluster.api.create("secrets", {"metadata": {"name": "s"}}, "new")
        await cluster.api.delete("namespaces", "", "new")
        await until(lambda: not cluster.api.list("secrets", "new")[0])
        with pytest.raises(StatusError) as refused:
            await cluster.api.create("secrets", {"metadata": {"name": "t"}}, "new")
        assert refused.value.code == 403

        def conditions() -> dict[str, str]:
            found = cluster.api.get("namespaces", "", "new")
            return {c["type"]: c["message"] for c in found["status"].get("conditions") or ()}  # type: ignore[index]

        await until(lambda: "x.io/hold in 1 resource instances" in conditions().get("NamespaceFinalizersRemaining", ""))
        await cluster.api.patch_merge("configmaps", "new", "held", b'{"metadata":{"finalizers":null}}')
        await until(lambda: cluster.api.get("namespaces", "", "new") is None)

    async def test_an_object_that_may_not_be_deleted_keeps_no_other(self, make: Make) -> None:
        """``makeDeleteContentCondition``: the namespace says what was refused, the rest goes, and it is tried again."""
        cluster = await make()
        group = "admissionregistration.k8s.io"
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]}
        spec = {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "oldObject.metadata.name != 'kept'", "message": "it stays"}],
        }
        await cluster.api.create(f"validatingadmissionpolicies.{group}", {"metadata": {"name": "p"}, "spec": spec})
        binding = {"metadata": {"name": "p"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}
        await cluster.api.create(f"validatingadmissionpolicybindings.{group}", binding)
        await cluster.api.create("namespaces", {"metadata": {"name": "new"}})
        await cluster.api.create("configmaps", {"metadata": {"name": "kept"}}, "new")
        await cluster.api.create("configmaps", {"metadata": {"name": "zero"}}, "new")
        await cluster.api.create("secrets", {"metadata": {"name": "s"}}, "new")
        await cluster.api.delete("namespaces", "", "new")

        def failure() -> str:
            found = cluster.api.get("namespaces", "", "new") or {}
            conditions = {c["type"]: c for c in found["status"].get("conditions") or ()}
            told = conditions.get("NamespaceDeletionContentFailure", {})
            return told["message"] if told.get("status") == "True" else ""

        await until(failure)
        assert failure().startswith('Failed to delete all resource types, 1 remaining: configmaps "kept" is forbidden: ')
        assert failure().endswith("it stays")
        assert [one["metadata"]["name"] for one in cluster.api.list("configmaps", "new")[0]] == ["kept"]
        assert not cluster.api.list("secrets", "new")[0]
        await cluster.api.delete(f"validatingadmissionpolicybindings.{group}", "", "p")
        await settled(cluster)
        await advance(cluster, 61)
        await until(lambda: cluster.api.get("namespaces", "", "new") is None)


async def test_controllers_can_be_switched_off_singly(make: Make) -> None:
    cluster = await make(controllers={"gc": False, "serviceaccount": False})
    owner = await config_map(cluster, "owner")
    await config_map(cluster, "child", owner)
    await cluster.api.delete("configmaps", "default", "owner")
    await pod(cluster, "p")
    await until(lambda: phase(cluster, "p") == "Running")
    assert cluster.api.get("configmaps", "default", "child")
    assert not cluster.api.list("serviceaccounts")[0]
