"""Replays of Kubernetes' e2e specs ``openapiv3.go``. Go's parser is modelled by ``e2e_spec3``."""

import json

import pytest
from e2e_crds import ANY, crd_of, create_watched_crd, delete_crd, unique
from e2e_driver import E2eClient, Object, until
from e2e_spec3 import differences

BARE = ("apps", "autoscaling", "batch", "policy")  # built-in groups without the suffix


async def index(e2e: E2eClient) -> dict[str, str]:
    """Group version to the address of its document."""
    status, _, told = await e2e.raw("GET", "/openapi/v3", Accept="application/json")
    assert status == 200
    return {name: each["serverRelativeURL"] for name, each in json.loads(told)["paths"].items()}


async def document(e2e: E2eClient, address: str) -> Object:
    status, headers, told = await e2e.raw("GET", address, Accept="application/json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    read: Object = json.loads(told)
    return read


async def test_built_in(e2e: E2eClient) -> None:
    """should round trip OpenAPI V3 for all built-in group versions"""
    found = await index(e2e)
    assert "apis/apps/v1" in found
    assert "apis/autoscaling/v2" in found
    for name, address in found.items():
        group = name.split("/")[1] if name.startswith("apis/") else ""
        assert group in BARE or group.endswith("k8s.io") or name == "api/v1", name  # the suite leaves out the last
        read = await document(e2e, address)
        assert read["openapi"].startswith("3.0")
        assert read["paths"]
        assert read["components"]["schemas"]
        assert differences(read) == [], name


async def test_of_a_crd(e2e: E2eClient) -> None:
    """should publish OpenAPI V3 for CustomResourceDefinition"""
    group = f"{unique('group')}.example.com"
    crd = await create_watched_crd(e2e, crd_of(group, "testcrd", {"v1beta1": ANY}))
    name = f"apis/{group}/v1beta1"

    async def address() -> str | None:
        return (await index(e2e)).get(name)

    read = await document(e2e, await until(address, f"{name} is published"))
    assert differences(read) == []
    assert ".".join([*reversed(group.split(".")), "v1beta1", "testcrd"]) in read["components"]["schemas"]
    await delete_crd(e2e, crd)

    async def absent() -> bool:
        return name not in await index(e2e)

    await until(absent, f"{name} is published no more")


async def test_of_a_crd_with_empty_fields(e2e: E2eClient) -> None:
    """Beyond the spec: what a CRD leaves empty is not published, so that its document makes the round trip too."""
    empty = {"type": "object", "properties": {}, "required": [], "description": ""}
    lists = {"type": "array", "items": {"type": "string", "enum": ["a"]}, "x-kubernetes-list-type": "set"}
    schema = {"type": "object", "properties": {"spec": empty, "names": lists, "free": ANY}, "required": [], "allOf": []}
    group = f"{unique('group')}.example.com"
    crd = await create_watched_crd(e2e, crd_of(group, "testcrd", {"v1": schema}))
    assert differences(await document(e2e, f"/openapi/v3/apis/{group}/v1")) == []
    await delete_crd(e2e, crd)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"required": []}, "/components/schemas/a/required: an empty list is not written again"),
        ({"properties": {"b": {"maxLength": 3.0}}}, "/components/schemas/a/properties/b/maxLength: 3.0 is refused"),
        ({"exclusiveMaximum": 3}, "/components/schemas/a/exclusiveMaximum: 3 is refused"),
    ],
)
def test_the_model_of_gos_parser(schema: Object, told: str) -> None:
    """It finds what does not make the round trip."""
    assert differences({"openapi": "3.0.0", "components": {"schemas": {"a": schema}}}) == [told]
