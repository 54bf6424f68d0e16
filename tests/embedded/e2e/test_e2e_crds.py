"""Replays of Kubernetes' e2e specs about CRDs: ``custom_resource_definition.go``, ``crd_watch.go``, ``discovery.go`` and
``aggregated_discovery.go``. Each docstring is the name of a spec."""

import base64
import hashlib
import json

import pytest
from e2e_crds import (
    AGGREGATED,
    ANY,
    PRESENT,
    aggregated,
    crd_of,
    create_crd,
    create_watched_crd,
    delete_crd,
    gone,
    objects_of,
    unique,
)
from e2e_driver import CRDS, E2eClient, Object, until

GROUP = "mygroup.example.com"


def random_crd(schema: Object = ANY) -> Object:
    return crd_of(GROUP, unique("foo") + "a", {"v1beta1": schema}, "Cluster")


async def test_create_and_delete(e2e: E2eClient) -> None:
    """Simple CustomResourceDefinition creating/deleting custom resource definition objects works"""
    await delete_crd(e2e, await create_crd(e2e, random_crd()))


async def test_list(e2e: E2eClient) -> None:
    """Simple CustomResourceDefinition listing custom resource definition objects works"""
    label = unique("list-")
    labelled: dict[str, Object] = {}
    for _ in range(10):
        crd = random_crd()
        crd["metadata"]["labels"] = {"e2e-list-test-uuid": label}
        labelled[crd["metadata"]["name"]] = await create_crd(e2e, crd)
    other = await create_crd(e2e, random_crd())
    selected = f"{CRDS}?labelSelector=e2e-list-test-uuid%3D{label}"
    listed = (await e2e.typed("GET", selected))["items"]
    assert {each["metadata"]["name"]: each["spec"] for each in listed} == {k: v["spec"] for k, v in labelled.items()}
    assert len(listed) == 10
    await e2e.typed("DELETE", selected, {"apiVersion": "v1", "kind": "DeleteOptions"})
    for each in listed:
        await gone(e2e, each)
    assert (await e2e.typed("GET", f"{CRDS}/{other['metadata']['name']}"))["spec"] == other["spec"]
    await delete_crd(e2e, other)


async def test_status(e2e: E2eClient) -> None:
    """Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works"""
    crd = await create_crd(e2e, random_crd())
    path = f"{CRDS}/{crd['metadata']['name']}/status"
    read = await e2e.dynamic("GET", path)
    assert read["spec"] == crd["spec"]
    # Go writes all fields of a condition, empty ones too
    added = {"type": "", "status": "", "lastTransitionTime": None, "message": "updated"}
    updated = await e2e.change(path, lambda wanted: wanted["status"]["conditions"].append(added))
    assert condition(updated, "updated") == {"message": "updated"}
    patched = await e2e.patch(path, [{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}], "json")
    assert condition(patched, "patched") == {"message": "patched"}
    await delete_crd(e2e, crd)


def condition(crd: Object, message: str) -> Object:
    """The condition with this message, without the values that Go reads as none."""
    found = [each for each in crd["status"]["conditions"] if each.get("message") == message]
    assert len(found) == 1, crd["status"]["conditions"]
    return {key: value for key, value in found[0].items() if value}


async def test_discovery_of_crds(e2e: E2eClient) -> None:
    """should include custom resource definition resources in discovery documents"""
    own = {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"}
    groups = (await e2e.typed("GET", "/apis"))["groups"]
    assert own in next(each for each in groups if each["name"] == "apiextensions.k8s.io")["versions"]
    group = await e2e.typed("GET", "/apis/apiextensions.k8s.io")
    assert group["name"] == "apiextensions.k8s.io"
    assert own in group["versions"]
    resources = await e2e.typed("GET", "/apis/apiextensions.k8s.io/v1")
    assert resources["groupVersion"] == "apiextensions.k8s.io/v1"
    assert "customresourcedefinitions" in [each["name"] for each in resources["resources"]]


async def test_defaults(e2e: E2eClient) -> None:
    """custom resource defaulting for requests and from storage works"""
    crd = await create_crd(e2e, random_crd({**ANY, "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}))
    path = objects_of(crd, "v1beta1")
    properties = "/spec/versions/0/schema/openAPIV3Schema/properties"

    async def create(name: str) -> Object:
        metadata = {"name": name}
        body = {"apiVersion": f"{GROUP}/v1beta1", "kind": crd["spec"]["names"]["kind"], "metadata": metadata}
        made: Object = await e2e.dynamic("POST", path, body)
        return made

    async def defaulted(name: str, key: str) -> Object | None:
        read: Object = await e2e.dynamic("GET", f"{path}/{name}")
        return read if key in read else None

    assert "a" not in await create("cr-1")
    change = [{"op": "add", "path": f"{properties}/a/default", "value": "A"}]
    await e2e.patch(f"{CRDS}/{crd['metadata']['name']}", change, "json")
    read = await until(lambda: defaulted("cr-1", "a"), "the default of a is read")
    assert read["a"] == "A"
    assert (await create("cr-2"))["a"] == "A"
    change = [{"op": "remove", "path": f"{properties}/a/default"}, {"op": "add", "path": f"{properties}/b/default", "value": "B"}]
    await e2e.patch(f"{CRDS}/{crd['metadata']['name']}", change, "json")
    read = await until(lambda: defaulted("cr-2", "b"), "the default of b is read")
    assert (read["a"], read["b"]) == ("A", "B")
    await delete_crd(e2e, crd)


async def test_watch(e2e: E2eClient) -> None:
    """CustomResourceDefinition Watch watch on custom resource definition objects"""
    names = {"plural": "noxus", "singular": "nonenglishnoxu", "kind": "WishIHadChosenNoxu", "listKind": "NoxuItemList"}
    more = {"shortNames": ["foo", "bar", "abc", "def"], "categories": ["all"]}
    crd = await create_watched_crd(e2e, crd_of(GROUP, "noxu", {"v1beta1": ANY}, "Cluster", **names, **more))
    path = objects_of(crd, "v1beta1")
    query = "?watch=true&timeoutSeconds=600&fieldSelector=metadata.name%3D"
    # each watch hears of its own object only: were there an event of the other, it would come first
    async with e2e.watching(f"{path}{query}name1") as first, e2e.watching(f"{path}{query}name2") as second:
        watches = {"name1": first, "name2": second}
        for name, events in watches.items():
            metadata = {"name": name, "namespace": ""}
            content = {"content": {"key": "value"}, "num": {"num1": 9223372036854775807, "num2": 1000000}}
            instance = {"apiVersion": f"{GROUP}/v1beta1", "kind": "WishIHadChosenNoxu", "metadata": metadata, **content}
            made = await e2e.dynamic("POST", path, instance)
            assert made["metadata"]["uid"]
            assert (made["apiVersion"], made["kind"]) == (f"{GROUP}/v1beta1", "WishIHadChosenNoxu")
            assert await anext(events) == {"type": "ADDED", "object": made}
        for name, events in watches.items():
            body = json.dumps([{"op": "add", "path": "/dummy", "value": "test"}]).encode()
            sent = {"Content-Type": "application/json-patch+json", "Accept": "application/json"}
            assert (await e2e.raw("PATCH", f"{path}/{name}", body, **sent))[0] == 200
            event = await anext(events)
            assert (event["type"], event["object"]["metadata"]["name"], event["object"]["dummy"]) == ("MODIFIED", name, "test")
        for name, events in watches.items():
            await e2e.dynamic("DELETE", f"{path}/{name}", {"apiVersion": "v1", "kind": "DeleteOptions"})
            event = await anext(events)
            assert (event["type"], event["object"]["metadata"]["name"]) == ("DELETED", name)
    await delete_crd(e2e, crd)


async def test_presence(e2e: E2eClient) -> None:
    """Discovery should accurately determine present and missing resources"""
    assert "namespaces" in await resources_of(e2e, "/api/v1")
    deployed = await resources_of(e2e, "/apis/apps/v1")
    assert "deployments" in deployed
    assert "please-dont-ever-create-this" not in deployed
    status, _, told = await e2e.raw("GET", "/apis/not-these-apps/v1")
    assert status == 404, told  # which client-go takes for: no such resource


async def resources_of(e2e: E2eClient, path: str) -> list[str]:
    return [each["name"] for each in (await e2e.typed("GET", path))["resources"]]


async def test_storage_version_hash(e2e: E2eClient) -> None:
    """Discovery Custom resource should have storage version hash"""
    crd = await create_crd(e2e, crd_of("discovery.example.com", unique("e2e-test-") + "-crd", {"v1": ANY}))
    kind = crd["spec"]["names"]["kind"]
    expected = base64.b64encode(hashlib.sha256(f"discovery.example.com/v1/{kind}".encode()).digest()[:8]).decode()
    listed = (await e2e.typed("GET", "/apis/discovery.example.com/v1"))["resources"]
    assert [each["storageVersionHash"] for each in listed if each["name"] == crd["spec"]["names"]["plural"]] == [expected]
    await delete_crd(e2e, crd)


async def test_storage_version_hash_of_another_stored_version(e2e: E2eClient) -> None:
    """Beyond the spec: the hash names the stored version in the list of each version."""
    crd = await create_crd(e2e, crd_of("discovery.example.com", unique("two-"), {"v2": ANY, "v1": ANY}))
    expected = base64.b64encode(
        hashlib.sha256(f"discovery.example.com/v2/{crd['spec']['names']['kind']}".encode()).digest()[:8]
    ).decode()
    for version in ("v1", "v2"):
        listed = (await e2e.typed("GET", f"/apis/discovery.example.com/{version}"))["resources"]
        assert [each["storageVersionHash"] for each in listed if each["name"] == crd["spec"]["names"]["plural"]] == [expected]
    await delete_crd(e2e, crd)


async def test_preferred_version(e2e: E2eClient) -> None:
    """Discovery should validate PreferredVersion for each APIGroup"""
    groups = (await e2e.typed("GET", "/apis/"))["groups"]
    assert groups
    for group in groups:
        if group["name"].endswith(".example.com"):
            continue
        read = await e2e.typed("GET", f"/apis/{group['name']}/")
        assert read["preferredVersion"]["groupVersion"] in [each["groupVersion"] for each in read["versions"]]


async def test_locate_resources(e2e: E2eClient) -> None:
    """Discovery should locate the groupVersion and a resource within each APIGroup"""
    for group, version, resource in PRESENT:
        read = await e2e.typed("GET", f"/apis/{group}/{version}" if group else f"/api/{version}")
        assert read["groupVersion"] == (f"{group}/{version}" if group else version)
        assert resource in [each["name"] for each in read["resources"]]


async def test_aggregated_accept(e2e: E2eClient) -> None:
    """AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers"""
    assert set(PRESENT) <= await aggregated(e2e)


async def test_aggregated_interface(e2e: E2eClient) -> None:
    """AggregatedDiscovery should support aggregated discovery interface"""
    # the interface offers older forms too, and reads the answer's media type
    accept = f"{AGGREGATED},{AGGREGATED.replace('v=v2', 'v=v2beta1')},application/json"
    found = set()
    for path in ("/api", "/apis"):
        status, headers, told = await e2e.raw("GET", path, Accept=accept)
        assert (status, headers["Content-Type"]) == (200, AGGREGATED)
        for group in json.loads(told)["items"]:
            for version in group["versions"]:
                name = group["metadata"].get("name", "")
                found |= {(name, version["version"], each["resource"]) for each in version["resources"]}
    assert set(PRESENT) <= found


@pytest.mark.parametrize(
    "spec",
    [
        "AggregatedDiscovery should support raw aggregated discovery request for CRDs",
        "AggregatedDiscovery should support aggregated discovery interface for CRDs",
    ],
)
async def test_aggregated_crd(e2e: E2eClient, spec: str) -> None:
    """Both specs make the same requests, one with client-go's interface (above)."""
    group = f"{unique('group')}.example.com"
    crd = await create_watched_crd(e2e, crd_of(group, "testcrd", {"v1": ANY}))

    async def present() -> bool:
        return (group, "v1", "testcrds") in await aggregated(e2e)

    await until(present, "aggregated discovery has the CRD")
    await delete_crd(e2e, crd)
