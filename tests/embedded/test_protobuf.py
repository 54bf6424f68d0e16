"""Protobuf bodies and answers. The other side is google.protobuf with messages of its own, as a Go client's types would be."""

import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError
from raycp.embedded.resources import BUILTINS
from raycp.embedded.strategy import body_decoder, shapes
from raycp.embedded.strategy.protobuf import decode_protobuf, message_fields
from raycp.embedded.strategy.protobuf_writer import encode_protobuf
from raycp.embedded.strategy.shapes import Shape, builtin_shape

PROTOBUF = "application/vnd.kubernetes.protobuf"
ONLY = {"Accept": PROTOBUF}
META_ONLY = f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CMS = "/api/v1/namespaces/default/configmaps"

# name field:type=number; * repeated, {} a map from string. From the generated.proto files of Kubernetes 1.36.
MESSAGES = """
Unknown typeMeta:TypeMeta=1 raw:bytes=2 contentEncoding:string=3 contentType:string=4
TypeMeta apiVersion:string=1 kind:string=2
RawExtension raw:bytes=1
WatchEvent type:string=1 object:RawExtension=2
Time seconds:int64=1 nanos:int32=2
ListMeta selfLink:string=1 resourceVersion:string=2 continue:string=3 remainingItemCount:int64=4
ObjectMeta name:string=1 generateName:string=2 namespace:string=3 uid:string=5 resourceVersion:string=6 generation:int64=7 creationTimestamp:Time=8 labels:{}string=11 annotations:{}string=12
Partial metadata:ObjectMeta=1
PartialList metadata:ListMeta=1 items:*Partial=2
Status metadata:ListMeta=1 status:string=2 message:string=3 reason:string=4 details:StatusDetails=5 code:int32=6
StatusDetails name:string=1 group:string=2 kind:string=3 causes:*StatusCause=4 retryAfterSeconds:int32=5
StatusCause reason:string=1 message:string=2 field:string=3
ConfigMap metadata:ObjectMeta=1 data:{}string=2 binaryData:{}bytes=3 immutable:bool=4
ConfigMapList metadata:ListMeta=1 items:*ConfigMap=2
Crd metadata:ObjectMeta=1 spec:CrdSpec=2 status:CrdStatus=3
CrdSpec group:string=1 names:CrdNames=3 scope:string=4 versions:*CrdVersion=7 preserveUnknownFields:bool=10
CrdNames plural:string=1 singular:string=2 shortNames:*string=3 kind:string=4 listKind:string=5
CrdStatus conditions:*CrdCondition=1 acceptedNames:CrdNames=2 storedVersions:*string=3
CrdCondition type:string=1 status:string=2 lastTransitionTime:Time=3 reason:string=4 message:string=5
CrdVersion name:string=1 served:bool=2 storage:bool=3 schema:Validation=4 subresources:Subresources=5 deprecated:bool=7
Validation openAPIV3Schema:Props=1
Subresources status:Nothing=1
Nothing
Json raw:bytes=1
Props id:string=1 schema:string=2 ref:string=3 description:string=4 type:string=5 default:Json=8 maximum:double=9 exclusiveMaximum:bool=10 maxLength:int64=13 enum:*Json=20 required:*string=23 items:PropsOrArray=24 properties:{}Props=29 additionalProperties:PropsOrBool=30 nullable:bool=37 xKubernetesPreserveUnknownFields:bool=38 xKubernetesEmbeddedResource:bool=39 xKubernetesListType:string=42
PropsOrArray schema:Props=1 jSONSchemas:*Props=2
PropsOrBool allows:bool=1 schema:Props=2
FlowSchema metadata:ObjectMeta=1 spec:FlowSpec=2 status:Nothing=3
FlowSpec priorityLevelConfiguration:Named=1 matchingPrecedence:int32=2 distinguisherMethod:Typed=3 rules:*FlowRules=4
Named name:string=1
Typed type:string=1
FlowRules subjects:*FlowSubject=1 resourceRules:*FlowResources=2
FlowSubject kind:string=1 user:Named=2 group:Named=3
FlowResources verbs:*string=1 apiGroups:*string=2 resources:*string=3 clusterScope:bool=4 namespaces:*string=5
Webhooks metadata:ObjectMeta=1 webhooks:*Webhook=2
Webhook name:string=1 clientConfig:ClientConfig=2 rules:*WebhookRule=3 failurePolicy:string=4 sideEffects:string=6 admissionReviewVersions:*string=8
ClientConfig url:string=3 caBundle:bytes=2
WebhookRule operations:*string=1 rule:Rule=2
Rule apiGroups:*string=1 apiVersions:*string=2 resources:*string=3 scope:string=4
"""  # noqa: E501


def _messages() -> dict[str, Any]:
    field_type = descriptor_pb2.FieldDescriptorProto
    scalars = {
        name: getattr(field_type, f"TYPE_{name.upper()}") for name in ("string", "bytes", "bool", "int32", "int64", "double")
    }
    file = descriptor_pb2.FileDescriptorProto(name="k8s.proto", package="k", syntax="proto2")

    def add(message: Any, name: str, number: int, kind: str) -> Any:
        field = message.field.add(name=name, number=number, label=field_type.LABEL_OPTIONAL)
        if kind in scalars:
            field.type = scalars[kind]
        else:
            field.type, field.type_name = field_type.TYPE_MESSAGE, f".k.{kind}"
        return field

    for line in MESSAGES.strip().splitlines():
        own, *words = line.split()
        message = file.message_type.add(name=own)
        for word in words:
            name, _, rest = word.partition(":")
            kind, _, number = rest.partition("=")
            if kind.startswith("{}"):
                entry = message.nested_type.add(name=name[0].upper() + name[1:] + "Entry")
                entry.options.map_entry = True
                add(entry, "key", 1, "string")
                add(entry, "value", 2, kind[2:])
                add(message, name, int(number), f"{own}.{entry.name}").label = field_type.LABEL_REPEATED
            else:
                field = add(message, name, int(number), kind.lstrip("*"))
                if kind[0] == "*":
                    field.label = field_type.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {m.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"k.{m.name}")) for m in file.message_type}


K = _messages()


def envelope(api_version: str, kind: str, message: Any) -> bytes:
    made = K["Unknown"](raw=message.SerializeToString(), contentType="", contentEncoding="")
    made.typeMeta.apiVersion, made.typeMeta.kind = api_version, kind
    return b"k8s\x00" + bytes(made.SerializeToString())


def opened(body: bytes, name: str) -> tuple[str, str, Any]:
    """apiVersion, kind and message of an envelope."""
    assert body[:4] == b"k8s\x00"
    unknown = K["Unknown"].FromString(body[4:])
    return unknown.typeMeta.apiVersion, unknown.typeMeta.kind, K[name].FromString(unknown.raw)


def crd_message(plural: str) -> Any:
    """A CRD with all that has a form of its own in protobuf, and with zero values, which Go always writes."""
    crd = K["Crd"]()
    crd.metadata.name = f"{plural}.example.com"
    crd.metadata.creationTimestamp.SetInParent()
    crd.spec.group, crd.spec.scope = "example.com", "Namespaced"
    crd.spec.preserveUnknownFields = False
    crd.spec.names.plural, crd.spec.names.kind = plural, plural.title()
    crd.spec.names.singular = crd.spec.names.listKind = ""
    version = crd.spec.versions.add(name="v1", served=True, storage=True, deprecated=False)
    version.subresources.status.SetInParent()
    root = version.schema.openAPIV3Schema
    root.id = root.schema = root.description = ""  # `$ref` is a pointer
    root.type, root.nullable, root.exclusiveMaximum = "object", False, False
    spec = root.properties["spec"]
    spec.type = "object"
    size = spec.properties["size"]
    size.type, size.maximum, size.default.raw = "integer", 9, b"3"
    share = spec.properties["share"]
    share.type, share.maximum = "number", 0.5
    colour = spec.properties["colour"]
    colour.type = "string"
    colour.enum.add(raw=b'"red"')
    colour.enum.add(raw=b'"blue"')
    names = spec.properties["names"]
    names.type, names.xKubernetesListType = "array", "set"
    names.items.schema.type, names.items.schema.maxLength, names.items.schema.description = "string", 5, ""
    labels = spec.properties["labels"]
    labels.type, labels.additionalProperties.allows = "object", True
    labels.additionalProperties.schema.type = "string"
    rest = spec.properties["rest"]
    rest.type, rest.xKubernetesPreserveUnknownFields = "object", True
    crd.status.acceptedNames.plural = crd.status.acceptedNames.kind = ""
    return crd


def crd_json(plural: str) -> dict[str, Any]:
    """The same CRD in JSON."""
    properties = {
        "size": {"type": "integer", "maximum": 9, "default": 3},
        "share": {"type": "number", "maximum": 0.5},
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 5}, "x-kubernetes-list-type": "set"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "rest": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
    names = {"plural": plural, "kind": plural.title()}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": spec,
    }


class Client:
    """A client of one cluster, for bytes."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.cluster = cluster
        self.http = aiohttp.ClientSession()

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, bytes]:
        endpoint = self.cluster.endpoint
        assert endpoint is not None
        sent = {"Authorization": f"Bearer {endpoint.token}", "Content-Type": PROTOBUF, "Accept": "application/json", **headers}
        async with self.http.request(method, endpoint.server + path, data=body, headers=sent, ssl=False) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), await answer.read()

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        return json.loads((await self.ask(method, path, data, **{"Content-Type": "application/json"}))[2])


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    cluster = EmbeddedCluster("t", EmbeddedSpec(controllers=EmbeddedControllers.none()))
    await cluster.start()
    made = Client(cluster)
    yield made
    await made.http.close()
    await cluster.stop()


async def test_a_crd_in_protobuf_is_the_same_as_in_json(client: Client) -> None:
    body = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd_message("things"))
    status, _, told = await client.ask("POST", CRDS, body)
    assert status == 201, told
    twin = await client.json("POST", CRDS, crd_json("twins"))
    sent = json.loads(told.replace(b"things", b"twins").replace(b"Things", b"Twins"))
    assert sent["spec"] == twin["spec"]
    assert set(sent["metadata"]) == set(twin["metadata"])
    # the status subresource, as an update in protobuf
    stored = await client.json("GET", f"{CRDS}/things.example.com")
    crd = crd_message("things")
    crd.metadata.resourceVersion = stored["metadata"]["resourceVersion"]
    crd.status.storedVersions.append("v1")
    crd.status.conditions.add(type="Mine", status="True", reason="r", message="m").lastTransitionTime.seconds = 1_700_000_000
    status, _, told = await client.ask(
        "PUT", f"{CRDS}/things.example.com/status", envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd)
    )
    assert status == 200, told
    assert json.loads(told)["status"]["conditions"] == [
        {"type": "Mine", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": "2023-11-14T22:13:20Z"}
    ]
    # and back, for a client that accepts nothing but protobuf
    status, media, body = await client.ask("GET", f"{CRDS}/things.example.com", **ONLY)
    api_version, kind, read = opened(body, "Crd")
    assert (status, media, api_version, kind) == (200, PROTOBUF, "apiextensions.k8s.io/v1", "CustomResourceDefinition")
    spec = read.spec.versions[0].schema.openAPIV3Schema.properties["spec"]
    assert spec.properties["size"].maximum == 9
    assert spec.properties["size"].default.raw == b"3"
    assert spec.properties["names"].items.schema.maxLength == 5
    assert spec.properties["labels"].additionalProperties.schema.type == "string"
    assert [each.raw for each in spec.properties["colour"].enum] == [b'"red"', b'"blue"']
    assert read.spec.versions[0].subresources.HasField("status")


async def test_a_recorded_request_of_a_go_client(client: Client) -> None:
    """What the serializer of apimachinery 1.36 makes of ``crd_json("things")`` as a Go type."""
    recorded = (Path(__file__).parent / "recorded" / "crd.protobuf").read_bytes()
    status, _, told = await client.ask("POST", CRDS, recorded)
    assert status == 201, told
    twin = await client.json("POST", CRDS, crd_json("twins"))
    assert json.loads(told.replace(b"things", b"twins").replace(b"Things", b"Twins"))["spec"] == twin["spec"]


async def test_kinds_of_other_groups_in_protobuf(client: Client) -> None:
    flow = K["FlowSchema"]()
    flow.metadata.name = "mine"
    flow.spec.priorityLevelConfiguration.name, flow.spec.matchingPrecedence = "global-default", 9000
    flow.spec.distinguisherMethod.type = "ByUser"
    rules = flow.spec.rules.add()
    rules.subjects.add(kind="User").user.name = "u"
    rules.resourceRules.add(verbs=["*"], apiGroups=[""], resources=["pods"], clusterScope=False, namespaces=["*"])
    path = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
    status, _, told = await client.ask("POST", path, envelope("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", flow))
    assert status == 201, told
    assert json.loads(told)["spec"]["rules"] == [
        {
            "subjects": [{"kind": "User", "user": {"name": "u"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}],
        }
    ]
    hooks = K["Webhooks"]()
    hooks.metadata.name = "mine"
    hook = hooks.webhooks.add(name="a.example.com", failurePolicy="Ignore", sideEffects="None", admissionReviewVersions=["v1"])
    hook.clientConfig.url, hook.clientConfig.caBundle = "https://127.0.0.1:1/a", b""
    rule = hook.rules.add(operations=["CREATE"]).rule  # a rule with operations inlines a rule
    rule.apiGroups.append("nobody.example.com")
    rule.apiVersions.append("*")
    rule.resources.append("things")
    kind = "ValidatingWebhookConfiguration"
    body = envelope("admissionregistration.k8s.io/v1", kind, hooks)
    status, _, told = await client.ask("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", body)
    assert status == 201, told
    found = json.loads(told)["webhooks"][0]
    assert found["rules"] == [
        {"operations": ["CREATE"], "apiGroups": ["nobody.example.com"], "apiVersions": ["*"], "resources": ["things"], "scope": "*"}
    ]
    status, _, told = await client.ask("GET", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/mine", **ONLY)
    read = opened(told, "Webhooks")[2].webhooks[0]
    assert list(read.rules[0].rule.resources) == ["things"]


async def test_answers_where_only_protobuf_is_accepted(client: Client) -> None:
    made = K["ConfigMap"](data={"a": "1"}, binaryData={"b": b"\x00\xff"})
    made.metadata.name = "one"
    status, media, told = await client.ask("POST", CMS, envelope("v1", "ConfigMap", made), **ONLY)
    assert (status, media) == (201, PROTOBUF)
    created = opened(told, "ConfigMap")[2]
    assert dict(created.binaryData) == {"b": b"\x00\xff"}
    assert created.metadata.creationTimestamp.seconds > 1_600_000_000
    api_version, kind, read = opened((await client.ask("GET", CMS + "?limit=1", **ONLY))[2], "ConfigMapList")
    assert (api_version, kind) == ("v1", "ConfigMapList")
    assert [each.metadata.uid for each in read.items] == [created.metadata.uid]
    assert read.metadata.resourceVersion == created.metadata.resourceVersion
    # JSON wins where it is accepted too: every client that offers both reads both. Metadata alone is sent as preferred: the items
    # of a list in JSON have a kind, which those of client-go's metadata client have not
    for accept in (f"{PROTOBUF},application/json", f"{PROTOBUF};q=0.9,*/*;q=0.1"):
        assert (await client.ask("GET", CMS, Accept=accept))[1] == "application/json"
    status, media, told = await client.ask("GET", CMS + "/nobody", **ONLY)
    refused = opened(told, "Status")[2]
    assert (status, media, refused.code, refused.reason, refused.details.name) == (404, PROTOBUF, 404, "NotFound", "nobody")
    listed = opened(
        (await client.ask("GET", CMS, Accept=f"{META_ONLY},application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"))[2],
        "PartialList",
    )
    assert listed[:2] == ("meta.k8s.io/v1", "PartialObjectMetadataList")
    assert [each.metadata.name for each in listed[2].items] == ["one"]
    status, _, told = await client.ask("DELETE", CMS + "/one", **ONLY)
    assert (status, opened(told, "Status")[2].status) == (200, "Success")


def frames(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The events of a watch: each has its length in front, and the object in its own envelope."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        event = K["WatchEvent"].FromString(data[at + 4 : at + 4 + size])
        yield event.type, event.object.raw
        at += 4 + size
    assert at == len(data)


async def test_watches_where_only_protobuf_is_accepted(client: Client) -> None:
    await client.json("POST", CMS, {"metadata": {"name": "one"}, "data": {"a": "1"}})
    status, media, told = await client.ask("GET", CMS + "?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&sendInitialEvents=true"
                                           "&resourceVersionMatch=NotOlderThan", **ONLY)  # fmt: skip
    assert (status, media) == (200, PROTOBUF + ";stream=watch")
    events = list(frames(told))
    assert [type_ for type_, _ in events] == ["ADDED", "BOOKMARK"]
    assert opened(events[0][1], "ConfigMap")[2].data["a"] == "1"
    assert opened(events[1][1], "ConfigMap")[2].metadata.annotations["k8s.io/initial-events-end"] == "true"
    assert client.cluster.store is not None
    client.cluster.store.compact()
    await client.json("POST", CMS, {"metadata": {"name": "two"}})
    events = list(frames((await client.ask("GET", CMS + "?watch=1&resourceVersion=1", **ONLY))[2]))
    assert [(type_, opened(raw, "Status")[2].code) for type_, raw in events] == [("ERROR", 410)]
    told = (await client.ask("GET", CMS + "?watch=1&timeoutSeconds=1", Accept=META_ONLY))[2]
    assert [opened(raw, "Partial")[2].metadata.name for _, raw in frames(told)] == ["one", "two"]


async def test_custom_resources_have_no_protobuf(client: Client) -> None:
    await client.json("POST", CRDS, crd_json("things"))
    things = "/apis/example.com/v1/namespaces/default/things"
    await client.json("POST", things, {"apiVersion": "example.com/v1", "kind": "Things", "metadata": {"name": "one"}})
    for path in (things, things + "/one", things + "?watch=1&timeoutSeconds=1"):
        status, media, told = await client.ask("GET", path, **ONLY)
        assert (status, media) == (406, PROTOBUF), told
        assert "only the following media types are accepted: application/json" in opened(told, "Status")[2].message
        assert (await client.ask("GET", path, Accept=f"{PROTOBUF},application/json"))[0] == 200
    told = (await client.ask("GET", things, Accept=META_ONLY))[2]
    assert [each.metadata.name for each in opened(told, "PartialList")[2].items] == ["one"]
    body = json.dumps({"apiVersion": "example.com/v1", "kind": "Things", "metadata": {"name": "two"}}).encode()
    assert (await client.ask("POST", things, body, **ONLY, **{"Content-Type": "application/json"}))[0] == 406
    assert (await client.ask("GET", things + "/two"))[0] == 404  # refused before anything was written
    assert (await client.ask("POST", things, envelope("example.com/v1", "Things", K["Nothing"]())))[0] == 415
    assert (await client.ask("GET", CMS, Accept=f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1"))[0] == 406


def sample(shape: Shape, depth: int = 0) -> Any:
    """A value with every field of a shape, to a depth."""
    kind = shape.kind
    if kind == shapes.OBJECT:
        known = _names(shape)
        return {name: sample(field, depth + 1) for name, field in shape.fields.items() if name in known and depth < 9}
    if kind == shapes.MAP:
        assert shape.item is not None
        return {"k": sample(shape.item, depth + 1)}
    if kind == shapes.LIST:
        assert shape.item is not None
        return [sample(shape.item, depth + 1)]
    if kind == shapes.ANY:
        return _ANY.get(shape.name, {"a": [1, None]})
    return _SAMPLES[kind]


def _names(shape: Shape) -> set[str]:
    """The fields that a message has. An object of its own kind has no apiVersion in it: the envelope has."""
    numbers = message_fields(shape)
    assert numbers is not None, f"{shape.definition} has no message"
    own = {name for name in numbers.values() if name in ("apiVersion", "kind")}
    return {name for name in shape.fields if name not in ("apiVersion", "kind")} | own


_ANY: dict[str, Any] = {
    "JSONSchemaPropsOrBool": False,
    "JSONSchemaPropsOrArray": [{"type": "string"}, {"type": "integer"}],
    "JSONSchemaPropsOrStringArray": ["a", "b"],
    "CustomResourceSubresourceStatus": {},
}
_SAMPLES = {
    shapes.STRING: "ü",
    shapes.BOOL: True,
    shapes.INT32: -5,
    shapes.INT64: 2**62,
    shapes.NUMBER: 1.5,
    shapes.BYTES: base64.b64encode(b"\x00x").decode(),
    shapes.TIME: "2026-01-02T03:04:05Z",
    shapes.MICROTIME: "2026-01-02T03:04:05.123456Z",
    shapes.QUANTITY: "5Gi",
    shapes.INTSTR: "20%",
}


def test_every_field_of_every_built_in_kind_has_a_number() -> None:
    for info in BUILTINS:
        for kind in (info.kind, info.list_kind):
            shape = builtin_shape(info.group, info.version, kind)
            if shape is not None:  # reviews have no lists
                obj = {"apiVersion": info.api_version, "kind": kind, **sample(shape)}
                assert decode_protobuf(encode_protobuf(obj), info.group, info.version, kind) == obj, kind


def _field(number: int, payload: bytes) -> bytes:
    size = bytearray()
    left = len(payload)
    while left > 0x7F:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    size.append(left)
    return bytes([number << 3 & 0x7F | 2]) + bytes(size) + payload if number < 16 else b"\xea\x01" + bytes(size) + payload


def test_bodies_that_are_no_messages_are_refused() -> None:
    decoder = body_decoder("apiextensions.k8s.io", "v1", "CustomResourceDefinition")

    def refused(raw: bytes) -> str:
        body = b"k8s\x00" + _field(2, raw)
        with pytest.raises(StatusError) as error:
            decoder.decode(body, PROTOBUF)
        assert error.value.code == 400
        return error.value.message

    def schema(props: bytes) -> bytes:  # .spec.versions[0].schema.openAPIV3Schema
        return _field(2, _field(7, _field(4, _field(1, props))))

    assert "wrong wireType = 0 for field spec" in refused(b"\x10\x01")
    assert "wrong wireType = 0 for field default" in refused(schema(b"\x40\x01"))
    assert "maximum is nan" in refused(schema(b"\x49" + struct.pack("<d", float("nan"))))
    assert "truncated" in refused(schema(_field(8, _field(1, b"{"))))
    assert "unexpected EOF" in refused(schema(b"\x2a\x05ab"))
    assert "no time" in refused(_field(1, _field(8, b"\x08" + b"\xff" * 8 + b"\x7f")))
    deep = b""
    for _ in range(3000):
        deep = _field(29, _field(1, b"a") + _field(2, deep))  # properties
    assert "max depth" in refused(schema(deep))
    for count in (150, 250):
        deep = b""
        for _ in range(count):
            deep = _field(29, _field(1, b"a") + _field(2, deep))
        assert "max depth" in refused(schema(deep))
