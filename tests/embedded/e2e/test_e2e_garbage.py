"""Kubernetes' e2e specs of the garbage collector, as in test/e2e/apimachinery/garbage_collector.go.

An embedded cluster has no controllers of workloads: the replay makes the ReplicaSets, Jobs and Pods that they would make, and
the status that they would write. Where a spec sleeps for half a minute to see that nothing is deleted, the replay waits until
the collector has dealt with something later.
"""

import asyncio
import uuid
from typing import Any

import pytest
from e2e_crds import ANY, crd_of
from e2e_driver import CRDS, E2eClient, Object, Refused, collection, delete_options, unless, until

REPLICAS = 100  # what the specs take of three nodes with room for thousands
PATHS = {
    "ConfigMap": ("v1", "configmaps"),
    "CronJob": ("batch/v1", "cronjobs"),
    "Deployment": ("apps/v1", "deployments"),
    "Job": ("batch/v1", "jobs"),
    "Pod": ("v1", "pods"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "ReplicationController": ("v1", "replicationcontrollers"),
}
BACKGROUND, FOREGROUND, ORPHAN = ({"propagationPolicy": each} for each in ("Background", "Foreground", "Orphan"))
LABELS = {"gctest-00001": "gctest-00001"}
POD: Object = {
    "terminationGracePeriodSeconds": 0,
    "containers": [{"name": "nginx", "image": "nginx:1.15-4"}],
}


class Space:
    """One spec's namespace, and its typed client."""

    def __init__(self, e2e: E2eClient, name: str) -> None:
        self.e2e = e2e
        self.name = name

    def path(self, kind: str, name: str = "") -> str:
        group, plural = PATHS[kind]
        return collection(group, self.name, plural) + (f"/{name}" if name else "")

    async def create(self, kind: str, name: str, owner: Any = None, **fields: Any) -> Any:
        refs = [reference(owner, controller=True, blockOwnerDeletion=True)] if owner else []
        metadata = {"name": name, "labels": fields.pop("labels", {}), "ownerReferences": refs}
        return await self.e2e.typed(
            "POST", self.path(kind), {"apiVersion": PATHS[kind][0], "kind": kind, "metadata": metadata, **fields}
        )

    async def delete(self, obj: Any, policy: Object) -> None:
        kind, meta = obj["kind"], obj["metadata"]
        options = delete_options(PATHS[kind][0], preconditions={"uid": meta["uid"]}, **policy)
        await self.e2e.typed("DELETE", self.path(kind, meta["name"]), options)

    async def listed(self, kind: str) -> list[Any]:
        """Of one kind, each with its kind, which items of a list lack."""
        items = (await self.e2e.typed("GET", self.path(kind)))["items"]
        return [{"apiVersion": PATHS[kind][0], "kind": kind, **item} for item in items]

    async def remain(self, **counts: int) -> bool:
        """Whether there are as many as this of each kind."""
        return all([len(await self.listed(kind)) == count for kind, count in counts.items()])

    async def gone(self, obj: Any) -> None:
        path = self.path(obj["kind"], obj["metadata"]["name"])

        async def missing() -> bool:
            return await self.e2e.found(path) is None

        await until(missing, f"{path} is deleted")

    async def controller(self, name: str, replicas: int, labels: Object = LABELS) -> Any:
        """A ReplicationController that has its Pods."""
        template = {"metadata": {"labels": labels}, "spec": POD}
        spec = {"replicas": replicas, "selector": labels, "template": template}
        made = await self.create("ReplicationController", name, spec=spec)
        await self.pods_of(made, replicas, labels)
        return made

    async def pods_of(self, owner: Any, replicas: int, labels: Object = LABELS) -> None:
        """What the owner's controller does: its Pods, and the status that counts them, which the specs wait for."""
        name = owner["metadata"]["name"]
        await asyncio.gather(
            *(self.create("Pod", f"{name}-{number}", owner, labels=labels, spec=POD) for number in range(replicas))
        )
        path = self.path(owner["kind"], name)
        status = {"replicas": replicas, "observedGeneration": owner["metadata"]["generation"]}
        told = await self.e2e.typed("PUT", f"{path}/status", {**owner, "status": status})
        assert told["status"]["replicas"] == replicas

    async def collector_is_through(self) -> None:
        """The collector works in order: it has dealt with all that was there before an object that it collects."""
        owner = await self.create("ConfigMap", f"owner-{uuid.uuid4().hex[:8]}")
        late = await self.create("ConfigMap", owner["metadata"]["name"] + "-late", owner)
        await self.delete(owner, BACKGROUND)
        await self.gone(late)


def reference(owner: Any, **more: Any) -> Object:
    meta = owner["metadata"]
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"], **more}


@pytest.fixture
async def space(e2e: E2eClient) -> Space:
    return Space(e2e, await e2e.namespace("gc", **{"pod-security.kubernetes.io/enforce": "baseline"}))


async def test_pods_of_a_controller_in_the_background(space: Space) -> None:
    """should delete pods created by rc when not orphaning"""
    controller = await space.controller("simpletest.rc", 2)
    await until(lambda: space.listed("Pod"), "there are Pods")
    await space.delete(controller, BACKGROUND)
    await until(lambda: space.remain(ReplicationController=0, Pod=0), "all Pods are collected")


@pytest.mark.parametrize(
    ("policy", "replicas"),
    [
        pytest.param(ORPHAN, REPLICAS, id="should orphan pods created by rc if delete options say so"),
        pytest.param({}, 2, id="should orphan pods created by rc if deleteOptions.OrphanDependents is nil"),
    ],
)
async def test_orphaned_pods_of_a_controller(space: Space, policy: Object, replicas: int) -> None:
    controller = await space.controller("simpletest.rc", replicas)
    await space.delete(controller, policy)
    await space.gone(controller)
    await space.collector_is_through()
    pods = await space.listed("Pod")
    assert len(pods) == replicas
    assert not any("ownerReferences" in pod["metadata"] or "deletionTimestamp" in pod["metadata"] for pod in pods)
    for pod in pods:
        await space.delete(pod, {"gracePeriodSeconds": 0})


async def deployed(space: Space) -> Any:
    """A Deployment with its ReplicaSet and two Pods."""
    template = {"metadata": {"labels": LABELS}, "spec": POD}
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
    made = await space.create(
        "Deployment", "simpletest.deployment", labels=LABELS, spec={**spec, "strategy": {"type": "RollingUpdate"}}
    )
    replica_set = await space.create("ReplicaSet", "simpletest.deployment-1", made, labels=LABELS, spec=spec)
    await space.pods_of(replica_set, 2)
    return made


async def test_replica_sets_in_the_background(space: Space) -> None:
    """should delete RS created by deployment when not orphaning"""
    await space.delete(await deployed(space), BACKGROUND)
    await until(lambda: space.remain(Deployment=0, ReplicaSet=0, Pod=0), "all ReplicaSets are collected")


async def test_orphaned_replica_sets(space: Space) -> None:
    """should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan"""
    deployment = await deployed(space)
    await space.delete(deployment, ORPHAN)
    await space.gone(deployment)
    assert await space.remain(Deployment=0, ReplicaSet=1, Pod=2)
    assert not any("ownerReferences" in each["metadata"] for each in await space.listed("ReplicaSet"))
    await space.collector_is_through()
    assert await space.remain(ReplicaSet=1, Pod=2)


async def test_pods_of_a_controller_in_the_foreground(space: Space) -> None:
    """should keep the rc around until all its pods are deleted if the deleteOptions says so"""
    controller = await space.controller("simpletest.rc", REPLICAS)
    await space.delete(controller, FOREGROUND)
    await space.gone(controller)
    assert await space.listed("Pod") == []


async def test_owners_that_stay_and_owners_that_wait(space: Space) -> None:
    """should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted"""
    leaving = await space.controller("simpletest-rc-to-be-deleted", REPLICAS)
    staying = await space.controller("simpletest-rc-to-stay", 0, {"gctest-00002": "gctest-00002"})
    shared = (await space.listed("Pod"))[: REPLICAS // 2]
    for pod in shared:
        await space.e2e.patch(space.path("Pod", pod["metadata"]["name"]), {"metadata": {"ownerReferences": [reference(staying)]}})
    await space.delete(leaving, FOREGROUND)
    await space.gone(leaving)
    left = await space.listed("Pod")
    assert {pod["metadata"]["name"] for pod in left} == {pod["metadata"]["name"] for pod in shared}
    for pod in left:
        assert "deletionTimestamp" not in pod["metadata"]
        assert [ref["uid"] for ref in pod["metadata"]["ownerReferences"]] == [staying["metadata"]["uid"]]
        await space.delete(pod, {"gracePeriodSeconds": 0})


async def test_a_circle_of_owners(space: Space) -> None:
    """should not be blocked by dependency circle"""
    pods = [await space.create("Pod", f"pod{number}", spec=POD) for number in (1, 2, 3)]
    for pod, owner in zip(pods, (pods[2], pods[0], pods[1]), strict=True):
        path = space.path("Pod", pod["metadata"]["name"])
        refs = [reference(owner, controller=True, blockOwnerDeletion=True)]
        patched = await space.e2e.patch(path, {"metadata": {"ownerReferences": refs}})
        assert patched["metadata"]["ownerReferences"] == refs
    await space.delete(pods[0], FOREGROUND)
    await until(lambda: space.remain(Pod=0), "all Pods of the circle are deleted")


async def test_what_a_cron_job_made(space: Space) -> None:
    """should delete jobs and pods created by cronjob"""
    template = {"spec": {**POD, "restartPolicy": "OnFailure"}}
    job = {"parallelism": 1, "completions": 1, "template": template}
    spec = {"schedule": "*/1 * * * ?", "jobTemplate": {"spec": job}}
    cron_job = await space.create("CronJob", "simple", spec=spec)
    made = await space.create("Job", "simple-1", cron_job, spec=job)
    await space.create("Pod", "simple-1-a", made, spec=template["spec"])
    await space.delete(cron_job, BACKGROUND)
    await until(lambda: space.remain(CronJob=0, Job=0, Pod=0), "neither Jobs nor Pods are left behind")


class Toys:
    """Instances of a new kind of the cluster's scope, by the dynamic client."""

    def __init__(self, e2e: E2eClient) -> None:
        self.e2e = e2e
        self.kind = "Foo" + uuid.uuid4().hex[:5] + "a"
        self.plural = self.kind.lower() + "s"
        self.path = collection("mygroup.example.com/v1beta1", "", self.plural)

    async def define(self) -> None:
        """Create the CRD in protobuf; done when its resource is in discovery, is written, and is watched."""
        body = crd_of("mygroup.example.com", self.kind.lower(), {"v1beta1": ANY}, "Cluster", plural=self.plural, kind=self.kind)
        made = await self.e2e.typed("POST", CRDS, body)
        assert len(made["spec"]["versions"]) == 1

        async def discovered() -> bool:
            found = await self.e2e.found("/apis/mygroup.example.com/v1beta1")
            return found is not None and self.plural in [each["name"] for each in found["resources"]]

        await until(discovered, "the resource is in discovery")
        primer = await until(lambda: unless(404, self.create("setup-instance")), "the resource is written")
        since = primer["metadata"]["resourceVersion"]
        async with self.e2e.watching(f"{self.path}?watch=1&resourceVersion={since}") as events:
            await self.delete("setup-instance", {})
            async for event in events:
                assert event["type"] == "DELETED"
                break

    async def drop(self) -> None:
        options = delete_options("apiextensions.k8s.io/v1")
        await self.e2e.typed("DELETE", f"{CRDS}/{self.plural}.mygroup.example.com", options)

    async def create(self, name: str, owner: Any = None) -> Any:
        metadata = {"name": name, **({"ownerReferences": [reference(owner)]} if owner else {})}
        body = {"apiVersion": "mygroup.example.com/v1beta1", "kind": self.kind, "metadata": metadata}
        return await self.e2e.dynamic("POST", self.path, body)

    async def delete(self, name: str, policy: Object) -> None:
        await self.e2e.dynamic("DELETE", f"{self.path}/{name}", delete_options(**policy))

    async def gone(self, name: str) -> None:
        async def missing() -> bool:
            return await unless(404, self.e2e.dynamic("GET", f"{self.path}/{name}")) is None

        await until(missing, f"{name} is deleted")


async def test_custom_resources_in_the_background(e2e: E2eClient) -> None:
    """should support cascading deletion of custom resources"""
    toys = Toys(e2e)
    await toys.define()
    await toys.create("dependent", await toys.create("owner"))
    await toys.delete("owner", BACKGROUND)
    await toys.create("canary")
    await toys.delete("canary", FOREGROUND)
    await toys.gone("canary")
    await toys.gone("dependent")
    with pytest.raises(Refused) as caught:
        await e2e.dynamic("GET", f"{toys.path}/owner")
    assert (caught.value.code, caught.value.reason) == (404, "NotFound")
    await toys.drop()


async def test_orphaned_custom_resources(e2e: E2eClient) -> None:
    """should support orphan deletion of custom resources"""
    toys = Toys(e2e)
    await toys.define()
    await toys.create("dependent", await toys.create("owner"))
    await toys.delete("owner", ORPHAN)
    await toys.gone("owner")
    # the collector is through with the dependent when it has collected what came later
    await toys.create("late", await toys.create("other"))
    await toys.delete("other", BACKGROUND)
    await toys.gone("late")
    left = await e2e.dynamic("GET", f"{toys.path}/dependent")
    assert not {"deletionTimestamp", "ownerReferences"} & set(left["metadata"])
    await toys.drop()
