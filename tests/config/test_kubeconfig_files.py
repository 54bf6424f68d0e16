"""A kubeconfig that cannot be read: refused at once, with its place and its reason, and without any of its values."""

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.config.kubeconfig import KubeconfigError, read_kubeconfigs


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"users: [{name: u, user: {token: 12345678}}]", r"users\[0\]\.user\.token is a number where text is expected"),
        (b"users: [{name: u, user: {client-key-data: '12345678?'}}]", r"users\[0\]\.user\.client-key-data is not base64"),
        (b"users: [{name: u}, {name: u, user: {token: '12345678'}}]", "users has two entries named 'u'"),
        (b"a: [12345678", "k:2 is not valid YAML"),
        (b"kind: Secret", "kind is 'Secret', not Config"),
        (b"a: &x [1]\nb: " + b"[" * 9 + b"*x," * 9 + b"]" * 9 + b"\nc: [" + b"a," * 110_000 + b"]", "has more than 100000 values"),
        (b"- " * 200, "nested too deeply"),
        (b"#" * (50 << 20), "has more than 4096 KiB"),
    ],
)
def test_one_that_cannot_be_read_says_where_and_why_and_shows_no_value(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(KubeconfigError, match=problem) as caught:
        read_kubeconfigs([str(tmp_path / "k")])
    assert "12345678" not in str(caught.value)


def test_only_regular_files_are_kubeconfigs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for path in (tmp_path / "fifo", tmp_path / "link", tmp_path, Path("/dev/zero")):
        with pytest.raises(KubeconfigError, match="it is not a regular file"):
            read_kubeconfigs([str(path)])


KEYS = st.sampled_from(
    ["clusters", "users", "contexts", "name", "cluster", "user", "context", "server", "exec", "env", "value", "token", "as-groups"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=5) | JSON)
def test_whatever_it_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_text(json.dumps(content))
    with contextlib.suppress(KubeconfigError):
        read_kubeconfigs([str(path)]).select(None)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text("[]{}:,&*x \n-?'\"#|>!<~y1", max_size=40).map(str.encode))
def test_whatever_its_bytes_are_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    with contextlib.suppress(KubeconfigError):
        read_kubeconfigs([str(path)]).select(None)
