"""Decoding of request bodies: the result is that of Go's decoder and encoder."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from raycp.embedded.errors import StatusError
from raycp.embedded.resources import BUILTINS, ResourceInfo, resource_for_crd, version_priority
from raycp.embedded.strategy import body_decoder, shapes, strategy
from raycp.embedded.strategy.scalars import Malformed, canonical_quantity, canonical_time
from raycp.embedded.strategy.schemas import definition_name

KINDS = {(info.group, info.kind): info for info in BUILTINS}
JSON = "application/json"


def decode(kind: str, body: Any, group: str = "", validation: str = "Warn", media: str = JSON) -> tuple[Any, list[str]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return strategy(KINDS[group, kind]).decode(raw, media, validation)


def config_map(**more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **more}


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1000m", "1"),
        ("1.5Gi", "1536Mi"),
        ("1e3", "1e3"),
        ("0", "0"),
        ("1024", "1024"),
        ("0.1Mi", "104857600m"),
        ("-1.5", "-1500m"),
    ],
)
def test_quantities_have_one_form(given: str, canonical: str) -> None:
    assert canonical_quantity(given) == canonical
    assert canonical_quantity(canonical) == canonical


@pytest.mark.parametrize("given", ["abc", "", "1 Gi", "1.2.3", "Mi"])
def test_invalid_quantities(given: str) -> None:
    with pytest.raises(Malformed):
        canonical_quantity(given)


def test_times_are_converted_to_utc() -> None:
    assert canonical_time("2026-01-02T03:04:05+02:00") == "2026-01-02T01:04:05Z"
    assert canonical_time("2026-01-02T03:04:05.5Z", micro=True) == "2026-01-02T03:04:05.500000Z"
    with pytest.raises(Malformed):
        canonical_time("2026-13-02T03:04:05Z")


def test_zero_values_are_omitted_as_in_go() -> None:
    spec = {
        "hostNetwork": False,
        "automountServiceAccountToken": False,
        "nodeSelector": {},
        "containers": [{"name": "c", "image": "x", "stdin": False, "env": [{"name": "A", "value": ""}]}],
    }
    pod, _ = decode("Pod", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {}}, "spec": spec})
    assert "hostNetwork" not in pod["spec"]
    assert "nodeSelector" not in pod["spec"]
    assert "labels" not in pod["metadata"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    container = pod["spec"]["containers"][0]
    assert "stdin" not in container
    assert container["resources"] == {}
    assert container["env"] == [{"name": "A"}]
    assert pod["status"] == {}


def test_nulls_are_dropped() -> None:
    made, warnings = decode("ConfigMap", config_map(data=None, immutable=None))
    assert made == config_map()
    assert not warnings


def test_unknown_and_duplicate_fields_warn_or_are_refused_or_ignored() -> None:
    raw = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","nme":"b"},"data":{"a":"1","a":"2"},"nope":{}}'
    made, warnings = decode("ConfigMap", raw)
    assert made["data"] == {"a": "2"}
    assert sorted(warnings) == ['duplicate field "data.a"', 'unknown field "metadata.nme"', 'unknown field "nope"']
    assert decode("ConfigMap", raw, validation="Ignore")[1] == []
    with pytest.raises(StatusError) as refused:
        decode("ConfigMap", raw, validation="Strict")
    assert refused.value.code == 400


@pytest.mark.parametrize("text", ['a\\"":b', "x\\\\", '{\\"k\\":1}', "plain"])
def test_colons_in_strings_are_not_duplicate_keys(text: str) -> None:
    raw = json.dumps(config_map(data={"k": text, text: "v"})).encode()
    assert decode("ConfigMap", raw, validation="Strict")[1] == []


@pytest.mark.parametrize(
    "body",
    [b"{nope", b"[]", b"", b'"x"', b"7"],
)
def test_bodies_that_are_no_object_are_refused(body: bytes) -> None:
    with pytest.raises(StatusError) as refused:
        decode("ConfigMap", body)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    "more",
    [
        {"data": {"k": 1}},
        {"data": "x"},
        {"immutable": "yes"},
        {"metadata": {"name": 7}},
        {"binaryData": {"k": "***"}},
        {"kind": "Secret"},
        {"apiVersion": "v2"},
    ],
)
def test_wrong_types_and_kinds_are_bad_requests(more: dict[str, Any]) -> None:
    with pytest.raises(StatusError) as refused:
        decode("ConfigMap", config_map(**more))
    assert (refused.value.code, refused.value.reason) == (400, "BadRequest")


def test_yaml_follows_version_1_1() -> None:
    raw = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {at: 2026-01-01, clock: 1:30, mode: '0644'}\n"
    made, _ = decode("ConfigMap", raw, media="application/yaml")
    assert made["data"] == {"at": "2026-01-01", "clock": "1:30", "mode": "0644"}
    with pytest.raises(StatusError):  # y is true, and a name is a string
        decode("ConfigMap", b"metadata: {name: y}", media="application/yaml")


def test_other_media_types_are_not_supported() -> None:
    with pytest.raises(StatusError) as refused:
        decode("ConfigMap", b"a=b", media="application/x-www-form-urlencoded")
    assert refused.value.code == 415


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2, len(payload)]) + payload


def test_protobuf_bodies() -> None:
    meta = _field(1, b"a") + _field(11, _field(1, b"k") + _field(2, b"v"))
    raw = _field(1, meta) + _field(2, _field(1, b"key") + _field(2, b"value"))
    body = b"k8s\x00" + _field(1, _field(1, b"v1") + _field(2, b"ConfigMap")) + _field(2, raw)
    made, _ = decode("ConfigMap", body, media="application/vnd.kubernetes.protobuf")
    assert made == config_map(metadata={"name": "a", "labels": {"k": "v"}}, data={"key": "value"})
    for broken in (body[:-3], b"k8s\x00\xff\xff", b"nope"):
        with pytest.raises(StatusError) as refused:
            decode("ConfigMap", broken, media="application/vnd.kubernetes.protobuf")
        assert refused.value.code == 400


def test_delete_options_are_accepted_in_any_group_version() -> None:
    decoder = body_decoder("", "v1", "DeleteOptions")
    raw = b'{"kind":"DeleteOptions","apiVersion":"batch/v1","propagationPolicy":"Foreground"}'
    assert decoder.decode(raw, JSON)[0]["propagationPolicy"] == "Foreground"


def test_all_built_in_kinds_have_a_shape() -> None:
    for info in BUILTINS:
        assert strategy(info).shape.fields, info


def test_versions_sort_by_stage() -> None:
    given = ["v1", "v10", "v2beta1", "v1alpha1", "foo", "v2"]
    assert sorted(given, key=version_priority, reverse=True) == ["v10", "v2", "v1", "v2beta1", "v1alpha1", "foo"]


def widget(**schema: Any) -> ResourceInfo:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object", **schema}}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return resource_for_crd({"metadata": {"name": "widgets.example.com"}, "spec": spec}, "v1")


def test_custom_resources_need_their_kind() -> None:
    with pytest.raises(StatusError) as refused:
        strategy(widget()).decode(b'{"metadata":{"name":"a"}}', JSON)
    assert refused.value.code == 400


def test_other_threads_see_a_shape_only_when_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters of one process may run in several threads: one of them builds a shape, another needs it meanwhile."""
    monkeypatch.setattr(shapes, "_SHAPES", {})
    name = definition_name("", "v1", "PodTemplate")
    assert name is not None
    building, go, read = threading.Event(), threading.Event(), shapes.definition

    def slow(wanted: str) -> Any:
        if wanted.endswith(".PodSpec"):
            building.set()
            assert go.wait(20.0)
        return read(wanted)

    monkeypatch.setattr(shapes, "definition", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shapes.defined, name)
        assert building.wait(20.0)
        second = pool.submit(lambda: sorted(shapes.defined(name).fields))
        wait([second], 0.2)  # it waits for the other one, or has seen what there is
        go.set()
        assert second.result(20.0) == sorted(first.result(20.0).fields) == ["apiVersion", "kind", "metadata", "template"]
