"""Names of objects in paths: each stays in its segment, whatever characters it has."""

import ssl
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.keys import GVK
from raycp.kube.discovery import Resource
from raycp.kube.payload import Payloads
from raycp.kube.target import Target

ROLE = Resource(GVK("rbac.authorization.k8s.io", "v1", "ClusterRole"), "clusterroles", False, frozenset(), frozenset())
WIDGET = Resource(GVK("example.com", "v1", "Widget"), "widgets", True, frozenset(), frozenset())


def test_names_that_kubernetes_allows_are_sent_as_kubectl_sends_them() -> None:
    assert ROLE.path(None, "system:node") == "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node"
    assert WIDGET.path("default", "w-0.example", "status") == "/apis/example.com/v1/namespaces/default/widgets/w-0.example/status"


@pytest.mark.parametrize(
    "name", ["a b", "a?watch=true", "50%", "%2e%2e", "a#b", "Größe", "名前", "UPPER", "a\u2215b", "x\r\nHost: y"]
)
def test_a_name_of_a_lenient_server_stays_in_its_segment(name: str) -> None:
    path = WIDGET.path(name, name, "status")
    assert path.isascii()
    assert Payloads("test").make("GET", path).startswith(b"GET " + path.encode())
    assert not set(path) & set(" ?#\r\n")
    assert [unquote(part) for part in path.split("/")[4:]] == ["namespaces", name, "widgets", name, "status"]


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1).filter(
        lambda name: name not in (".", "..")
    )
)
def test_every_name_is_one_segment_that_decodes_to_it(name: str) -> None:
    path = WIDGET.path(None, name)
    assert path.count("/") == 5
    assert not set(path) & set(" ?#\r\n")
    assert unquote(path.rpartition("/")[2]) == name


@pytest.mark.parametrize("name", [".", "..", "a/b", "../../secrets/x"])
def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="can't be the name of an object"):
        WIDGET.path("default", name)
    with pytest.raises(ValueError, match="can't be the name of an object"):
        WIDGET.path(name)


@pytest.mark.parametrize(
    ("server", "head"),
    [
        ("https://a", "GET /version HTTP/1.1\r\nHost: a:443\r\n"),
        ("https://a/", "GET /version HTTP/1.1\r\nHost: a:443\r\n"),
        ("https://a//k8s/./x/../clusters/c-1:2/", "GET /k8s/clusters/c-1:2/version HTTP/1.1\r\nHost: a:443\r\n"),
        ("https://a/ü b%2Fc", "GET /%C3%BC%20b/c/version HTTP/1.1\r\nHost: a:443\r\n"),
        ("https://zürich.example.:6443", "GET /version HTTP/1.1\r\nHost: xn--zrich-kva.example.:6443\r\n"),
    ],
)
def test_what_stands_before_all_paths_is_clean_and_ascii(server: str, head: str) -> None:
    payloads = Payloads("test")
    target = Target.parse(server, ssl.create_default_context())
    payloads.use(target, None)
    assert payloads.make("GET", "/version").startswith(head.encode())
    assert target.server_hostname == target.host.removesuffix("."), "no certificate has the dot of the root"
