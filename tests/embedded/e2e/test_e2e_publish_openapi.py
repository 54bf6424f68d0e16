"""Replays of Kubernetes' e2e specs ``crd_publish_openapi.go``, with the real kubectl. Each docstring is the name of a spec.

The schemas have the structure of the suite's, in words of our own.
"""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_crds import ANY, crd_of, create_crd, delete_crd, served, unique
from e2e_driver import CRDS, E2eClient, Object, until

from raycp.testkit.clusters import EmbeddedHandle, kubectl

TEXT = {"type": "string"}


def field(description: str, schema: Object) -> Object:
    return {"description": description, **schema}


def listed(items: Object) -> Object:
    return {"type": "array", "items": items}


def record(**properties: Object) -> Object:
    return {"type": "object", "properties": properties}


BAR = {
    **record(
        name=field("What it is called.", TEXT),
        age=field("How old it is.", TEXT),
        feeling=field("How it is.", {**TEXT, "enum": ["Great", "Down"]}),
        bazs=field("All of its bazs.", listed(TEXT)),
    ),
    "required": ["name"],
}
BAR_STATUS = record(
    name=field("What it is called.", TEXT),
    available=field("Is it there?", {"type": "boolean"}),
    quxType=field("What qux it has.", {**TEXT, "pattern": "in-tree|out-of-tree"}),
)
FOO = field(
    "A Foo to test with",
    record(
        spec=field("What Foo should be", record(bars=field("All bars that should be.", listed(BAR)))),
        status=field("What Foo is", record(bars=field("All bars that are.", listed(BAR_STATUS)))),
    ),
)
WALDO = field(
    "A Waldo to test with",
    record(
        spec=field("What Waldo should be", record(dummy=field("Of no use.", {"type": "object"}))),
        status=field("What Waldo is", record(bars=field("All bars that are.", listed({"type": "object"})))),
    ),
)
KEPT = {"x-kubernetes-preserve-unknown-fields": True}
KEPT_AT_ROOT = {**WALDO, **KEPT, "description": "Any field at the root"}
KEPT_INSIDE = field(
    "Any field in one of its fields",
    {"type": "object", "properties": {**WALDO["properties"], "spec": {**WALDO["properties"]["spec"], **KEPT}}},
)
SERVICE = field(
    "A Service of another kind",
    record(spec=field("What this Service should be", record(dummy=field("Of no use.", TEXT)))),
)


class Run:
    """kubectl in a namespace, with a discovery cache of its own."""

    def __init__(self, binary: str, cluster: EmbeddedHandle, cache: Path) -> None:
        self._binary, self._cluster, self._cache = binary, cluster, cache

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        return self.ended(*arguments, stdin=stdin, check=True)

    def ended(self, *arguments: str, stdin: str = "", check: bool) -> str:
        """Its output, or what it says where it fails and need not succeed."""
        own = ("--namespace=default", f"--cache-dir={self._cache}", *arguments)
        done = kubectl(self._binary, self._cluster.kubeconfig, *own, stdin=stdin, check=check)
        assert check or done.returncode != 0, done.stdout
        return done.stdout if check else done.stderr

    def explains(self, name: str, *parts: str) -> None:
        """The parts are in what it explains, in this order."""
        told = self("explain", name)
        assert re.search(".*".join(parts), told, re.DOTALL), told

    def takes(self, plural: str, name: str, body: Object) -> None:
        """Both create and apply take an object."""
        for verb in ("create", "apply"):
            self(verb, "-f", "-", stdin=json.dumps(body))
            self("delete", plural, name)


@pytest.fixture
def run(tool: Callable[[str], str], e2e_cluster: EmbeddedHandle, tmp_path: Path) -> Run:
    return Run(tool("kubectl"), e2e_cluster, tmp_path)


class Published:
    """The definitions of ``/openapi/v2``, asked for with the tag of what was last received."""

    def __init__(self, e2e: E2eClient) -> None:
        self._client = e2e
        self._tag, self._read = "", {}  # type: str, dict[str, Any]

    async def definitions(self) -> dict[str, Any]:
        sent = {"If-None-Match": self._tag} if self._tag else {}
        status, headers, told = await self._client.raw("GET", "/openapi/v2", **sent)
        if status == 304:
            return self._read
        assert status == 200
        self._tag, self._read = headers.get("ETag", ""), json.loads(told)["definitions"]
        return self._read


async def published(e2e: E2eClient, crd: Object, version: str, schema: Object | None) -> None:
    """Wait until the definition is published, and as ``schema`` says; None: any. Ten times, as the suite asks."""
    document = Published(e2e)

    async def right() -> bool:
        for _ in range(10):
            found = copy.deepcopy((await document.definitions()).get(definition_name(crd, version)))
            if found is None or (schema is not None and bare(found) != schema):
                return False
        return True

    await until(right, f"{definition_name(crd, version)} is published as {schema}", 10)


async def withdrawn(e2e: E2eClient, crd: Object, version: str) -> None:
    document = Published(e2e)

    async def absent() -> bool:
        for _ in range(10):
            if definition_name(crd, version) in await document.definitions():
                return False
        return True

    await until(absent, f"{definition_name(crd, version)} is published no more")


def bare(schema: Object) -> Object:
    """A published schema without what the server adds."""
    properties = schema.get("properties", {})
    for key in ("metadata", "apiVersion", "kind"):
        properties.pop(key, None)
    if not properties:
        schema.pop("properties", None)
    schema.pop("x-kubernetes-group-version-kind", None)
    return schema


def definition_name(crd: Object, version: str) -> str:
    return ".".join([*reversed(crd["spec"]["group"].split(".")), version, crd["spec"]["names"]["kind"]])


def group_of(suffix: str) -> str:
    return f"crd-publish-openapi-test-{suffix}.example.com"


async def set_up(e2e: E2eClient, schema: Object, suffix: str, *versions: str, expected: Object | None) -> Object:
    made = await create_crd(e2e, crd_of(group_of(suffix), unique("e2e-test-") + "-crd", dict.fromkeys(versions, schema)))
    for version in versions:
        await published(e2e, made, version, expected)
    return made


async def clean_up(e2e: E2eClient, crd: Object) -> None:
    await delete_crd(e2e, crd)
    for version in crd["spec"]["versions"]:
        await withdrawn(e2e, crd, version["name"])


def instance(crd: Object, name: str, **fields: Any) -> Object:
    spec = crd["spec"]
    version = f"{spec['group']}/{spec['versions'][0]['name']}"
    return {"kind": spec["names"]["kind"], "apiVersion": version, "metadata": {"name": name}, **fields}


async def test_with_schema(e2e: E2eClient, run: Run) -> None:
    """works for CRD with validation schema"""
    crd = await set_up(e2e, FOO, "foo", "v1", expected=FOO)
    plural = crd["spec"]["names"]["plural"]
    run.takes(plural, "test-foo", instance(crd, "test-foo", spec={"bars": [{"name": "test-bar"}]}))
    # these are left out of the suite for now; they hold nevertheless
    for spec, told in (
        ({"bars": [{"name": "test-bar", "feeling": "NonExistentValue"}]}, 'Unsupported value: "NonExistentValue"'),
        ({"foo": True}, 'unknown field "spec.foo"'),
        ({"bars": [{"age": "10"}]}, "spec.bars[0].name: Required value"),
    ):
        for verb in ("create", "apply"):
            wrong = json.dumps(instance(crd, "test-foo", spec=spec))
            assert told in run.ended(verb, "-f", "-", stdin=wrong, check=False)
    described = ("DESCRIPTION:", "A Foo to test with", "FIELDS:")
    run.explains(plural, *described, "apiVersion", "<string>", "APIVersion defines", "spec", "<Object>", "What Foo should be")
    described = ("DESCRIPTION:", "Standard object's metadata", "FIELDS:")
    run.explains(f"{plural}.metadata", *described, "creationTimestamp", "<string>", "CreationTimestamp is a timestamp")
    described = ("DESCRIPTION:", "What Foo should be", "FIELDS:")
    run.explains(f"{plural}.spec", *described, "bars", r"<\[\]Object>", "All bars that should be")
    head = ("bars", r"<\[\]Object>", "DESCRIPTION:", "All bars that should be", "FIELDS:")
    own = ("bazs", r"<\[\]string>", "All of its bazs", "name", "<string>", "What it is called")
    run.explains(f"{plural}.spec.bars", *head, *own)
    assert 'field "bars2" does not exist' in run.ended("explain", f"{plural}.spec.bars2", check=False)
    await clean_up(e2e, crd)


async def test_without_schema(e2e: E2eClient, run: Run) -> None:
    """works for CRD without validation schema"""
    crd = await set_up(e2e, ANY, "empty", "v1", expected={"type": "object"})
    plural = crd["spec"]["names"]["plural"]
    run.takes(plural, "test-cr", instance(crd, "test-cr", a={"b": [{"c": "d"}]}))
    run.explains(plural, "DESCRIPTION:", "<empty>")
    await clean_up(e2e, crd)


async def test_kept_at_root(e2e: E2eClient, run: Run) -> None:
    """works for CRD preserving unknown fields at the schema root"""
    crd = await set_up(e2e, KEPT_AT_ROOT, "unknown-at-root", "v1", expected=None)
    names = crd["spec"]["names"]
    run.takes(names["plural"], "test-cr", instance(crd, "test-cr", a={"b": [{"c": "d"}]}))
    run.explains(names["plural"], "KIND:", names["kind"])
    await clean_up(e2e, crd)


async def test_kept_inside(e2e: E2eClient, run: Run) -> None:
    """works for CRD preserving unknown fields in an embedded object"""
    crd = await set_up(e2e, KEPT_INSIDE, "unknown-in-nested", "v1", expected=None)
    plural = crd["spec"]["names"]["plural"]
    run.takes(plural, "test-cr", instance(crd, "test-cr", spec={"a": None, "b": [{"c": "d"}]}))
    run.explains(plural, "DESCRIPTION:", "Any field in one of its fields")
    await clean_up(e2e, crd)


async def both(e2e: E2eClient, *crds: tuple[Object, str, str]) -> list[Object]:
    """Set up CRDs (schema, group's suffix, version), and see all published while all are there."""
    made = [await set_up(e2e, schema, suffix, version, expected=schema) for schema, suffix, version in crds]
    for crd, (schema, _, version) in reversed(list(zip(made, crds, strict=True))):
        await published(e2e, crd, version, schema)
    for crd in made:
        await clean_up(e2e, crd)
    return made


async def test_groups(e2e: E2eClient) -> None:
    """works for multiple CRDs of different groups"""
    foo, waldo = await both(e2e, (FOO, "foo", "v1"), (WALDO, "waldo", "v1beta1"))
    assert foo["spec"]["group"] != waldo["spec"]["group"]


async def test_versions(e2e: E2eClient) -> None:
    """works for multiple CRDs of same group but different versions"""
    crd = await set_up(e2e, FOO, "multi-ver", "v2", "v3", expected=FOO)
    await published(e2e, crd, "v3", FOO)
    await published(e2e, crd, "v2", FOO)
    await clean_up(e2e, crd)
    foo, waldo = await both(e2e, (FOO, "common-group", "v4"), (WALDO, "common-group", "v5"))
    assert foo["spec"]["group"] == waldo["spec"]["group"]


async def test_kinds(e2e: E2eClient) -> None:
    """works for multiple CRDs of same group and version but different kinds"""
    foo, waldo = await both(e2e, (FOO, "common-group", "v6"), (WALDO, "common-group", "v6"))
    assert foo["spec"]["group"] == waldo["spec"]["group"]


async def test_renamed(e2e: E2eClient) -> None:
    """updates the published spec when one version gets renamed"""
    crd = await set_up(e2e, FOO, "multi-ver", "v2", "v3", expected=FOO)
    name = "/spec/versions/1/name"
    patch = [{"op": "test", "path": name, "value": "v3"}, {"op": "replace", "path": name, "value": "v4"}]
    renamed = await e2e.patch(f"{CRDS}/{crd['metadata']['name']}", patch, "json")
    assert served(renamed) == ["v2", "v4"]
    await published(e2e, renamed, "v4", FOO)
    await withdrawn(e2e, renamed, "v3")
    await published(e2e, renamed, "v2", FOO)
    await clean_up(e2e, renamed)


async def test_no_longer_served(e2e: E2eClient) -> None:
    """removes definition from spec when one version gets changed to not be served"""
    crd = await set_up(e2e, FOO, "multi-to-single-ver", "v5", "v6alpha1", expected=FOO)
    path = f"{CRDS}/{crd['metadata']['name']}"
    updated = await e2e.change(path, lambda wanted: wanted["spec"]["versions"][1].update(served=False))
    await withdrawn(e2e, updated, "v6alpha1")
    await published(e2e, updated, "v5", FOO)
    await clean_up(e2e, updated)


async def test_named_like_a_built_in_one(e2e: E2eClient, run: Run) -> None:
    """kubectl explain works for CR with the same resource name as built-in object."""
    short = unique("ksvc-")
    names = {"plural": "services", "kind": "Service", "listKind": "ServiceList", "shortNames": [short]}
    crd = await create_crd(e2e, crd_of(group_of("service"), "service", {"v1": SERVICE}, **names))
    await published(e2e, crd, "v1", SERVICE)
    run.explains(f"{short}.spec", "DESCRIPTION:", "What this Service should be", "FIELDS:", "dummy", "<string>", "Of no use")
    await clean_up(e2e, crd)
