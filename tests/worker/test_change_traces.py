"""The spans of a change, from its watch event in a shard to each API request of a worker, as a collector gets them."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import fleet_samples as samples
import pytest
from collector import Collector, Spanned, collector
from inprocess import Stack, fleet_of, stack, until

from raycp.base.keys import RequestKey
from raycp.base.problems import ProblemCode
from raycp.config.embedded import FaultSpec
from raycp.config.traces import TracesSpec
from raycp.kube.connection import HttpChannel
from raycp.kube.errors import Unreachable
from raycp.kube.payload import Payloads
from raycp.metrics.traces import pipeline, trace_id
from raycp.metrics.traces.pipeline import SpanPipeline
from raycp.protocol.status import NOTES


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are sent at once, and where the test says."""
    monkeypatch.setattr(pipeline, "EVERY", 0.02)
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


FULL = [("create parent", [("queue standard", []), ("reconcile parent", [("POST secrets", [])])])]
"""The whole trace of a ConfigMap that ``parent`` sees."""


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


async def grown(to: Collector, trace: str, tree: Any) -> None:
    """The trace has become that tree: shards and workers export apart, each in its own time."""
    with contextlib.suppress(AssertionError):
        await until(lambda: to.tree(trace) == tree)
    assert to.tree(trace) == tree


async def test_a_change_is_a_tree_of_spans() -> None:
    async with traced(["parent"]) as (fleet, to):
        await fleet.put("here", "parent", "p")
        change = change_of(fleet, "p")
        await grown(to, trace_of(change, "parent", "p"), FULL)
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


def heard(monkeypatch: pytest.MonkeyPatch, method: str) -> list[dict[str, str]]:
    """The headers of the requests of that method that workers send from now on."""
    sent: list[dict[str, str]] = []
    make = Payloads.make

    def noting(self: Payloads, verb: str, *given: Any, **named: Any) -> bytes:
        if verb == method and len(given) > 4:
            sent.append(dict(given[4]))
        return make(self, verb, *given, **named)

    monkeypatch.setattr(Payloads, "make", noting)
    return sent


async def test_a_request_carries_the_span_that_the_api_server_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = heard(monkeypatch, "POST")
    async with traced(["parent"]) as (fleet, to):
        await fleet.put("here", "parent", "p")
        (post,) = await whole(to, "POST secrets")
        assert [headers.get("traceparent") for headers in sent] == [f"00-{post.trace}-{post.id}-01"]
        assert "X-Raycp-Epoch" in sent[0]


async def test_several_requests_a_request_that_fails_and_one_that_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, times = HttpChannel.send, [0]

    async def broken(self: HttpChannel, payload: bytes, *given: Any, **named: Any) -> Any:
        if b"/secrets/shared" in payload and payload.startswith(b"GET"):
            times[0] += 1
            if times[0] == 1:
                self.close()
                error = Unreachable("the server has closed it", sent=True)
                error.unanswered, self.used = True, 1
                raise error
        return await exchange(self, payload, *given, **named)

    monkeypatch.setattr(HttpChannel, "send", broken)
    async with traced(["scribe"]) as (fleet, to):
        shared = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared", "namespace": "default"}}
        await fleet.clusters["here"].api.create("secrets", shared)
        await fleet.put("here", "scribe", "s", kind="v1/Secret")
        await whole(to, "reconcile scribe")
        (reconcile,) = to.named("reconcile scribe")[:1]
        await whole(to, "PATCH configmaps")
        calls = sorted((span for span in to.spans if span.parent == reconcile.id), key=lambda span: span.start)
        assert [span.name for span in calls] == ["GET secrets", "PATCH secrets", "PATCH configmaps"]
        assert [span.attributes.get("http.request.resend_count") for span in calls] == [1, None, None]
        assert not any(span.failed for span in calls)


async def test_a_reconcile_that_fails_says_why_without_secrets_and_is_tried_again_in_its_trace() -> None:
    async with traced(["wild"]) as (fleet, to):
        await fleet.put("here", "wild", "w", do="leak", token="tok3n-of-the-kube-api", password="hunter22abc")
        await whole(to, "reconcile wild", 2)
        first, second = to.named("reconcile wild")[:2]
        await whole(to, "create wild")
        await until(lambda: sum(span.trace == first.trace for span in to.named("queue standard")) >= 2, what="both waits")
        assert first.trace == second.trace == trace_of(change_of(fleet, "w"), "wild", "w")
        assert first.id != second.id
        assert first.failed
        assert first.attributes["error.type"] == "RuntimeError"
        assert first.attributes["raycp.outcome"] == "retry"
        assert first.message.startswith("RuntimeError: the Secret of")
        assert [span.attributes["raycp.attempt"] for span in (first, second)] == [1, 2]
        waits = [span for span in to.named("queue standard") if span.trace == first.trace][:2]
        assert waits[1].start >= first.end - 1_000_000, "the second wait is from the failure, backoff included"
        assert len(to.named("create wild")) == 1
        told = repr(to.spans) + "".join(span.message for span in to.spans)
        assert "hunter22abc" not in told
        assert "tok3n" not in told


async def test_a_request_that_is_refused_has_its_status() -> None:
    async with traced(["parent"]) as (fleet, to):
        fleet.clusters["here"].faults.set([FaultSpec(kind="error", status=500, resources=["secrets"], verbs=["create"])])
        await fleet.put("here", "parent", "p")
        (post, *_) = await whole(to, "POST secrets")
        assert post.failed
        assert (post.attributes["http.response.status_code"], post.attributes["error.type"]) == (500, "500")


async def test_changes_that_are_reconciled_at_once_are_linked() -> None:
    async with traced(["gated"]) as (fleet, to):
        await fleet.put("here", "gated", "a", n="0")
        await until(lambda: samples.RUNNING["gated", "here", "a"])
        changes = []
        for number in ("1", "2"):
            await fleet.put("here", "gated", "a", n=number)
            changes.append(change_of(fleet, "a"))
        handed = fleet.shard().ledger.working
        await until(lambda: all(len(handout.deferred) == 2 for handout in handed.values()), what="both wait for its end")
        samples.OPEN["a"] = True
        await whole(to, "reconcile gated", 2)
        await whole(to, "update gated", 2)
        one, two = (trace_of(change, "gated", "a") for change in changes)
        first, second = to.named("update gated")
        assert [first.trace, second.trace] == [one, two]
        await grown(to, one, [("update gated", [("queue standard", []), ("reconcile gated", [])])])
        await grown(to, two, [("update gated", [])])
        (wait,) = [span for span in to.named("queue standard") if span.trace == one]
        assert wait.links == [(second.trace, second.id)]
        assert second.links == [(first.trace, first.id)]


async def test_a_childs_change_wakes_its_owner_in_a_trace_of_its_own() -> None:
    async with traced(["remote"], {"hub": "0", "east": "0"}) as (fleet, to):
        await fleet.put("hub", "remote", "r")
        await whole(to, "POST secrets")
        api = fleet.clusters["east"].api
        await until(lambda: not fleet.shard().ledger.working)
        await api.delete("secrets", "default", "r-child")
        await whole(to, "POST secrets", 2)
        (owned, *_) = await whole(to, "owned remote")
        assert owned.attributes["raycp.change"].startswith("east@")
        assert owned.attributes["k8s.cluster.name"] == "hub"
        await until(lambda: to.tree(owned.trace)[0][1][-1:] == [("reconcile remote", [("POST secrets", [])])])
        assert to.named("POST secrets")[1].attributes["k8s.cluster.name"] == "east"


async def test_a_poll_is_a_trace_of_its_own() -> None:
    async with traced(["reader"]) as (fleet, to):
        await fleet.put("here", "reader", "r", do="poll")
        (poll, *_) = await whole(to, "poll reader")
        await whole(to, "reconcile reader", 2)
        await until(lambda: {name for name, _ in to.tree(poll.trace)[0][1]} >= {"queue background", "reconcile reader"})
        ((name, below),) = to.tree(poll.trace)
        assert name == "poll reader"
        assert {name for name, _ in below} == {"queue background", "reconcile reader"}


async def test_shard_and_workers_sample_the_same_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = heard(monkeypatch, "POST")
    async with traced(["parent"], sample=0.5) as (fleet, to):
        names = [f"p{number}" for number in range(24)]
        for name in names:
            await fleet.put("here", "parent", name)
        await until(lambda: len(fleet.writes("here", "secrets", "create")) == len(names))
        traces = {name: trace_of(change_of(fleet, name), "parent", name) for name in names}
        chosen = {trace for trace in traces.values() if int(trace[16:], 16) < 1 << 63}
        assert 0 < len(chosen) < len(names)
        for trace in chosen:
            await grown(to, trace, FULL)
        assert {span.trace for span in to.spans} == chosen
        assert sum("traceparent" in headers for headers in sent) == len(chosen)
        assert len(fleet.shard().events.traces or ()) == 0, "what is not sampled is not kept either"


async def test_failures_are_exported_though_nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(["wild"], sample=0.0, errors=True) as (fleet, to):
        await fleet.put("here", "wild", "good")
        await fleet.put("here", "wild", "bad", do="permanent")
        (failed,) = await whole(to, "reconcile wild")
        await grown(to, failed.trace, [("create wild", [("queue standard", []), ("reconcile wild", [])])])
        assert len(to.spans) == 3
        assert failed.attributes["raycp.name"] == "bad"
        await until(lambda: not fleet.shard().ledger.working)
        assert len(fleet.shard().events.traces or ()) == 0


async def test_traces_are_switched_on_and_off_by_the_fleet_file() -> None:
    async with collector() as to, stack(["tracked"]) as fleet:
        assert fleet.shard().events.traces is None
        assert fleet.worker().runs.traces is None
        before = fleet.shard().ledger.timelines.listener
        for spec in (TracesSpec(endpoint=to.url), None, TracesSpec(endpoint=to.url)):
            doc = fleet.doc.model_copy(update={"spec": fleet.doc.spec.model_copy(update={"traces": spec})})
            fleet.fleet = fleet_of(doc)
            await fleet.configure()
            assert (fleet.shard().events.traces is None) is (fleet.worker().runs.traces is None) is (spec is None)
            assert (fleet.shard().ledger.timelines.listener is before) is (spec is None)
        await fleet.put("here", "tracked", "a")
        await whole(to, "reconcile tracked")


async def test_a_dead_collector_is_a_problem_that_degrades_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    async with stack(["parent"], traces={"endpoint": "http://127.0.0.1:9"}) as fleet:
        await fleet.put("here", "parent", "p")
        await until(lambda: fleet.writes("here", "secrets", "create"))
        member = fleet.shard().member

        def problems() -> list[str]:
            return [each.message for each in fleet.report(member).problems if each.code is ProblemCode.TRACES_NOT_EXPORTED]

        (problem,) = await until(problems)
        assert "127.0.0.1" in problem
        assert ProblemCode.TRACES_NOT_EXPORTED in NOTES
        assert fleet.report(member).ready


async def test_a_change_is_reconciled_while_the_collector_holds_its_answer() -> None:
    async with traced(["tracked"]) as (fleet, to):
        to.gate.clear()
        for number in range(30):
            await fleet.put("here", "tracked", f"t{number}")
        await until(lambda: len(samples.RAN) == 30)
        await until(lambda: to.headers, what="a batch is on its way, and not answered")
        assert not to.spans
        to.gate.set()
        await whole(to, "reconcile tracked", 30)


async def test_what_fails_in_tracing_fails_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpanPipeline, "emit", lambda self, record: 1 / 0)
    async with traced(["parent"]) as (fleet, to):
        await fleet.put("here", "parent", "p")
        await until(lambda: fleet.writes("here", "secrets", "create"))
        await until(lambda: not fleet.shard().ledger.working)
        assert [run[2] for run in samples.RAN] == ["p"]
        assert not to.spans
