"""Kubernetes' e2e specs of ResourceQuota, as in test/e2e/apimachinery/resource_quota.go.

Where a spec waits until a count is stable for seconds, or holds on to it for ten, the replay reads it a few times in a row.
"""

import uuid
from typing import Any

import pytest
from e2e_crds import ANY, crd_of
from e2e_driver import CRDS, E2eClient, Object, Refused, collection, delete_options, unless, until

from raycp.embedded.strategy.scalars import quantity_value

GOLD = "gold.storageclass.storage.k8s.io"
DONGLE = "requests.example.com/dongle"
HARD = {
    "pods": "5",
    "services": "10",
    "services.nodeports": "1",
    "services.loadbalancers": "1",
    "replicationcontrollers": "10",
    "resourcequotas": "1",
    "cpu": "1",
    "memory": "500Mi",
    "configmaps": "10",
    "secrets": "10",
    "persistentvolumeclaims": "10",
    "requests.storage": "10Gi",
    "ephemeral-storage": "50Gi",
    f"{GOLD}/persistentvolumeclaims": "10",
    f"{GOLD}/requests.storage": "10Gi",
    "count/replicasets.apps": "5",
    DONGLE: "3",
}
COMPUTE = {"requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi"}
ZERO = {"pods": "0", "requests.cpu": "0", "requests.memory": "0", "limits.cpu": "0", "limits.memory": "0"}
TAKEN = {"pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1", "limits.memory": "400Mi"}
REQUESTS, LIMITS = {"cpu": "500m", "memory": "200Mi"}, {"cpu": "1", "memory": "400Mi"}


class Space:
    """One spec's namespace, and its typed client."""

    def __init__(self, e2e: E2eClient, name: str) -> None:
        self.e2e = e2e
        self.name = name

    def path(self, plural: str, name: str = "", group: str = "v1") -> str:
        return collection(group, self.name, plural) + (f"/{name}" if name else "")

    async def create(self, plural: str, kind: str, name: str, group: str = "v1", **fields: Any) -> Any:
        metadata = {"name": name, "labels": fields.pop("labels", {})}
        body = {"apiVersion": group, "kind": kind, "metadata": metadata, **fields}
        return await self.e2e.typed("POST", self.path(plural, group=group), body)

    async def delete(self, plural: str, name: str, group: str = "v1", **options: Any) -> None:
        await self.e2e.typed("DELETE", self.path(plural, name, group), delete_options(group, **options))

    async def count(self, plural: str) -> int:
        """How many there are, as soon as two answers in a row agree."""
        before = -1
        while True:
            found = len((await self.e2e.typed("GET", self.path(plural)))["items"])
            if found == before:
                return found
            before = found

    async def quota(self, name: str, hard: Object, **spec: Any) -> Any:
        return await self.create("resourcequotas", "ResourceQuota", name, spec={"hard": hard, **spec})

    async def first_quota(self, **more: str) -> dict[str, str]:
        """The quota of most specs, over whatever quotas there were; what is used of it already."""
        used = {"resourcequotas": str(await self.count("resourcequotas") + 1)}
        await self.quota("test-quota", {**HARD, **more})
        await self.used("test-quota", used)
        return used

    async def _has(self, name: str, wanted: dict[str, str]) -> bool:
        found = (await self.e2e.typed("GET", self.path("resourcequotas", name))).get("status", {}).get("used", {})
        return all(key in found and quantity_value(found[key]) == quantity_value(value) for key, value in wanted.items())

    async def used(self, name: str, wanted: dict[str, str]) -> None:
        """Wait until the quota counts this; it may count other things, too."""
        await until(lambda: self._has(name, wanted), f"{name} uses {wanted}")

    async def still(self, name: str, wanted: dict[str, str]) -> None:
        """The quota counts this, and goes on to."""
        for _ in range(5):
            assert await self._has(name, wanted), f"{name} uses {wanted}"

    async def pod(self, name: str, requests: Object | None = None, limits: Object | None = None, **spec: Any) -> Any:
        """A Pod that no node takes."""
        resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value}
        container = {"name": "pause", "image": "pause:3.10", "resources": resources}
        selector = {"x-test.k8s.io/unsatisfiable": "not-schedulable"}
        return await self.create("pods", "Pod", name, spec={"nodeSelector": selector, "containers": [container], **spec})

    async def refused(self, write: Any) -> None:
        with pytest.raises(Refused) as caught:
            await write
        assert caught.value.code == 403
        assert "exceeded quota" in caught.value.message


@pytest.fixture
async def space(e2e: E2eClient) -> Space:
    return Space(e2e, await e2e.namespace("resourcequota", **{"pod-security.kubernetes.io/enforce": "baseline"}))


async def test_status_is_promptly_calculated(space: Space) -> None:
    """should create a ResourceQuota and ensure its status is promptly calculated."""
    await space.first_quota()


async def test_life_of_a_service(space: Space) -> None:
    """should create a ResourceQuota and capture the life of a service."""
    used = await space.first_quota()

    def spec(type_: str, **more: Any) -> Object:
        return {"type": type_, "ports": [{"port": 80, "targetPort": 80}], **more}

    await space.create("services", "Service", "test-service", spec=spec("ClusterIP"))
    await space.create("services", "Service", "test-service-np", spec=spec("NodePort"))
    balancer = spec("LoadBalancer", allocateLoadBalancerNodePorts=True)
    await space.refused(space.create("services", "Service", "test-service-lb", spec=balancer))
    await space.used("test-quota", {**used, "services": "2", "services.nodeports": "1"})
    await space.delete("services", "test-service")
    await space.delete("services", "test-service-np")
    await space.used("test-quota", {**used, "services": "0", "services.nodeports": "0"})


@pytest.mark.parametrize(
    ("plural", "kind", "name", "data"),
    [
        pytest.param(
            "secrets",
            "Secret",
            "test-secret",
            {"data-1": "dmFsdWUtMQo=", "data-2": "dmFsdWUtMgo=", "data-3": "dmFsdWUtMwo="},
            id="should create a ResourceQuota and capture the life of a secret.",
        ),
        pytest.param(
            "configmaps",
            "ConfigMap",
            "test-configmap",
            {"a": "b"},
            id="should create a ResourceQuota and capture the life of a configMap.",
        ),
    ],
)
async def test_life_of_what_a_namespace_has_already(space: Space, plural: str, kind: str, name: str, data: Object) -> None:
    found = await space.count(plural)
    used = await space.first_quota(**{plural: str(found + 1)})
    await space.used("test-quota", {**used, plural: str(found)})
    await space.create(plural, kind, name, data=data)
    await space.used("test-quota", {**used, plural: str(found + 1)})
    await space.delete(plural, name)
    await space.used("test-quota", {**used, plural: str(found)})


def asking_less(pod: Object) -> Object:
    """The Pod with other requests, which an update may not change."""
    requests = {"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "10Gi"}
    container = pod["spec"]["containers"][0]
    container = {**container, "resources": {**container["resources"], "requests": requests}}
    return {**pod, "spec": {**pod["spec"], "containers": [container]}}


async def test_life_of_a_pod(space: Space) -> None:
    """should create a ResourceQuota and capture the life of a pod."""
    used = await space.first_quota()
    requests = {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"}
    pod = await space.pod("test-pod", requests, {"example.com/dongle": "2"})
    taken = {**used, "pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", DONGLE: "2"}
    await space.used("test-quota", taken)
    await space.refused(space.pod("fail-pod", {"cpu": "600m", "memory": "100Mi"}))
    more = {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"}
    await space.refused(space.pod("fail-pod-for-extended-resource", more, {"example.com/dongle": "2"}))
    with pytest.raises(Refused):  # a conflict where the scheduler was quicker
        await space.e2e.typed("PUT", space.path("pods", "test-pod"), asking_less(pod))

    async def told() -> str:
        """Why the update is refused, apart from conflicts."""
        read = await space.e2e.typed("GET", space.path("pods", "test-pod"))
        with pytest.raises(Refused) as caught:
            await space.e2e.typed("PUT", space.path("pods", "test-pod"), asking_less(read))
        return "" if caught.value.code == 409 else caught.value.reason

    assert await until(told, "the update is refused for itself") == "Invalid"
    await space.used("test-quota", taken)
    await space.delete("pods", "test-pod", gracePeriodSeconds=0)
    await space.used("test-quota", {**dict.fromkeys(taken, "0"), **used})


TEMPLATE: Object = {"spec": {"containers": [{"name": "c", "image": "nginx"}]}}


@pytest.mark.parametrize(
    ("group", "plural", "kind", "key", "options"),
    [
        pytest.param(
            "v1",
            "replicationcontrollers",
            "ReplicationController",
            "replicationcontrollers",
            {"propagationPolicy": "Background"},
            id="should create a ResourceQuota and capture the life of a replication controller.",
        ),
        pytest.param(
            "apps/v1",
            "replicasets",
            "ReplicaSet",
            "count/replicasets.apps",
            {},
            id="should create a ResourceQuota and capture the life of a replica set.",
        ),
    ],
)
async def test_life_of_a_workload(space: Space, group: str, plural: str, kind: str, key: str, options: Object) -> None:
    used = await space.first_quota()
    await space.used("test-quota", {**used, key: "0"})
    labels = {"name": "test"}
    spec = {
        "replicas": 0,
        "selector": labels if group == "v1" else {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, **TEMPLATE},
    }
    await space.create(plural, kind, "test", group, spec=spec)
    await space.used("test-quota", {key: "1"})
    await space.delete(plural, "test", group, **options)
    await space.used("test-quota", {key: "0"})


@pytest.mark.parametrize(
    "storage_class",
    [
        pytest.param("", id="should create a ResourceQuota and capture the life of a persistent volume claim"),
        pytest.param(
            "gold", id="should create a ResourceQuota and capture the life of a persistent volume claim with a storage class"
        ),
    ],
)
async def test_life_of_a_claim_of_storage(space: Space, storage_class: str) -> None:
    used = await space.first_quota()
    counted = {"persistentvolumeclaims": "1", "requests.storage": "1Gi"}
    if storage_class:
        counted |= {f"{GOLD}/{key}": value for key, value in counted.items()}
    free = dict.fromkeys(counted, "0")
    await space.used("test-quota", {**used, **free})
    spec = {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    await space.create("persistentvolumeclaims", "PersistentVolumeClaim", "test-claim", spec=spec)
    await space.used("test-quota", counted)
    await space.delete("persistentvolumeclaims", "test-claim")
    await space.used("test-quota", free)


async def test_life_of_a_resource_claim(space: Space) -> None:
    """should create a ResourceQuota and capture the life of a ResourceClaim"""
    counts = "count/resourceclaims.resource.k8s.io", "gold.deviceclass.resource.k8s.io/devices"
    used = await space.first_quota(**dict.fromkeys(counts, "1"))
    await space.used("test-quota", {**used, **dict.fromkeys(counts, "0")})
    spec = {"devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "gold"}}]}}
    await space.create("resourceclaims", "ResourceClaim", "test-claim", "resource.k8s.io/v1", spec=spec)
    await space.used("test-quota", dict.fromkeys(counts, "1"))
    await space.delete("resourceclaims", "test-claim", "resource.k8s.io/v1")
    await space.used("test-quota", dict.fromkeys(counts, "0"))


async def test_life_of_a_custom_resource(space: Space) -> None:
    """should create a ResourceQuota and capture the life of a custom resource."""
    plural, group = f"e2e-test-{space.name}-crds", "resourcequota.example.com"
    key = f"count/{plural}.{group}"
    await space.e2e.typed("POST", CRDS, crd_of(group, "e2etest", {"v1": ANY}, plural=plural, kind="E2eTest"))
    items = space.path(plural, group=f"{group}/v1")
    await until(lambda: unless(404, space.e2e.dynamic("GET", items)), "the custom resource is served")
    probe = f"quota-for-{plural}"
    await space.quota(probe, {key: "0"})

    async def known() -> bool:
        """The spec raises the limit until it is counted."""
        found = await space.e2e.typed("GET", space.path("resourcequotas", probe))
        if key in found["status"]["used"]:
            return True
        more = {key: str(int(found["spec"]["hard"][key]) + 1)}
        await space.e2e.change(space.path("resourcequotas", probe), lambda wanted: wanted["spec"]["hard"].update(more))
        return False

    await until(known, "the quota counts custom resources")
    await space.delete("resourcequotas", probe)
    used = await space.first_quota(**{key: "1"})
    await space.used("test-quota", {**used, key: "0"})

    async def instance(name: str) -> None:
        made = {"apiVersion": f"{group}/v1", "kind": "E2eTest", "metadata": {"name": name}}
        await space.e2e.dynamic("POST", items, made)

    await instance("test-cr-1")
    await space.used("test-quota", {key: "1"})
    await space.refused(instance("test-cr-2"))
    await space.e2e.dynamic("DELETE", f"{items}/test-cr-1", delete_options())
    await space.used("test-quota", {key: "0"})
    await space.e2e.typed("DELETE", f"{CRDS}/{plural}.{group}", delete_options("apiextensions.k8s.io/v1"))


def selected(scope: str, operator: str = "Exists", values: tuple[str, ...] = ()) -> Object:
    wanted = {"scopeName": scope, "operator": operator, **({"values": list(values)} if values else {})}
    return {"scopeSelector": {"matchExpressions": [wanted]}}


async def test_terminating_scopes(space: Space) -> None:
    """should verify ResourceQuota with terminating scopes."""
    for name, scope in (("quota-terminating", "Terminating"), ("quota-not-terminating", "NotTerminating")):
        await space.quota(name, {"pods": "5", **COMPUTE}, scopes=[scope])
        await space.used(name, {"pods": "0"})
    await space.pod("test-pod", REQUESTS, LIMITS)
    await space.used("quota-not-terminating", TAKEN)
    await space.still("quota-terminating", ZERO)
    await space.delete("pods", "test-pod", gracePeriodSeconds=0)
    await space.used("quota-not-terminating", ZERO)
    await space.pod("terminating-pod", REQUESTS, LIMITS, activeDeadlineSeconds=3600)
    await space.used("quota-terminating", TAKEN)
    await space.used("quota-not-terminating", ZERO)
    await space.still("quota-not-terminating", ZERO)
    await space.delete("pods", "terminating-pod", gracePeriodSeconds=0)
    await space.used("quota-terminating", ZERO)


async def test_terminating_scopes_through_selectors(space: Space) -> None:
    """should verify ResourceQuota with terminating scopes through scope selectors."""
    for name, scope in (("quota-terminating", "Terminating"), ("quota-not-terminating", "NotTerminating")):
        await space.quota(name, {"pods": "1", **COMPUTE}, **selected(scope))
        await space.used(name, {"pods": "0"})
    await space.pod("test-pod", REQUESTS, LIMITS)
    await space.used("quota-not-terminating", TAKEN)
    await space.still("quota-terminating", ZERO)

    async def limited() -> bool:
        pod = await space.e2e.typed("GET", space.path("pods", "test-pod"))
        pod["spec"]["activeDeadlineSeconds"] = 3600
        # a conflict where the scheduler was quicker
        return await unless(409, space.e2e.typed("PUT", space.path("pods", "test-pod"), pod)) is not None

    await until(limited, "the Pod has a deadline")
    await space.refused(space.pod("terminating-pod", REQUESTS, LIMITS, activeDeadlineSeconds=3600))
    await space.used("quota-terminating", TAKEN)
    await space.used("quota-not-terminating", ZERO)
    await space.delete("pods", "test-pod", gracePeriodSeconds=0)
    await space.used("quota-terminating", ZERO)
    await space.pod("terminating-pod", REQUESTS, LIMITS, activeDeadlineSeconds=3600)
    await space.used("quota-terminating", TAKEN)
    await space.used("quota-not-terminating", ZERO)
    await space.delete("pods", "terminating-pod", gracePeriodSeconds=0)
    await space.used("quota-terminating", ZERO)


@pytest.mark.parametrize(
    "by_selector",
    [
        pytest.param(False, id="should verify ResourceQuota with best effort scope."),
        pytest.param(True, id="should verify ResourceQuota with best effort scope using scope-selectors."),
    ],
)
async def test_best_effort_scopes(space: Space, by_selector: bool) -> None:
    best, other = ("quota-besteffort", "BestEffort"), ("quota-not-besteffort", "NotBestEffort")
    for name, scope in (best, other):
        await space.quota(name, {"pods": "5"}, **(selected(scope) if by_selector else {"scopes": [scope]}))
        await space.used(name, {"pods": "0"})
    for pod, resources, counts, ignores in (
        ("pfpod", ({}, {}), best, other),
        ("burstable-pod", (REQUESTS, LIMITS), other, best),
    ):
        await space.pod(pod, *resources)
        await space.used(counts[0], {"pods": "1"})
        await space.used(ignores[0], {"pods": "0"})
        await space.delete("pods", pod, gracePeriodSeconds=0)
        await space.used(counts[0], {"pods": "0"})


async def test_update_and_delete(space: Space) -> None:
    """should be able to update and delete ResourceQuota."""
    await space.quota("test-quota", {"cpu": "1", "memory": "500Mi"})
    path = space.path("resourcequotas", "test-quota")
    assert (await space.e2e.typed("GET", path))["spec"]["hard"] == {"cpu": "1", "memory": "500Mi"}
    # an update without a resource version, as in the spec
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "test-quota"}}
    updated = await space.e2e.typed("PUT", path, {**body, "spec": {"hard": {"cpu": "2", "memory": "1Gi"}}})
    assert updated["spec"]["hard"] == {"cpu": "2", "memory": "1Gi"}
    assert (await space.e2e.typed("GET", path))["spec"]["hard"] == {"cpu": "2", "memory": "1Gi"}
    await space.delete("resourcequotas", "test-quota")
    assert await space.e2e.found(path) is None


async def test_lifecycle(space: Space) -> None:
    """should manage the lifecycle of a ResourceQuota"""
    name = f"e2e-quota-{uuid.uuid4().hex[:5]}"
    spec = {"hard": {"cpu": "1", "memory": "500Mi"}}
    await space.create("resourcequotas", "ResourceQuota", name, labels={"e2e-rq-label": name}, spec=spec)
    path = space.path("resourcequotas", name)
    read = await space.e2e.typed("GET", path)
    assert read["spec"]["hard"] == spec["hard"]
    assert int(read["metadata"]["resourceVersion"]) > 0
    listed = (await space.e2e.typed("GET", f"/api/v1/resourcequotas?labelSelector=e2e-rq-label%3D{name}"))["items"]
    assert [each["metadata"]["name"] for each in listed] == [name]
    patched = await space.e2e.patch(path, {"metadata": {"labels": {name: "patched"}}, "spec": {"hard": {"memory": "750Mi"}}})
    assert patched["metadata"]["labels"][name] == "patched"
    assert patched["spec"]["hard"] == {"cpu": "1", "memory": "750Mi"}
    assert int(listed[0]["metadata"]["resourceVersion"]) < int(patched["metadata"]["resourceVersion"])
    selector = f"?labelSelector=e2e-rq-label%3D{name}"
    await space.e2e.typed("DELETE", space.path("resourcequotas") + selector, delete_options())
    assert await space.e2e.found(path) is None


async def test_changes_of_the_status(space: Space) -> None:
    """should apply changes to a resourcequota status"""
    e2e, name = space.e2e, f"e2e-rq-status-{uuid.uuid4().hex[:5]}"
    selector = f"labelSelector=e2e-rq-label%3D{name}"
    path = space.path("resourcequotas", name)

    async def listed() -> str:
        return str((await e2e.typed("GET", f"/api/v1/resourcequotas?{selector}"))["metadata"]["resourceVersion"])

    async def observed(since: str, hard: Object) -> None:
        """A watch from ``since`` tells of a status with these limits."""
        async with e2e.watching(f"{space.path('resourcequotas')}?watch=1&{selector}&resourceVersion={since}") as events:
            async for event in events:
                if event["object"]["metadata"]["name"] == name and event["object"].get("status", {}).get("hard") == hard:
                    return

    since = await listed()
    first = {"cpu": "500m", "memory": "500Mi"}
    await space.create("resourcequotas", "ResourceQuota", name, labels={"e2e-rq-label": name}, spec={"hard": first})
    read = await e2e.typed("GET", path)
    assert read["spec"]["hard"] == first
    updated = await e2e.change(f"{path}/status", lambda wanted: wanted.update(status={"hard": first}))
    await observed(since, updated["spec"]["hard"])
    since = await listed()
    second = {"cpu": "1", "memory": "1Gi"}
    assert (await e2e.patch(path, {"spec": {"hard": second}}))["spec"]["hard"] == second
    patched = await e2e.patch(f"{path}/status", {"status": {"hard": second}})
    await observed(since, patched["spec"]["hard"])
    assert (await e2e.dynamic("GET", f"{path}/status"))["status"]["hard"] == second
    since = await listed()
    third = {"cpu": "2", "memory": "2Gi"}
    assert (await e2e.patch(f"{path}/status", {"status": {"hard": third}}))["status"]["hard"] == third
    await observed(since, third)

    async def put_right() -> bool:
        found = await e2e.typed("GET", path)
        return bool(found["spec"]["hard"] == found["status"]["hard"] == second)

    await until(put_right, "the status is that of the spec again")


SCOPE = "should verify ResourceQuota's priority class scope (quota set to pod count: 1) against"


@pytest.mark.parametrize(
    ("limit", "operator", "classes", "pods", "counted"),
    [
        pytest.param(1, "In", ["pclass1"], ["pclass1"], [1], id=f"{SCOPE} a pod with same priority class."),
        pytest.param(1, "In", ["pclass2"], ["pclass2", "pclass2"], [1, None], id=f"{SCOPE} 2 pods with same priority class."),
        pytest.param(1, "In", ["pclass4"], ["pclass3", "pclass3"], [0, 0], id=f"{SCOPE} 2 pods with different priority class."),
        pytest.param(
            2,
            "In",
            ["pclass5", "pclass6"],
            ["pclass5", "pclass6"],
            [1, 2],
            id="should verify ResourceQuota's multiple priority class scope (quota set to pod count: 2) "
            "against 2 pods with same priority classes.",
        ),
        pytest.param(
            1, "NotIn", ["pclass7"], ["pclass7"], [0], id=f"{SCOPE} a pod with different priority class (ScopeSelectorOpNotIn)."
        ),
        pytest.param(1, "Exists", [], ["pclass8"], [1], id=f"{SCOPE} a pod with different priority class (ScopeSelectorOpExists)."),
    ],
)
async def test_priority_class_scopes(
    space: Space, limit: int, operator: str, classes: list[str], pods: list[str], counted: list[int | None]
) -> None:
    """``counted`` is what the quota counts after each Pod; None for a Pod that it refuses."""
    for each in dict.fromkeys(pods):
        await priority_class(space, each)
    await space.quota("quota-priorityclass", {"pods": str(limit)}, **selected("PriorityClass", operator, tuple(classes)))
    await space.used("quota-priorityclass", {"pods": "0"})
    made = []
    for number, (class_, wanted) in enumerate(zip(pods, counted, strict=True)):
        pod = f"testpod-{class_}-{number}"
        if wanted is None:
            await space.refused(space.pod(pod, priorityClassName=class_))
        else:
            await space.pod(pod, priorityClassName=class_)
            made.append(pod)
            await space.used("quota-priorityclass", {"pods": str(wanted)})
    for pod in made:
        await space.delete("pods", pod, gracePeriodSeconds=0)
    await space.used("quota-priorityclass", {"pods": "0"})


async def priority_class(space: Space, name: str) -> None:
    body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1000}
    await space.e2e.typed("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body)


async def test_priority_class_scope_of_resources(space: Space) -> None:
    """should verify ResourceQuota's priority class scope (cpu, memory quota set) against a pod with same priority class."""
    await priority_class(space, "pclass9")
    hard = {"pods": "1", "requests.cpu": "1", "requests.memory": "1Gi", "limits.cpu": "3", "limits.memory": "3Gi"}
    await space.quota("quota-priorityclass", hard, **selected("PriorityClass", "In", ("pclass9",)))
    await space.used("quota-priorityclass", ZERO)
    await space.pod("testpod-pclass9", {"cpu": "1", "memory": "1Gi"}, {"cpu": "2", "memory": "2Gi"}, priorityClassName="pclass9")
    taken = {"pods": "1", "requests.cpu": "1", "requests.memory": "1Gi", "limits.cpu": "2", "limits.memory": "2Gi"}
    await space.used("quota-priorityclass", taken)
    await space.delete("pods", "testpod-pclass9", gracePeriodSeconds=0)
    await space.used("quota-priorityclass", ZERO)


async def test_cross_namespace_affinity_scope(space: Space) -> None:
    """should verify ResourceQuota with cross namespace pod affinity scope using scope-selectors."""
    await space.quota("quota-affinity", {"pods": "5"}, **selected("CrossNamespacePodAffinity"))
    await space.used("quota-affinity", {"pods": "0"})
    team = {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["ads"]}]}}
    pods = {"no-cross-namespace-affinity": {}, "with-namespaces": {"namespaces": ["ns1"]}, "with-namespace-selector": team}
    for counted, (name, term) in enumerate(pods.items()):
        terms = [{"topologyKey": "region", **term}]
        await space.pod(name, affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
        await space.used("quota-affinity", {"pods": str(counted)})
    for name in pods:
        await space.delete("pods", name, gracePeriodSeconds=0)
    await space.used("quota-affinity", {"pods": "0"})


VOLUMES = {"requests.storage": "5Gi", "persistentvolumeclaims": "1"}
ONE_CLAIM, NO_CLAIM = (
    {"requests.storage": "1Gi", "persistentvolumeclaims": "1"},
    {"requests.storage": "0", "persistentvolumeclaims": "0"},
)
CLAIM: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}


async def test_volume_attributes_class_of_two_claims(space: Space) -> None:
    """should verify ResourceQuota's volume attributes class scope (quota set to pvc count: 1) against 2 pvcs with same
    volume attributes class."""
    await space.quota("quota", VOLUMES, **selected("VolumeAttributesClass", "In", ("gold",)))
    await space.used("quota", NO_CLAIM)
    spec = {**CLAIM, "volumeAttributesClassName": "gold"}
    await space.create("persistentvolumeclaims", "PersistentVolumeClaim", "test-claim-1", spec=spec)
    await space.used("quota", ONE_CLAIM)
    await space.refused(space.create("persistentvolumeclaims", "PersistentVolumeClaim", "test-claim-2", spec=spec))
    await space.delete("persistentvolumeclaims", "test-claim-1")
    await space.used("quota", NO_CLAIM)


async def test_volume_attributes_class_that_changes(space: Space) -> None:
    """should verify ResourceQuota's volume attributes class scope (quota set to pvc count: 1) against a pvc with different
    volume attributes class. Nobody binds volumes here: the replay does."""
    e2e, volume = space.e2e, f"quota-fake-volume-{space.name}"
    for each in ("gold", "silver"):
        await space.quota(f"quota-{each}", VOLUMES, **selected("VolumeAttributesClass", "In", (each,)))
        await space.used(f"quota-{each}", NO_CLAIM)
    labels = {"x-test.k8s.io/satisfiable": "fake-volume"}
    spec = {**CLAIM, "volumeAttributesClassName": "gold", "selector": {"matchLabels": labels}, "volumeName": volume}
    await space.create("persistentvolumeclaims", "PersistentVolumeClaim", "test-claim", spec=spec)
    volumes, claim = "/api/v1/persistentvolumes", space.path("persistentvolumeclaims", "test-claim")
    of_volume = {
        "storageClassName": "",
        "volumeAttributesClassName": "gold",
        "persistentVolumeReclaimPolicy": "Delete",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "csi": {"driver": "fake.csi.k8s.io", "volumeHandle": "volume-handle"},
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": space.name, "name": "test-claim"},
    }
    body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume, "labels": labels}, "spec": of_volume}
    await e2e.typed("POST", volumes, body)

    async def status(**fields: Any) -> None:
        told = await e2e.change(f"{claim}/status", lambda wanted: wanted["status"].update(fields))
        assert fields.items() <= told["status"].items()

    await status(phase="Bound", currentVolumeAttributesClassName="gold")
    await space.used("quota-gold", ONE_CLAIM)
    for path in (claim, f"{volumes}/{volume}"):
        told = await e2e.change(path, lambda wanted: wanted["spec"].update(volumeAttributesClassName="silver"))
        assert told["spec"]["volumeAttributesClassName"] == "silver"
        # the class that is wanted and the one that it has are counted, both
        await space.used("quota-silver", ONE_CLAIM)
        await space.used("quota-gold", ONE_CLAIM)
    await status(currentVolumeAttributesClassName="silver")
    await space.used("quota-gold", NO_CLAIM)
    await space.used("quota-silver", ONE_CLAIM)
    await e2e.typed("DELETE", f"{volumes}/{volume}", delete_options())
