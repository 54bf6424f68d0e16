"""The spans of a change, from its watch event in a shard to each API request of a worker, as a collector gets them."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import fleet_samples as samples
import pytest
from collector import Collector, Spanned, collector
from inprocess import Stack, stack, until

from raycp.base.keys import RequestKey
from raycp.metrics.traces import trace_id


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the tests names is not meant for them."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@contextlib.asynccontextmanager
async def traced(uses: Iterable[str], homes: dict[str, str] | None = None, **traces: Any) -> AsyncIterator[tuple[Stack, Collector]]:
    async with collector() as to, stack(uses, homes, traces={"endpoint": to.url, **traces}) as fleet:
        yield fleet, to


def change_of(fleet: Stack, name: str, cluster: str = "here") -> str:
    found = fleet.clusters[cluster].api.get("configmaps", "default", name)
    assert found is not None
    return f"{cluster}@{found['metadata']['resourceVersion']}"


def trace_of(change: str, controller: str, name: str, cluster: str = "here") -> str:
    return f"{trace_id(change, RequestKey(controller, cluster, 'default', name)):032x}"


async def whole(to: Collector, name: str, number: int = 1) -> list[Spanned]:
    """The spans of that name, once there are so many."""
    found: list[Spanned] = await until(lambda: len(to.named(name)) >= number and to.named(name), what=f"{number} spans {name}")
    return found


async def test_a_change_is_a_tree_of_spans() -> None:
    async with traced(["parent"]) as (fleet, to):
        await fleet.put("here", "parent", "p")
        change = change_of(fleet, "p")
        await whole(to, "POST secrets")
        trace = trace_of(change, "parent", "p")
        assert to.tree(trace) == [
            ("create parent", [("queue standard", []), ("reconcile parent", [("POST secrets", [])])])
        ]
        root, queue, reconcile, post = (
            to.named(name)[0] for name in ("create parent", "queue standard", "reconcile parent", "POST secrets")
        )
        about = {"raycp.change": change, "raycp.controller": "parent", "raycp.kind": "v1/ConfigMap", "raycp.name": "p",
                 "k8s.cluster.name": "here", "k8s.namespace.name": "default", "raycp.tier": "standard"}  # fmt: skip
        for span in (root, queue, reconcile):
            assert about.items() <= span.attributes.items()
        assert (root.attributes["raycp.source"], root.attributes["raycp.reason"]) == ("watch", "create")
        worker = fleet.worker().member.actor_name
        assert (queue.attributes["raycp.worker"], queue.attributes["raycp.attempt"]) == (worker, 1)
        assert (reconcile.attributes["raycp.outcome"], reconcile.attributes["raycp.writes"]) == ("ok", 1)
        sent = {"http.request.method": "POST", "http.response.status_code": 201, "url.path": "/api/v1/namespaces/default/secrets",
                "raycp.verb": "create", "raycp.kind": "v1/Secret", "raycp.name": "p-child", "k8s.cluster.name": "here",
                "k8s.namespace.name": "default", "server.address": "127.0.0.1"}  # fmt: skip
        assert sent.items() <= post.attributes.items()
        assert f":{post.attributes['server.port']}" in fleet.connects["here"].server
        assert root.start <= root.end <= queue.end
        assert queue.start >= root.start
        assert reconcile.start <= post.start <= post.end <= reconcile.end
        assert [span.kind for span in (root, queue, reconcile, post)] == [5, 1, 1, 3], "consumer, internal, internal, client"
        assert not any(span.failed for span in to.spans)
        assert root.resource["service.name"] == "raycp"
        assert (root.resource["raycp.role"], reconcile.resource["raycp.role"]) == ("shard", "worker")
        assert reconcile.resource["service.instance.id"] == worker


async def test_a_request_carries_the_span_that_the_api_server_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    from raycp.kube.payload import Payloads

    sent: list[dict[str, str]] = []
    make = Payloads.make

    def noting(self: Payloads, *given: Any) -> bytes:
        if given[0] == "POST" and given[1].endswith("/secrets"):
            sent.append(dict(given[5]))
        return make(self, *given)

    monkeypatch.setattr(Payloads, "make", noting)
    async with traced(["parent"]) as (fleet, to):
        await fleet.put("here", "parent", "p")
        (post,) = await whole(to, "POST secrets")
        assert [headers["traceparent"] for headers in sent] == [f"00-{post.trace}-{post.id}-01"]
        assert "X-Raycp-Epoch" in sent[0]
