"""The names at a path of an object's JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.classify.references import References


def read(path: str, obj: Any) -> tuple[str, ...]:
    return References(path).read(json.dumps(obj).encode())


def test_a_path_leads_through_mappings_and_lists() -> None:
    volumes = [{"secret": {"secretName": "a"}}, {"configMap": {"name": "b"}}, {"secret": {"secretName": "c"}}, "odd", None]
    obj = {"spec": {"volumes": volumes, "ref": {"name": "d"}, "names": ["e", "f", 3, "e"]}}
    assert read("spec.volumes[*].secret.secretName", obj) == ("a", "c")
    assert read("spec.ref.name", obj) == ("d",)
    assert read("spec.names[*]", obj) == ("e", "f")
    assert read("spec.names", obj) == (), "a list is no name"
    assert read("metadata.labels['example.com/app']", {"metadata": {"labels": {"example.com/app": "g"}}}) == ("g",)
    assert read("rows[*][*].name", {"rows": [[{"name": "h"}], [{"name": "i"}, {}]]}) == ("h", "i")


@pytest.mark.parametrize("path", ["", "[*]", "spec.", ".spec", "spec[0].name", "spec..name", "spec[*].", "spec[*]name["])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        References(path)


@given(st.binary(max_size=60), st.sampled_from(["spec.ref.name", "spec[*].name"]))
def test_no_body_makes_it_raise(raw: bytes, path: str) -> None:
    References(path).read(raw)
    References(path).read(b'{"spec": "name' + raw)


def test_a_body_that_is_nested_too_deeply_names_nothing() -> None:
    raw = b'{"spec":' + b"[" * 50_000 + b'{"name":"x"}' + b"]" * 50_000 + b"}"
    assert References("spec.ref.name").read(raw) == ()
