"""LimitRange: what it gives to containers and what it refuses, in the words of the real server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError

Object = dict[str, Any]
NS = "default"


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    made = EmbeddedCluster("t", EmbeddedSpec(controllers=EmbeddedControllers.none()))
    await made.start()
    yield made
    await made.stop()


async def limits(cluster: EmbeddedCluster, *items: Object) -> Object:
    return await cluster.api.create("limitranges", {"metadata": {"name": "l"}, "spec": {"limits": list(items)}}, NS)


async def pod(cluster: EmbeddedCluster, *containers: Object, **spec: Any) -> Object:
    listed = [{"name": f"c{number}", "image": "i", "resources": one} for number, one in enumerate(containers)]
    return await cluster.api.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": listed, **spec}}, NS)


async def test_a_container_gets_what_it_does_not_state(cluster: EmbeddedCluster) -> None:
    await limits(cluster, {"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}})
    init = {"name": "i", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    made = await pod(cluster, {}, {"requests": {"cpu": "500m"}}, initContainers=[init])
    full = {"cpu": "2", "memory": "1Gi"}
    assert [one["resources"] for one in made["spec"]["containers"]] == [
        {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": full},
        {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": full},
    ]
    assert made["spec"]["initContainers"][0]["resources"]["limits"] == full
    assert made["status"]["qosClass"] == "Burstable"
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, memory request for container c0; cpu, memory limit for container c0; "
        "memory request for container c1; cpu, memory limit for container c1; cpu, memory limit for init container i"
    )


async def test_bounds_default_the_defaults(cluster: EmbeddedCluster) -> None:
    made = await limits(
        cluster,
        {"type": "Container", "max": {"cpu": "4"}, "min": {"cpu": "1", "memory": "1Mi"}},
        {"type": "Pod", "max": {"cpu": "4"}},
    )
    container, whole = made["spec"]["limits"]
    assert container["default"] == {"cpu": "4"}
    assert container["defaultRequest"] == {"cpu": "4", "memory": "1Mi"}
    assert "default" not in whole


@pytest.mark.parametrize(
    ("limit", "resources", "told"),
    [
        ({"min": {"cpu": "1"}}, {"requests": {"cpu": "500m"}}, "minimum cpu usage per Container is 1, but request is 500m"),
        (
            {"max": {"cpu": "1"}, "default": {"cpu": "1"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "1500m"}},
            "maximum cpu usage per Container is 1, but limit is 1500m",
        ),
        (
            {"max": {"cpu": "1", "memory": "1Gi"}},
            {"limits": {"cpu": "2", "memory": "2Gi"}},
            "[maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Gi, but limit is 2Gi]",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"limits": {"memory": "1"}},
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}},
            "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        ({"type": "Pod", "min": {"cpu": "1"}}, {}, "minimum cpu usage per Pod is 1.  No request is specified"),
        ({"type": "Pod", "max": {"cpu": "1"}}, {}, "maximum cpu usage per Pod is 1.  No limit is specified"),
        (
            {"type": "Pod", "max": {"cpu": "3"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
            "maximum cpu usage per Pod is 3, but limit is 4",
        ),
    ],
)
async def test_bounds_refuse_a_pod(cluster: EmbeddedCluster, limit: Object, resources: Object, told: str) -> None:
    await limits(cluster, {"type": "Container", **limit})
    with pytest.raises(StatusError) as caught:
        await pod(cluster, resources, resources)
    assert (caught.value.code, caught.value.message) == (403, f'pods "p" is forbidden: {told}')


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("500Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
        ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        ("2Gi", ""),
    ],
)
async def test_bounds_of_a_claim(cluster: EmbeddedCluster, size: str, told: str) -> None:
    await limits(cluster, {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    create = cluster.api.create("persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": spec}, NS)
    if not told:
        assert (await create)["metadata"]["name"] == "c"
        return
    with pytest.raises(StatusError) as caught:
        await create
    assert caught.value.message == f'persistentvolumeclaims "c" is forbidden: {told}'


async def test_other_namespaces_and_later_updates_are_free(cluster: EmbeddedCluster) -> None:
    await pod(cluster, {})
    await limits(cluster, {"type": "Container", "min": {"cpu": "1"}})
    labelled = await cluster.api.patch_merge("pods", NS, "p", b'{"metadata":{"labels":{"a":"b"}}}')
    assert labelled["metadata"]["labels"] == {"a": "b"}
    await cluster.api.create("namespaces", {"metadata": {"name": "other"}})
    container = {"name": "c", "image": "i"}
    made = await cluster.api.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": [container]}}, "other")
    assert made["spec"]["containers"][0]["resources"] == {}


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (
            {"min": {"cpu": "2"}, "max": {"cpu": "1"}},
            'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        ),
        ({"default": {"cpu": "2"}, "max": {"cpu": "1"}}, "default value 2 is greater than max value 1"),
        ({"maxLimitRequestRatio": {"cpu": "500m"}}, "ratio 500m is less than 1"),
        ({"type": "PersistentVolumeClaim"}, "either minimum or maximum storage value is required, but neither was provided"),
    ],
)
async def test_an_invalid_limit_range(cluster: EmbeddedCluster, limit: Object, told: str) -> None:
    with pytest.raises(StatusError) as caught:
        await limits(cluster, {"type": "Container", **limit})
    assert caught.value.code == 422
    assert told in caught.value.message
