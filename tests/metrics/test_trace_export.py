"""Whether, where and how many traces are exported; and what a collector may do without harm: be dead, slow, or lie."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from collector import Collector, collector
from hypothesis import given
from hypothesis import strategies as st
from inprocess import until
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from raycp.base.keys import RequestKey
from raycp.config.traces import TracesSpec
from raycp.metrics import Metrics
from raycp.metrics.traces import (
    SpanContext,
    SpanRecord,
    TraceExport,
    TraceSettings,
    TraceSettingsError,
    span_id,
    trace_id,
    traceparent,
    tracer,
)
from raycp.metrics.traces import trace_settings as settings
from raycp.metrics.traces.header_file import BadHeaders, read_headers
from raycp.metrics.traces.identity import sampled
from raycp.metrics.traces.pipeline import SpanPipeline

ROOT = Path(__file__).parents[2]
KEY = RequestKey("website", "east-1", "default", "web")
ONE, BASE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
HERE = {BASE: "http://collector:4318"}
TOKEN = "t0ps3cret-of-the-c0llector"


# settings


def test_without_an_endpoint_there_are_no_traces() -> None:
    assert settings(None, {}) is None
    assert settings(TracesSpec(sample=0.5, errors=True), {}) is None
    assert settings(None, {BASE: " ", ONE: ""}) is None


@pytest.mark.parametrize(
    ("spec", "env", "endpoint"),
    [
        ({"endpoint": "http://c:4318"}, {}, "http://c:4318/v1/traces"),
        ({"endpoint": "https://c/otlp/"}, {}, "https://c/otlp/v1/traces"),
        ({"endpoint": "https://c/v1/traces"}, {}, "https://c/v1/traces"),
        ({}, HERE, "http://collector:4318/v1/traces"),
        ({}, {**HERE, ONE: "http://own:1/as/it/is"}, "http://own:1/as/it/is"),
        ({"endpoint": "http://file"}, {**HERE, ONE: "http://own"}, "http://file/v1/traces"),
    ],
)
def test_the_file_then_the_variable_for_traces_then_the_general_one(
    spec: dict[str, str], env: dict[str, str], endpoint: str
) -> None:
    found = settings(TracesSpec(**spec), env)  # type: ignore[arg-type]
    assert found is not None
    assert found.endpoint == endpoint


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "True"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_standard_switches_switch_it_off(off: dict[str, str]) -> None:
    assert settings(TracesSpec(endpoint="http://c"), {**HERE, **off}) is None


@pytest.mark.parametrize(
    ("env", "ratio"),
    [
        ({}, 1.0),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, 1.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, 0.0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, 0.25),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, 1.0),
    ],
)
def test_the_share_is_that_of_the_variables_unless_the_file_has_one(env: dict[str, str], ratio: float) -> None:
    found, own = settings(None, {**HERE, **env}), settings(TracesSpec(sample=0.1), {**HERE, **env})
    assert found is not None
    assert found.ratio == ratio
    assert own is not None
    assert own.ratio == 0.1


@pytest.mark.parametrize(
    ("env", "named", "remedy"),
    [
        ({BASE: "collector:4318"}, f"{BASE} ('collector:4318')", "http://collector:4318"),
        ({ONE: "grpc://collector:4317"}, ONE, "OTLP over HTTP"),
        ({BASE: "http://"}, BASE, "names no host"),
        ({BASE: "http://c:99999"}, BASE, "is not a URL"),
        ({BASE: f"http://raycp:{TOKEN}@c"}, BASE, "headersFile"),
        ({BASE: f"http://c?token={TOKEN}"}, BASE, "remove what follows"),
        ({**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'", "4318"),
        ({**HERE, "OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'", "write otlp"),
        ({**HERE, "OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER", "spec.traces.sample"),
        (
            {**HERE, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"},
            "OTEL_TRACES_SAMPLER_ARG is 'nan'",
            "from 0 to 1",
        ),
        ({**HERE, "OTEL_EXPORTER_OTLP_HEADERS": f"a=b,{TOKEN}"}, "OTEL_EXPORTER_OTLP_HEADERS: header 2", "name=value"),
        ({**HERE, "OTEL_EXPORTER_OTLP_HEADERS": f'a="{TOKEN}'}, "OTEL_EXPORTER_OTLP_HEADERS: header 1", "percent-encode"),
    ],
)
def test_a_variable_that_cant_be_used_is_named_with_a_remedy_and_without_secrets(
    env: dict[str, str], named: str, remedy: str
) -> None:
    with pytest.raises(TraceSettingsError) as raised:
        settings(None, env)
    assert named in str(raised.value)
    assert remedy in str(raised.value)
    assert TOKEN not in str(raised.value)


def test_headers_are_read_from_a_file_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text(f"# of the collector\n\nAuthorization = Bearer {TOKEN}\nx-tenant=a=b\n")
    assert read_headers(str(file)) == {"authorization": f"Bearer {TOKEN}", "x-tenant": "a=b"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f"{TOKEN}\n", "line 1 is not name=value"),
        (f"a=b\nbad name={TOKEN}", "line 2: what is left of ="),
        (f"a={TOKEN}\x00", "line 1: the value"),
        ("a=", "line 1: the value is empty"),
        (f"a={TOKEN}\u00e9", "beyond ASCII"),
        ("a=b\n" * 20_000, "64 KiB"),
        (None, "No such file"),
    ],
)
def test_a_file_that_cant_be_used_says_where_without_a_value(tmp_path: Path, content: str | None, why: str) -> None:
    file = tmp_path / "headers"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadHeaders) as raised:
        read_headers(str(file))
    assert why in str(raised.value)
    assert str(file) in str(raised.value)
    assert TOKEN not in str(raised.value)


# identity


@given(st.text(), st.floats(0, 1))
def test_sampling_is_that_of_the_sdk(change: str, ratio: float) -> None:
    trace = trace_id(change, KEY)
    decision = TraceIdRatioBased(ratio).should_sample(None, trace, "").decision
    assert sampled(trace, ratio) is decision.is_sampled()
    assert 0 < trace < 1 << 128
    assert 0 < span_id(trace, "root") < 1 << 64


def test_ids_are_those_of_every_process_and_of_one_change_and_key() -> None:
    trace = trace_id("east-1@48213", KEY)
    assert f"{trace:032x}" == "f5929a071f269d9b9747467700a4dd2b"
    others = [trace_id("east-1@48214", KEY), trace_id("east-1@48213", KEY._replace(name="other"))]
    assert len({trace, *others}) == 3
    assert len({span_id(trace, what, number) for what in ("root", "queue", "reconcile") for number in (1, 2)}) == 6
    assert traceparent(255, 16) == "00-000000000000000000000000000000ff-0000000000000010-01"


# the way to the collector


def span(number: int = 0) -> SpanRecord:
    return SpanRecord(f"s{number}", SpanContext(1 + number, 2), 0, 1700000000.0, 1700000000.5, {"raycp.name": "a"})


def pipeline_of(to: Collector | str, most: int = 4096, headers_file: str = "") -> SpanPipeline:
    url = to if isinstance(to, str) else to.url
    return SpanPipeline(TraceSettings(f"{url}/v1/traces", headers_file=headers_file), {"service.name": "raycp"}, every=0.02,
    most=most)


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith(("OtelBatch", "raycp-traces"))]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")


async def test_headers_of_the_file_are_those_of_each_request(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text(f"authorization=Bearer {TOKEN}\n")
    async with collector() as to:
        made = pipeline_of(to, headers_file=str(file))
        made.emit(span())
        await until(lambda: made.exported == 1)
        file.write_text("authorization=Bearer another\n")
        made.emit(span(1))
        await until(lambda: made.exported == 2)
        file.write_text(TOKEN)
        made.emit(span(2))
        await until(lambda: made.failed == 1)
        made.close()
    assert [each["authorization"] for each in to.headers] == [f"Bearer {TOKEN}", "Bearer another"]
    assert made.problem == f"{file}, line 1 is not name=value"


@pytest.mark.parametrize(
    ("status", "headers", "problem"),
    [
        (500, {}, "status 500"),
        (302, {"Location": "http://127.0.0.1:1/elsewhere"}, "a redirect (302)"),
        (429, {"Retry-After": "86400"}, "status 429"),
        (503, {"Retry-After": "nan"}, "status 503"),
    ],
)
async def test_what_the_collector_refuses_is_counted_and_named(
    status: int, headers: dict[str, str], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with collector() as to:
        to.status, to.answer_headers, to.body = status, headers, TOKEN.encode()
        made = pipeline_of(to)
        with caplog.at_level(logging.INFO):
            made.emit(span())
            await until(lambda: made.failed == 1)
            assert problem in made.problem
            to.status = 200
            made.emit(span(1))
            await until(lambda: made.exported == 1)
            assert not made.problem
        made.close()
    said = [record.getMessage() for record in caplog.records if "trace" in record.name]
    assert len(said) == 2, "one line when it begins, one when it ends, and none of the exporter's own"
    assert problem in said[0]
    assert said[1] == "traces are exported again"


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    async with collector() as to:
        to.endless = True
        made = pipeline_of(to)
        made.emit(span())
        await until(lambda: made.exported == 1)
        made.close()


async def test_a_dead_collector_costs_memory_for_so_many_spans_and_no_time() -> None:
    made = pipeline_of("http://127.0.0.1:9", most=10)
    for number in range(1000):
        made.emit(span(number))
    await until(lambda: made.failed + made.dropped >= 990)
    made.flush(1.0)
    made.close()
    assert made.failed + made.dropped == 1000
    assert made.dropped
    assert made.exported == 0


async def test_an_end_does_not_wait_for_a_collector_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "20")
    monkeypatch.setattr(tracer, "FLUSH_WITHIN", 0.05)
    metrics = Metrics()
    async with collector() as to:
        to.gate.clear()
        export = TraceExport(metrics, {})
        await export.update(TracesSpec(endpoint=to.url), "fleet")
        assert export.tracer is not None
        export.tracer.emit(span())
        async with asyncio.timeout(5.0):
            await export.flush()
            export.close()
        assert not to.spans
        assert export.tracer is None
        to.gate.set()
        await until(lambda: not threads(), what="its threads have ended")


async def test_the_last_spans_are_sent_before_the_end() -> None:
    metrics = Metrics()
    async with collector() as to:
        export = TraceExport(metrics, {"service.instance.id": "shard-0"})
        await export.update(TracesSpec(endpoint=to.url), "fleet")
        assert export.tracer is not None
        export.tracer.emit(span())
        await export.flush()
        assert [each.name for each in to.spans] == ["s0"]
        assert to.spans[0].resource["service.namespace"] == "fleet"
        assert to.spans[0].resource["service.instance.id"] == "shard-0"
        export.close()
    metrics.snapshot()
    (family,) = [each for each in metrics.families() if each.spec.name == "raycp_trace_spans_total"]
    assert dict(family.rows) == {("exported",): [1.0], ("failed",): [0.0], ("dropped",): [0.0]}


async def test_a_bad_variable_is_a_problem_until_it_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    export = TraceExport(Metrics(), {})
    await export.update(TracesSpec(endpoint="http://127.0.0.1:9"), "fleet")
    assert export.tracer is None
    assert export.problem.startswith("OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'")
    await export.update(None, "fleet")
    assert not export.problem


async def test_a_name_of_the_environment_is_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    async with collector() as to:
        made = pipeline_of(to)
        made.emit(span())
        await until(lambda: to.spans)
        assert to.spans[0].resource["service.name"] == "ours"
        made.close()


def test_without_traces_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import asyncio, sys; import raycp.shard.core, raycp.worker.core; from raycp.metrics import Metrics;"
        "from raycp.metrics.traces import TraceExport; asyncio.run(TraceExport(Metrics(), {}).update(None, 'f'));"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'requests')))"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
