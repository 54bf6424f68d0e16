"""ResourceQuota: what is counted, what is refused, in the words of the real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError
from raycp.embedded.options import WriteOptions
from raycp.embedded.store import StoreChange, Table

Object = dict[str, Any]
NS = "kube-public"  # without the Service that default has
QUOTED = EmbeddedControllers.none().model_copy(update={"quota": True})
CRD: Object = {
    "metadata": {"name": "toys.test.io"},
    "spec": {
        "group": "test.io",
        "scope": "Namespaced",
        "names": {"plural": "toys", "singular": "toy", "kind": "Toy", "listKind": "ToyList"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
    },
}


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    made = EmbeddedCluster("t", EmbeddedSpec(controllers=QUOTED))
    await made.start()
    yield made
    await made.stop()


async def quota(cluster: EmbeddedCluster, hard: dict[str, str], name: str = "q", **spec: Any) -> None:
    await cluster.api.create("resourcequotas", {"metadata": {"name": name}, "spec": {"hard": hard, **spec}}, NS)


def status(cluster: EmbeddedCluster, name: str = "q") -> Object:
    found = cluster.api.get("resourcequotas", NS, name)
    assert found is not None
    return dict(found["status"])


def used(cluster: EmbeddedCluster, name: str = "q") -> Object:
    return dict(status(cluster, name)["used"])


async def pod(cluster: EmbeddedCluster, name: str, resources: Object | None = None, **spec: Any) -> None:
    container = {"name": "c", "image": "i", "resources": resources or {}}
    await cluster.api.create("pods", {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}, NS)


async def refused(write: Any) -> str:
    with pytest.raises(StatusError) as caught:
        await write
    assert (caught.value.code, caught.value.reason) == (403, "Forbidden")
    return caught.value.message


async def test_the_status_is_calculated_with_the_quota(cluster: EmbeddedCluster) -> None:
    await cluster.api.create("configmaps", {"metadata": {"name": "a"}}, NS)
    await quota(cluster, {"configmaps": "5", "resourcequotas": "1", "pods": "2", "cpu": "1000m", "count/none.such": "1"})
    assert status(cluster) == {
        "hard": {"configmaps": "5", "resourcequotas": "1", "pods": "2", "cpu": "1", "count/none.such": "1"},
        "used": {"configmaps": "1", "resourcequotas": "1", "pods": "0", "cpu": "0"},
    }


async def test_counts_are_refused_and_freed(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"secrets": "1", "count/deployments.apps": "0"})
    await cluster.api.create("secrets", {"metadata": {"name": "a"}}, NS)
    told = await refused(cluster.api.create("secrets", {"metadata": {"name": "b"}}, NS))
    assert told == 'secrets "b" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=1, limited: secrets=1'
    await cluster.api.delete("secrets", NS, "a")
    assert used(cluster)["secrets"] == "0"
    await cluster.api.create("secrets", {"metadata": {"name": "b"}}, NS)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    assert "requested: count/deployments.apps=1" in await refused(cluster.api.create("deployments.apps", deployment, NS))
    await cluster.api.create("namespaces", {"metadata": {"name": "other"}})
    await cluster.api.create("secrets", {"metadata": {"name": "c"}}, "other")


async def test_what_a_pod_requests_is_counted(cluster: EmbeddedCluster) -> None:
    hard = {"cpu": "1", "memory": "1Gi", "limits.cpu": "2", "requests.ephemeral-storage": "5Gi", "requests.example.com/x": "3"}
    await quota(cluster, hard)
    asks = {"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "1Gi", "example.com/x": "2"}
    resources = {"requests": asks, "limits": {"cpu": "1", "example.com/x": "2"}}
    await pod(cluster, "a", resources)
    assert used(cluster) == {
        "cpu": "500m",
        "memory": "256Mi",
        "limits.cpu": "1",
        "requests.ephemeral-storage": "1Gi",
        "requests.example.com/x": "2",
    }
    told = await refused(pod(cluster, "b", resources))
    assert told.endswith("requested: requests.example.com/x=2, used: requests.example.com/x=2, limited: requests.example.com/x=3")
    told = await refused(pod(cluster, "b", {"requests": {"cpu": "1"}}))
    assert told == 'pods "b" is forbidden: failed quota: q: must specify limits.cpu for: c; memory for: c'
    await cluster.api.patch_merge("pods", NS, "a", b'{"status":{"phase":"Succeeded"}}', subresource="status")
    assert set(used(cluster).values()) == {"0"}


async def test_an_init_container_and_overhead_count_as_the_scheduler_counts_them(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"requests.cpu": "10"})

    def one(name: str, cpu: str, **more: Any) -> Object:
        return {"name": name, "image": "i", "resources": {"requests": {"cpu": cpu}}, **more}

    inits = [one("side", "1", restartPolicy="Always"), one("big", "4")]
    spec = {"containers": [one("a", "1"), one("b", "1")], "initContainers": inits}
    await cluster.api.create("pods", {"metadata": {"name": "p"}, "spec": spec}, NS)
    assert used(cluster) == {"requests.cpu": "5"}


@pytest.mark.parametrize(
    ("scope", "counted", "ignored"),
    [
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 5}, {}),
        ({"scopes": ["NotTerminating"]}, {}, {"activeDeadlineSeconds": 5}),
        ({"scopes": ["BestEffort"]}, {}, {"resources": {"requests": {"cpu": "1"}}}),
        ({"scopes": ["NotBestEffort"]}, {"resources": {"requests": {"cpu": "1"}}}, {}),
        (("PriorityClass", "In", ["gold"]), {"priorityClassName": "gold"}, {"priorityClassName": "tin"}),
        (("PriorityClass", "NotIn", ["gold"]), {"priorityClassName": "tin"}, {"priorityClassName": "gold"}),
        (("PriorityClass", "NotIn", ["gold"]), {}, {"priorityClassName": "gold"}),
        (("PriorityClass", "Exists", []), {"priorityClassName": "tin"}, {}),
        (("PriorityClass", "DoesNotExist", []), {}, {"priorityClassName": "tin"}),
        (
            ("CrossNamespacePodAffinity", "Exists", []),
            {
                "affinity": {
                    "podAntiAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a", "namespaces": ["other"]}]
                    }
                }
            },
            {},
        ),
    ],
)
async def test_scopes_select_what_is_counted(cluster: EmbeddedCluster, scope: Any, counted: Object, ignored: Object) -> None:
    for name in ("gold", "tin"):
        await cluster.api.create("priorityclasses.scheduling.k8s.io", {"metadata": {"name": name}, "value": 1})
    if isinstance(scope, tuple):
        expression = {"scopeName": scope[0], "operator": scope[1], **({"values": scope[2]} if scope[2] else {})}
        scope = {"scopeSelector": {"matchExpressions": [expression]}}
    await quota(cluster, {"pods": "1"}, **scope)
    await pod(cluster, "free", **ignored)
    assert used(cluster) == {"pods": "0"}
    await pod(cluster, "first", **counted)
    assert used(cluster) == {"pods": "1"}
    assert "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1" in await refused(pod(cluster, "second", **counted))
    await pod(cluster, "free-too", **ignored)


async def test_services_are_counted_by_type(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"services": "3", "services.nodeports": "2", "services.loadbalancers": "1"})

    async def service(name: str, kind: str, ports: int) -> None:
        listed = [{"name": f"p{number}", "port": 80 + number} for number in range(ports)]
        await cluster.api.create("services", {"metadata": {"name": name}, "spec": {"type": kind, "ports": listed}}, NS)

    await service("a", "NodePort", 1)
    await service("b", "LoadBalancer", 1)
    assert used(cluster) == {"services": "2", "services.nodeports": "2", "services.loadbalancers": "1"}
    assert "requested: services.nodeports=1" in await refused(service("c", "NodePort", 1))
    await service("c", "ClusterIP", 1)
    raised = cluster.api.patch_merge("services", NS, "c", b'{"spec":{"type":"NodePort"}}')
    assert "requested: services.nodeports=1, used: services.nodeports=2" in await refused(raised)
    await cluster.api.patch_merge(
        "services", NS, "a", b'{"spec":{"type":"ClusterIP","ports":[{"name":"p0","port":80,"nodePort":null}]}}'
    )
    assert used(cluster)["services.nodeports"] == "1"


async def test_claims_of_devices_are_counted_by_class(cluster: EmbeddedCluster) -> None:
    gold, silver = (f"{name}.deviceclass.resource.k8s.io/devices" for name in ("gold", "silver"))
    await quota(cluster, {gold: "40", silver: "5"})
    assert used(cluster) == {gold: "0", silver: "0"}

    async def claim(name: str, *requests: Object) -> None:
        devices = {"requests": [{"name": f"r{number}", **request} for number, request in enumerate(requests)]}
        await cluster.api.create("resourceclaims.resource.k8s.io", {"metadata": {"name": name}, "spec": {"devices": devices}}, NS)

    def some(device_class: str, count: int, **more: str) -> Object:
        return {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": count, **more}

    choice = [some("gold", 2, name="a"), some("gold", 1, name="b"), some("silver", 3, name="c")]
    await claim("a", {"exactly": some("gold", 2)}, {"exactly": {"deviceClassName": "gold"}}, {"firstAvailable": choice})
    assert used(cluster) == {gold: "5", silver: "3"}
    await claim("nothing", {}, {"exactly": {}})
    every = {"exactly": {"deviceClassName": "gold", "allocationMode": "All"}}
    await claim("b", every)
    assert used(cluster) == {gold: "37", silver: "3"}
    assert f"requested: {gold}=32, used: {gold}=37, limited: {gold}=40" in await refused(claim("c", every))
    await cluster.api.delete("resourceclaims.resource.k8s.io", NS, "b")
    assert used(cluster) == {gold: "5", silver: "3"}


async def test_claims_are_counted_by_storage_and_class(cluster: EmbeddedCluster) -> None:
    gold = "gold.storageclass.storage.k8s.io/requests.storage"
    await quota(cluster, {"persistentvolumeclaims": "2", "requests.storage": "10Gi", gold: "3Gi"})

    async def claim(name: str, size: str, **spec: Any) -> None:
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
        await cluster.api.create("persistentvolumeclaims", {"metadata": {"name": name}, "spec": wanted}, NS)

    await claim("a", "2Gi", storageClassName="gold")
    assert used(cluster) == {"persistentvolumeclaims": "1", "requests.storage": "2Gi", gold: "2Gi"}
    assert f"requested: {gold}=2Gi" in await refused(claim("b", "2Gi", storageClassName="gold"))
    assert "requested: requests.storage=9Gi" in await refused(claim("b", "9Gi"))


async def test_custom_resources_are_counted_from_their_definition_on(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"count/toys.test.io": "1"})
    assert used(cluster) == {}
    await cluster.api.create("customresourcedefinitions.apiextensions.k8s.io", json.loads(json.dumps(CRD)))
    async with asyncio.timeout(10):
        while not used(cluster):  # noqa: ASYNC110  (a controller of the server counts it in a later turn of the loop)
            await asyncio.sleep(0.001)
    toy = {"apiVersion": "test.io/v1", "kind": "Toy", "metadata": {"name": "a"}}
    await cluster.api.create("toys.test.io", toy, NS)
    assert used(cluster) == {"count/toys.test.io": "1"}
    second = cluster.api.create("toys.test.io", {**toy, "metadata": {"name": "b"}}, NS)
    assert 'toys.test.io "b" is forbidden: exceeded quota: q' in await refused(second)


async def test_a_quota_is_never_exceeded_by_creates_at_once(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"configmaps": "5"})
    creates = [cluster.api.create("configmaps", {"metadata": {"generateName": "a-"}}, NS) for _ in range(20)]
    done = await asyncio.gather(*creates, return_exceptions=True)
    assert sum(isinstance(one, dict) for one in done) == 5
    assert used(cluster) == {"configmaps": "5"}


async def test_a_change_of_the_limits_holds_at_once(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"configmaps": "1"})
    await cluster.api.create("configmaps", {"metadata": {"name": "a"}}, NS)
    await cluster.api.patch_merge("resourcequotas", NS, "q", b'{"spec":{"hard":{"configmaps":"2","secrets":"1"}}}')
    assert status(cluster) == {"hard": {"configmaps": "2", "secrets": "1"}, "used": {"configmaps": "1", "secrets": "0"}}
    await cluster.api.create("configmaps", {"metadata": {"name": "b"}}, NS)
    await cluster.api.delete("resourcequotas", NS, "q")
    await cluster.api.create("configmaps", {"metadata": {"name": "c"}}, NS)


async def test_a_written_status_is_answered_and_then_put_right(cluster: EmbeddedCluster) -> None:
    """``ResourceQuota should apply changes to a resourcequota status``: the write is seen, and later the truth again."""
    await quota(cluster, {"configmaps": "1"})
    changes = cluster.store.table("", "resourcequotas")
    before = cluster.store.revision
    wrote = await cluster.api.patch_merge(
        "resourcequotas", NS, "q", b'{"status":{"hard":{"configmaps":"9"}}}', subresource="status"
    )
    assert wrote["status"]["hard"] == {"configmaps": "9"}
    assert [c.record.decode()["status"]["hard"]["configmaps"] for c in changes.since(before)] == ["9", "1"]


async def test_a_status_that_can_not_be_written_is_written_later(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"configmaps": "2"})

    def no_room(table: Table, change: StoreChange) -> None:
        if table.key.plural == "resourcequotas":
            raise StatusError(500, "", "etcdserver: mvcc: database space exceeded")

    cluster.store.write_ahead = no_room
    await cluster.api.create("configmaps", {"metadata": {"name": "a"}}, NS)
    assert used(cluster) == {"configmaps": "0"}
    cluster.store.write_ahead = None
    await cluster.api.create("configmaps", {"metadata": {"name": "b"}}, NS)
    assert used(cluster) == {"configmaps": "2"}
    assert "used: configmaps=2" in await refused(cluster.api.create("configmaps", {"metadata": {"name": "c"}}, NS))


async def test_a_dry_run_is_checked_and_not_counted(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"configmaps": "1"})
    maps = cluster.api.resource("configmaps")

    def draft() -> Any:
        return cluster.pipeline.draft_create(
            maps, NS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}, WriteOptions(dry_run=True)
        )

    cluster.pipeline.finish(draft())
    assert used(cluster) == {"configmaps": "0"}
    await cluster.api.create("configmaps", {"metadata": {"name": "b"}}, NS)
    with pytest.raises(StatusError, match="exceeded quota"):
        cluster.pipeline.finish(draft())


async def test_quotas_are_counted_again_after_a_restart(tmp_path: Path) -> None:
    spec = EmbeddedSpec(controllers=QUOTED, data_dir=tmp_path)
    first = EmbeddedCluster("t", spec)
    await first.start()
    await quota(first, {"configmaps": "1"})
    await first.api.create("configmaps", {"metadata": {"name": "a"}}, NS)
    await first.stop()
    second = EmbeddedCluster("t", spec)
    await second.start()
    assert used(second) == {"configmaps": "1"}
    assert "exceeded quota" in await refused(second.api.create("configmaps", {"metadata": {"name": "b"}}, NS))
    await second.stop()


async def test_without_its_controller_a_quota_is_stored_without_effect() -> None:
    bare = EmbeddedCluster("t", EmbeddedSpec(controllers=EmbeddedControllers.none()))
    await bare.start()
    await quota(bare, {"configmaps": "0"})
    await bare.api.create("configmaps", {"metadata": {"name": "a"}}, NS)
    assert status(bare) == {}
    await bare.stop()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"hard": {"cats": "1"}}, 'spec.hard[cats]: Invalid value: "cats": must be a standard resource for quota'),
        ({"hard": {"pods": "500m"}}, 'spec.hard[pods]: Invalid value: "500m": must be an integer'),
        ({"hard": {"pods": "-1"}}, 'spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0'),
        (
            {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]},
            'spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource',
        ),
        (
            {"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]},
            'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes',
        ),
    ],
)
async def test_an_invalid_quota(cluster: EmbeddedCluster, spec: Object, told: str) -> None:
    with pytest.raises(StatusError) as caught:
        await cluster.api.create("resourcequotas", {"metadata": {"name": "q"}, "spec": spec}, NS)
    assert caught.value.code == 422
    assert told in caught.value.message


async def test_quotas_count_themselves(cluster: EmbeddedCluster) -> None:
    await quota(cluster, {"resourcequotas": "1"})
    assert status(cluster) == {"hard": {"resourcequotas": "1"}, "used": {"resourcequotas": "1"}}
    other = cluster.api.create("resourcequotas", {"metadata": {"name": "other"}, "spec": {}}, NS)
    assert "requested: resourcequotas=1, used: resourcequotas=1, limited: resourcequotas=1" in await refused(other)
