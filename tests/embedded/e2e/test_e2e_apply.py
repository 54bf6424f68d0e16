"""Kubernetes' e2e specs of ServerSideApply: apply.go in test/e2e/apimachinery."""

import json
from typing import Any

import pytest
from e2e_driver import JSON, E2eClient, Object, Refused
from e2e_fixtures import BASELINE, CustomKind, apply, cron_schema, custom_kind, send_bytes

NGINX = "registry.example/nginx:1.15-4"


def _deployment(name: str, replicas: int | None = 3, **pod: Any) -> Object:
    """``pod`` are more fields of the Pods' spec, with which the container can be replaced."""
    template = {"metadata": {"labels": {"app": "nginx"}}, "spec": {"containers": [{"name": "nginx", "image": NGINX}], **pod}}
    spec: Object = {"selector": {"matchLabels": {"app": "nginx"}}, "template": template}
    if replicas is not None:
        spec["replicas"] = replicas
    metadata = {"name": name, "labels": {"app": "nginx"}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


async def _deployments(e2e: E2eClient) -> str:
    return f"/apis/apps/v1/namespaces/{await e2e.namespace('apply', **BASELINE)}/deployments"


@pytest.mark.parametrize(
    ("plural", "body", "fields"),
    [
        (
            "pods",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "test-pod"},
                "spec": {"containers": [{"name": "test-container", "image": "test-image"}]},
            },
            {"f:spec": {"f:containers": {'k:{"name":"test-container"}': {".": {}, "f:image": {}, "f:name": {}}}}},
        ),
        (
            "services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "test-svc"},
                "spec": {"ports": [{"port": 8080, "protocol": "UDP"}]},
            },
            {"f:spec": {"f:ports": {'k:{"port":8080,"protocol":"UDP"}': {".": {}, "f:port": {}, "f:protocol": {}}}}},
        ),
    ],
    ids=["pods", "services"],
)
async def test_create(e2e: E2eClient, plural: str, body: Object, fields: Object) -> None:
    """should create an applied object if it does not already exist"""
    path = f"/api/v1/namespaces/{await e2e.namespace('apply', **BASELINE)}/{plural}/{body['metadata']['name']}"
    await apply(e2e, path, body, "apply_test")
    await e2e.typed("GET", path)
    again = await apply(e2e, path, body, "apply_test_2")
    owned = {each["manager"]: each["fieldsV1"] for each in again["metadata"]["managedFields"] if each["operation"] == "Apply"}
    # the spec compares texts: the order of the fields counts
    assert {manager: json.dumps(told) for manager, told in owned.items()} == dict.fromkeys(
        ("apply_test", "apply_test_2"), json.dumps(fields)
    )


async def test_subresources(e2e: E2eClient) -> None:
    """should work for subresources"""
    path = f"/api/v1/namespaces/{await e2e.namespace('apply', **BASELINE)}/pods/test-pod"
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test-pod"}}
    mine = {**head, "status": {"conditions": [{"type": "MyStatus", "status": "True"}]}}

    async def conditions() -> list[str]:
        return [each["type"] for each in (await e2e.typed("GET", path))["status"].get("conditions", [])]

    await apply(e2e, path, {**head, "spec": {"containers": [{"name": "nginx", "image": NGINX}]}}, "apply_test")
    await e2e.typed("GET", path)
    await apply(e2e, path, mine, "apply_test2")
    assert "MyStatus" not in await conditions()
    await apply(e2e, f"{path}/status", mine, "apply_test2")
    assert "MyStatus" in await conditions()


async def test_unset(e2e: E2eClient) -> None:
    """should remove a field if it is owned but removed in the apply request"""
    path = f"{await _deployments(e2e)}/deployment"
    ports = [{"containerPort": 80, "protocol": "TCP"}]
    await apply(e2e, path, _deployment("deployment", containers=[{"name": "nginx", "image": NGINX, "ports": ports}]), "apply_test")
    await apply(e2e, path, _deployment("deployment"), "apply_test")
    [container] = (await e2e.typed("GET", path))["spec"]["template"]["spec"]["containers"]
    assert not container.get("ports")


async def test_unset_but_shared(e2e: E2eClient) -> None:
    """should not remove a field if an owner unsets the field but other managers still have ownership of the field"""
    name = "deployment-shared-unset"
    path = f"{await _deployments(e2e)}/{name}"
    for manager in ("shared_owner_1", "shared_owner_2"):
        await apply(e2e, path, _deployment(name, hostname="test-hostname"), manager)
    told = await apply(e2e, path, _deployment(name, replicas=None), "shared_owner_1")
    assert told["spec"]["replicas"] == 3
    assert told["spec"]["template"]["spec"]["hostname"] == "test-hostname"


async def test_force(e2e: E2eClient) -> None:
    """should ignore conflict errors if force apply is used"""
    path = f"{await _deployments(e2e)}/deployment"
    await apply(e2e, path, _deployment("deployment"), "apply_test")
    await e2e.patch(path, {"spec": {"replicas": 5}}, "merge")
    with pytest.raises(Refused) as refused:
        await apply(e2e, path, _deployment("deployment"), "apply_test")
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert [each["field"] for each in refused.value.status["details"]["causes"]] == [".spec.replicas"]
    await apply(e2e, path, _deployment("deployment"), "apply_test", "force=true")


async def test_ownership_given_up(e2e: E2eClient) -> None:
    """should give up ownership of a field if forced applied by a controller"""
    name = "deployment-shared-map-item-removal"
    path = f"{await _deployments(e2e)}/{name}"
    await apply(e2e, path, _deployment(name), "test_applier")
    await e2e.change(path, lambda wanted: wanted["spec"].update(replicas=4))
    told = await apply(e2e, path, _deployment(name, replicas=None), "test_applier")
    assert told["spec"]["replicas"] == 4


def _lines(kind: CustomKind, version: str, metadata: str = "", spec: str = "", name: str = "x", port: int = 80) -> str:
    return (
        f"\napiVersion: {kind.api_version(version)}\nkind: {kind.kind}\nmetadata:\n  name: mytest\n{metadata}spec:\n{spec}"
        f'  ports:\n  - name: "{name}"\n    containerPort: {port}\n    protocol: TCP'
    )


async def test_crds(e2e: E2eClient) -> None:
    """should work for CRDs"""
    async with custom_kind(e2e, cron_schema(preserve=True), ("v1beta1", "v1"), primed=True) as kind:
        path, beta = kind.path("mytest"), kind.path("mytest", kind.versions[1])
        spec = '  cronSpec: "* * * * */5"\n  replicas: 1\n'
        config = _lines(kind, kind.versions[0], "  finalizers:\n  - test-finalizer\n", spec)

        made = await apply(e2e, path, config, "apply_test")
        assert made["metadata"]["finalizers"] == ["test-finalizer"]
        assert (made["spec"]["replicas"], len(made["spec"]["ports"])) == (1, 1)
        # in another version, without the finalizer: of one manager in two versions, each has its own
        made = await apply(e2e, beta, _lines(kind, kind.versions[1], spec=spec), "apply_test")
        assert (made["spec"]["replicas"], len(made["spec"]["ports"])) == (1, 1)

        both = ["test-finalizer", "another-one"]
        assert (await e2e.patch(path, {"metadata": {"finalizers": both}}, "merge"))["metadata"]["finalizers"] == both
        # finalizers are a set, so that there is no conflict
        again = await apply(e2e, path, config, "apply_test", Accept=JSON)
        assert sorted(again["metadata"]["finalizers"]) == sorted(both)

        assert (await e2e.patch(path, {"spec": {"replicas": 5}}, "merge"))["spec"]["replicas"] == 5
        with pytest.raises(Refused) as refused:
            await apply(e2e, path, config, "apply_test")
        assert refused.value.code == 409
        assert len(refused.value.status["details"]["causes"]) == 1
        assert (await apply(e2e, path, config, "apply_test", "force=true"))["spec"]["replicas"] == 1

        # another applier: an item that there is, and one of its own
        with pytest.raises(Refused) as refused:
            await apply(e2e, path, _lines(kind, kind.versions[0], name="y"), "apply_test_2")
        assert refused.value.code == 409
        assert len(refused.value.status["details"]["causes"]) == 1
        added = await apply(e2e, path, _lines(kind, kind.versions[0], name="y", port=8080), "apply_test_2", Accept=JSON)
        assert len(added["spec"]["ports"]) == 2

        absent = kind.object("should-not-exist", spec={"cronSpec": "* * * * */5", "replicas": 1}, protocol="TCP")
        absent["metadata"]["finalizers"] = ["test-finalizer"]
        absent["spec"]["ports"] = [{"name": "x", "containerPort": 80}]
        wanted = f"{kind.path('should-not-exist')}?fieldManager=apply_test"
        with pytest.raises(Refused) as refused:
            await send_bytes(e2e, "PUT", wanted, json.dumps(absent).encode())
        assert (refused.value.code, refused.value.reason) == (404, "NotFound")

        await e2e.patch(path, {"metadata": {"finalizers": []}}, "merge")

    items = {"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "string"}}
    atomic = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"atomicList": items}}
    async with custom_kind(e2e, {"type": "object", "properties": {"spec": atomic}}, primed=True) as kind:
        for manager, item, options in (("apply_test", "item1", ()), ("apply_test_2", "item2", ("force=true",))):
            body = (
                f"\napiVersion: {kind.api_version()}\nkind: {kind.kind}\nmetadata:\n  name: mytest\n"
                f'spec:\n  atomicList:\n  - "{item}"'
            )
            assert (await apply(e2e, kind.path("mytest"), body, manager, *options))["spec"]["atomicList"] == [item]
