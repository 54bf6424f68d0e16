"""The HTTP routes over a small real view: each of them, the not-ready case, a failing view."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection
from importlib import resources
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raycp.base.hosts import reached_at
from raycp.cli.observer_access import is_local
from raycp.config.observer import ObserverSpec
from raycp.metrics import Merger, Metrics
from raycp.metrics.exposition import MetricsPage, metrics_page
from raycp.observer.known_hosts import KnownHosts
from raycp.observer.web import WebServer, serve
from raycp.protocol.fleet_verdict import FleetVerdict, VerdictLevel
from raycp.protocol.job_query import JobQuery
from raycp.protocol.status import Check

PROMETHEUS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""What Prometheus 3 accepts (scrape/scrape.go, acceptHeader)."""


class SmallView:
    def __init__(self) -> None:
        self.checks = [Check("leader", True), Check("informers-east", False, "2 of 3 synced")]
        self.broken = False

    async def metrics(self, accept: str = "", accept_encoding: str = "", names: Collection[str] = ()) -> MetricsPage:
        metrics = Metrics()
        metrics.counter("a_total", "A.").labels().inc()
        metrics.gauge("b", "B.").labels().set(1)
        merger = Merger()
        merger.feed("x", metrics.snapshot())
        return metrics_page(merger.merged(), accept, accept_encoding, names)

    async def healthy(self) -> list[Check]:
        return [Check("ping", True)]

    async def ready(self) -> list[Check]:
        return self.checks

    async def status(self) -> dict[str, Any]:
        if self.broken:
            raise RuntimeError("no answer from the leader")
        return {"fleet": "demo", "leader": {"epoch": 3, "incarnation": 1, "alive": True}}

    async def clusters(self) -> list[dict[str, Any]]:
        return [{"name": "east", "role": "member", "reachable": True, "synced": False, "objects": 12}]

    async def controllers(self) -> list[dict[str, Any]]:
        return [{"name": "website", "failing": 400}]

    async def verdict(self) -> FleetVerdict:
        return FleetVerdict(VerdictLevel.NOT_READY, "Not ready", "2 of 3 synced")

    async def attention(self) -> list[dict[str, Any]]:
        return [{"urgency": "not ready", "cause": "2 of 3 synced"}]

    async def shards(self) -> list[dict[str, Any]]:
        return []

    async def workers(self) -> list[dict[str, Any]]:
        return [{"name": "w0", "tier": "high", "slots": 32, "active": 4}]

    async def lanes(self) -> list[dict[str, Any]]:
        return [{"tier": "high", "depth": 7}]

    async def slo(self) -> list[dict[str, Any]]:
        return [{"name": "echo-high", "windows": {"instant": {"ratio": 0.999}}}]

    async def errors(self) -> dict[str, Any]:
        return {"items": [{"object": "east/v1/ConfigMap/default/a"}], "failing": 400}

    async def explain(self, namespace: str, name: str) -> dict[str, Any] | None:
        return {"name": name, "namespace": namespace, "position": 3} if name != "nobody" else None

    async def capacity(self) -> list[dict[str, Any]]:
        return [{"cluster": "east"}]

    async def queues(self) -> list[dict[str, Any]]:
        return [{"name": "batch", "pending": 2}]

    async def jobs(self, query: JobQuery) -> dict[str, Any] | None:
        return {"items": [], "asked": msgspec.to_builtins(query)} if query.name != "nobody" else None

    async def history(self, instance: str, after: int, seq: int) -> dict[str, Any]:
        return {"asked": [instance, after, seq]}

    async def changes(self) -> list[dict[str, Any]]:
        return [{"subject": "shard 0", "what": "switched"}]

    async def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return {"asked": [cluster, kind, namespace, name]} if name != "nobody" else None


@pytest.fixture
async def site() -> AsyncIterator[tuple[SmallView, WebServer, aiohttp.ClientSession]]:
    view = SmallView()
    server = await serve(view)
    async with aiohttp.ClientSession(server.url) as session:
        yield view, server, session
    await server.stop()


Site = tuple[SmallView, WebServer, aiohttp.ClientSession]


async def test_the_metrics_page(site: Site) -> None:
    async with site[2].get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert answer.headers["Content-Encoding"] == "gzip", "aiohttp's client asks for it"
        assert "a_total 1" in await answer.text()
    async with site[2].get("/metrics", headers={"Accept": PROMETHEUS, "Accept-Encoding": "identity"}) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert "Content-Encoding" not in answer.headers
        assert (await answer.text()).endswith("# EOF\n")
    async with site[2].get("/metrics", params={"name[]": "b"}) as answer:
        assert (await answer.text()).splitlines() == ["# HELP b B.", "# TYPE b gauge", "b 1.0"]


async def test_health_and_readiness_as_a_kube_apiserver(site: Site) -> None:
    view, _, session = site
    async with session.get("/healthz") as answer:
        assert (answer.status, await answer.text()) == (200, "ok")
    async with session.get("/readyz") as answer:
        assert answer.status == 503
        assert "[-]informers-east failed: 2 of 3 synced" in await answer.text()
    view.checks[1] = Check("informers-east", False, "cluster is down", required=False)
    async with session.get("/readyz") as answer:
        assert answer.status == 200, "degraded: it works, and the answer says what does not"
        assert (await answer.text()).splitlines() == [
            "Not ready: 2 of 3 synced",
            "[+]leader ok", "[-]informers-east failed, not required: cluster is down", "readyz check passed, degraded",
        ]  # fmt: skip
    view.checks[1] = Check("paused", True, "cluster east", required=False)
    async with session.get("/readyz") as answer:
        assert (answer.status, await answer.text()) == (200, "ok")
    async with session.get("/readyz?verbose") as answer:
        assert "[+]paused ok: cluster east" in await answer.text()


async def test_the_json_lists(site: Site) -> None:
    session = site[2]
    for name in ("attention", "controllers", "clusters", "shards", "workers", "lanes", "slo"):
        async with session.get(f"/api/v1/{name}") as answer:
            assert isinstance((await answer.json())[name], list)
    async with session.get("/api/v1/errors") as answer:
        assert await answer.json() == {"items": [{"object": "east/v1/ConfigMap/default/a"}], "failing": 400}
    async with session.get("/api/v1/overview") as answer:
        overview = await answer.json()
    assert overview["status"]["leader"]["epoch"] == 3
    assert overview["ready"][1]["reason"] == "2 of 3 synced"
    assert overview["verdict"] == {"level": "not-ready", "word": "Not ready", "text": "2 of 3 synced", "details": []}
    assert overview["failing"] == 400
    for path in ("/api/v1/changes", "/changes.json"):
        async with session.get(path) as answer:
            assert await answer.json() == {"changes": [{"subject": "shard 0", "what": "switched"}]}
    async with session.get("/api/v1/nothing") as answer:
        assert (answer.status, (await answer.json())["error"]) == (404, "Not Found")


async def test_a_page_of_jobs(site: Site) -> None:
    session = site[2]
    async with session.get("/api/v1/jobs", params={"name": "a/b", "phase": "Queued", "offset": "50", "limit": "10"}) as answer:
        asked = (await answer.json())["asked"]
        tag = answer.headers["ETag"]
    assert (asked["name"], asked["phase"], asked["offset"], asked["limit"]) == ("a/b", "Queued", 50, 10)
    same = {"name": "a/b", "phase": "Queued", "offset": "50", "limit": "10"}
    async with session.get("/api/v1/jobs", params=same, headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read(), answer.headers["ETag"]) == (304, b"", tag)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    async with session.get("/api/v1/jobs", params={**same, "offset": "0"}, headers={"If-None-Match": tag}) as answer:
        assert answer.status == 200
    async with session.get("/api/v1/jobs?phase=running") as answer:
        assert answer.status == 400
        assert (await answer.json())["error"].startswith("phase is 'running': use one of New, Queued")
    async with session.get("/api/v1/jobs?name=nobody") as answer:
        assert answer.status == 503
        assert "does not answer" in (await answer.json())["error"]


async def test_the_page_has_its_scripts_in_it(site: Site) -> None:
    """One request shows it, and its policy lets in no file."""
    async with site[2].get("/") as answer:
        page = await answer.text()
    assert all(begin in page for begin in ("function showJobs(", "const hour = "))
    assert "/* page/" not in page
    assert page.count("<script>") == 1
    assert "src=" not in page


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("east/v1/ConfigMap/default/a", ["east", "v1/ConfigMap", "default", "a"]),
        ("hub/batch.raycp.io/v1alpha1/BatchJob/ns/job", ["hub", "batch.raycp.io/v1alpha1/BatchJob", "ns", "job"]),
        ("east/Node/-/n1", ["east", "Node", "", "n1"]),
    ],
)
async def test_the_timeline_of_an_object(site: Site, path: str, asked: list[str]) -> None:
    async with site[2].get(f"/api/v1/timeline/{path}") as answer:
        assert (await answer.json())["asked"] == asked


async def test_an_unknown_object_is_answered_with_404(site: Site) -> None:
    async with site[2].get("/api/v1/timeline/east/Pod/default/nobody") as answer:
        assert answer.status == 404


async def test_a_failing_view_is_answered_with_500(site: Site) -> None:
    view, _, session = site
    view.broken = True
    async with session.get("/api/v1/status") as answer:
        assert answer.status == 500
        assert "no answer from the leader" in (await answer.json())["error"]
    async with session.get("/healthz") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
    ids=["TLS", "no host", "no path", "a long header"],
)
async def test_what_is_no_http_is_refused_and_fills_no_log(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    server = await serve(SmallView())
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent)
    async with asyncio.timeout(10.0):
        assert b" 400 " in await reader.readline()
        await reader.read()
    writer.close()
    await server.stop()
    assert not caplog.records


@pytest.mark.parametrize(
    ("host", "node", "reached"),
    [
        ("127.0.0.1", "10.0.0.7", "127.0.0.1"),
        ("0.0.0.0", "10.0.0.7", "10.0.0.7"),
        ("0.0.0.0", "", "127.0.0.1"),
        ("0.0.0.0", "fd00::7", "127.0.0.1"),
        ("::", "fd00::7", "[fd00::7]"),
        ("::", "10.0.0.7", "[::1]"),
        ("::1", "10.0.0.7", "[::1]"),
        ("observer.example", "10.0.0.7", "observer.example"),
    ],
)
def test_the_address_of_what_listens_on_all_of_a_node_is_its_nodes(host: str, node: str, reached: str) -> None:
    """The leader tells it to who runs commands on other nodes."""
    assert reached_at(host, node) == reached
    assert is_local(f"http://{reached}:9464") == (reached in ("127.0.0.1", "[::1]"))


async def test_the_page_needs_no_external_asset(site: Site) -> None:
    async with site[2].get("/") as answer:
        page = await answer.text()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "/api/v1/overview" in page
    assert "http://" not in page
    assert "https://" not in page
    assert " src=" not in page


NAMES = ["localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "10.1.2.3", "o.raycp.svc", "o.ns.svc.cluster.local", "a.example.com"]
STRANGERS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "svc", "xsvc", "example.com.evil", "a b", "[x]"]


@pytest.mark.parametrize("port", ["", ":9464"])
def test_a_server_knows_its_names_and_no_others(port: str) -> None:
    known = KnownHosts(["host-1", ".example.com"])
    assert all(known.knows(name + port) for name in [*NAMES, "host-1"])
    assert not any(known.knows(name + port) for name in [*STRANGERS, "other-host", "host-1.evil.example"])
    assert known.knows("")


@given(st.from_regex(r"[a-z0-9-]{1,12}(\.[a-z0-9-]{1,12}){1,3}", fullmatch=True))
def test_no_name_that_can_be_registered_is_known(name: str) -> None:
    """Top-level domains have letters; those of Services and hosts can't be had."""
    end = name.rpartition(".")[2]
    assume(end not in ("svc", "local", "localhost") and not end.isdigit())
    assert not KnownHosts(["host-1"]).knows(name)


async def test_a_page_of_others_reads_nothing_and_frames_nothing(site: Site) -> None:
    _, server, session = site
    for path in ("/", "/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/timeline/east/v1/ConfigMap/default/a"):
        async with session.get(path, headers={"Host": f"evil.example:{server.port}"}) as answer:
            assert (answer.status, "spec.observer.hosts" in await answer.text()) == (421, True)
    for path in ("/", "/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/nothing", "/nothing"):
        async with session.get(path) as answer:
            assert answer.status != 421
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Frame-Options"] == "DENY"
    async with session.post("/api/v1/status") as answer:
        assert answer.status == 405
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


async def test_further_names_are_those_of_the_fleet_file() -> None:
    server = await serve(SmallView(), ObserverSpec(port=0, hosts=["raycp.example.com"]))
    headers = {"Host": "raycp.example.com"}
    async with aiohttp.ClientSession(server.url) as session, session.get("/healthz", headers=headers) as answer:
        assert answer.status == 200
    await server.stop()


async def test_what_the_clusters_have(site: Site) -> None:
    async with site[2].get("/api/v1/capacity") as answer:
        assert await answer.json() == {"capacity": [{"cluster": "east"}]}


async def test_a_job_is_explained_and_queues_are_listed(site: Site) -> None:
    async with site[2].get("/api/v1/explain/team/train") as answer:
        assert await answer.json() == {"name": "train", "namespace": "team", "position": 3}
    async with site[2].get("/api/v1/explain/team/nobody") as answer:
        assert answer.status == 404
    async with site[2].get("/api/v1/queues") as answer:
        assert await answer.json() == {"queues": [{"name": "batch", "pending": 2}]}


async def test_the_history_from_where_one_has_it(site: Site) -> None:
    session = site[2]
    async with session.get("/api/v1/history") as answer:
        assert answer.headers["Content-Encoding"] in ("gzip", "deflate"), "an hour of 200 clusters is a megabyte"
        assert await answer.json() == {"asked": ["", -1, -1]}
    async with session.get("/api/v1/history", params={"instance": "ab", "after": "7", "seq": "0"}) as answer:
        assert await answer.json() == {"asked": ["ab", 7, 0]}
    for wrong in ("x", "-2", "1e3", "9" * 40):
        async with session.get("/api/v1/history", params={"after": wrong}) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"].startswith(f"after is {wrong!r}: ")


def test_parts_of_the_page_share_no_name() -> None:
    """The page's script and its parts are one scope, but for a part that is a function of its own; the later of one name wins."""
    room = resources.files("raycp.observer")
    parts = [room / "status.html", *sorted((room / "page").iterdir(), key=str)]
    texts = [text for part in parts if "= (() => {" not in (text := part.read_text("utf-8"))]
    names = [name for text in texts for name in re.findall(r"^(?:async )?(?:function|const|let) ([a-zA-Z_]+)", text, re.MULTILINE)]
    assert len(texts) > 2
    assert [name for name, count in Counter(names).items() if count > 1] == []
