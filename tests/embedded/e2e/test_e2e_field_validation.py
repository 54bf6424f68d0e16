"""Kubernetes' e2e specs of FieldValidation: field_validation.go in test/e2e/apimachinery."""

import pytest
from e2e_driver import E2eClient, Object, Refused
from e2e_fixtures import ALLOW_ALL, BASELINE, CustomKind, apply, cron_schema, custom_kind, send_bytes

VERSIONS = ("v1beta1", "v1")
TEXT = {"type": "string"}
MANAGER = "field_validation_mgr"


@pytest.mark.parametrize(
    ("metadata", "spec", "told"),
    [
        pytest.param(
            "",
            '"unknownField": "foo", "replicas": 2, "replicas": 3,',
            'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"',
            id="should detect unknown and duplicate fields of a typed object",
        ),
        pytest.param(
            '"unknownMeta": "foo",',
            "",
            'strict decoding error: unknown field "metadata.unknownMeta"',
            id="should detect unknown metadata fields of a typed object",
        ),
    ],
)
async def test_a_typed_object(e2e: E2eClient, metadata: str, spec: str, told: str) -> None:
    namespace = await e2e.namespace("field-validation", **BASELINE)
    body = f"""{{"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {{{metadata} "name": "my-dep", "labels": {{"app": "nginx"}}}},
        "spec": {{{spec} "selector": {{"matchLabels": {{"app": "nginx"}}}}, "template": {{
            "metadata": {{"labels": {{"app": "nginx"}}}},
            "spec": {{"containers": [{{"name": "nginx", "image": "nginx:latest"}}]}}}}}}}}"""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments?fieldManager={MANAGER}&fieldValidation=Strict"
    with pytest.raises(Refused) as refused:
        await send_bytes(e2e, "POST", path, body.encode())
    assert refused.value.code == 400
    assert told in refused.value.message


def _body(kind: CustomKind, root: str = "", metadata: str = "", spec: str = "  foo: foo1\n") -> str:
    """An object in YAML as the specs lay it out: an empty line first, because an error names the line."""
    return (
        f"\napiVersion: {kind.api_version()}\nkind: {kind.kind}\nmetadata:\n  name: mytest\n{metadata}"
        f"{root}spec:\n{spec}"
        '  cronSpec: "* * * * */5"\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP'
    )


async def _apply(e2e: E2eClient, kind: CustomKind, body: str) -> Object:
    told: Object = await apply(e2e, kind.path("mytest"), body, MANAGER, "fieldValidation=Strict")
    return told


@pytest.mark.parametrize(
    ("schema", "spec"),
    [
        pytest.param(
            cron_schema(foo=TEXT),
            {"foo": "foo1"},
            id="should create/apply a valid CR for CRD with validation schema",
        ),
        pytest.param(
            ALLOW_ALL,
            {"unknown": "uk1"},
            id="should create/apply a CR with unknown fields for CRD with no validation schema",
        ),
    ],
)
async def test_a_custom_resource_that_is_valid(e2e: E2eClient, schema: Object, spec: Object) -> None:
    async with custom_kind(e2e, schema, VERSIONS, primed=True) as kind:
        lines = "".join(f"  {key}: {value}\n" for key, value in spec.items())
        made = await _apply(e2e, kind, _body(kind, spec=lines))
        ports = [{"name": "x", "containerPort": 80, "protocol": "TCP"}]
        assert made["spec"] == {**spec, "cronSpec": "* * * * */5", "ports": ports}


async def test_extra_properties(e2e: E2eClient) -> None:
    """should create/apply an invalid CR with extra properties for CRD with validation schema"""
    async with custom_kind(e2e, cron_schema(foo=TEXT), VERSIONS, primed=True) as kind:
        with pytest.raises(Refused) as refused:
            await _apply(e2e, kind, _body(kind, root="unknownField: unknown\n"))
        assert ".unknownField: field not declared in schema" in refused.value.message


async def test_unknown_metadata(e2e: E2eClient) -> None:
    """should detect unknown metadata fields in both the root and embedded object of a CR"""
    template = {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "properties": {"metadata": {"type": "object", "properties": {"name": TEXT}}, "spec": {"type": "object"}},
    }
    namespace = await e2e.namespace("field-validation", **BASELINE)
    schema = cron_schema(preserve=True, foo=TEXT, template=template)
    async with custom_kind(e2e, schema, VERSIONS, primed=True) as kind:
        spec = (
            "  template:\n    apiversion: foo/v1\n    kind: Sub\n    metadata:\n        unknownSubMeta: unknown\n"
            f"        name: subobject\n        namespace: {namespace}\n  foo: foo1\n"
        )
        with pytest.raises(Refused) as refused:
            await _apply(e2e, kind, _body(kind, metadata="  unknownMeta: unknown\n", spec=spec))
        # the spec is content with one of the two
        assert ".spec.template.metadata.unknownSubMeta: field not declared in schema" in refused.value.message
        assert ".metadata.unknownMeta: field not declared in schema" in refused.value.message


async def test_duplicates(e2e: E2eClient) -> None:
    """should detect duplicates in a CR when preserving unknown fields"""
    async with custom_kind(e2e, cron_schema(preserve=True, foo=TEXT), VERSIONS, primed=True) as kind:
        with pytest.raises(Refused) as refused:
            await _apply(e2e, kind, _body(kind, spec="  unknown: uk1\n  foo: foo1\n  foo: foo2\n"))
        assert 'line 9: key "foo" already set in map' in refused.value.message
