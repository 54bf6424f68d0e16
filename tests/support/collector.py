"""An OTLP/HTTP collector in this process: it decodes what it is sent, and answers as it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

PATH = "/v1/traces"


class Spanned:
    """One span that arrived."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name: str = span.name
        self.trace: str = span.trace_id.hex()
        self.id: str = span.span_id.hex()
        self.parent: str = span.parent_span_id.hex()
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.kind: int = span.kind
        self.failed = span.status.code == 2
        self.message: str = span.status.message
        self.attributes = _attributes(span.attributes)
        self.resource = resource

    def __repr__(self) -> str:
        return f"<{self.name} {self.trace[:6]}/{self.id[:6]} of {self.parent[:6]} {self.attributes}>"


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Collector:
    """``status``, ``body`` and ``answer_headers`` are its answer, which has no end if ``endless``, and waits for ``gate``;
    ``headers`` are those of the requests."""

    def __init__(self) -> None:
        self.spans: list[Spanned] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.body = ExportTraceServiceResponse().SerializeToString()
        self.answer_headers: dict[str, str] = {}
        self.endless = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    def tree(self, trace: str) -> Any:
        """The spans of a trace as (name, [children]), in the order of their beginning."""
        mine = sorted((span for span in self.spans if span.trace == trace), key=lambda span: (span.start, span.name))

        def below(parent: str) -> list[Any]:
            return [(span.name, below(span.id)) for span in mine if span.parent == parent]

        return below("")

    def named(self, name: str) -> list[Spanned]:
        """The spans of that name, the earliest first."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One batch."""
        raw = await request.read()
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        await self.gate.wait()
        if self.status == 200:
            for group in ExportTraceServiceRequest.FromString(raw).resource_spans:
                resource = _attributes(group.resource.attributes)
                self.spans += [Spanned(span, resource) for scope in group.scope_spans for span in scope.spans]
        if self.endless:
            answer = web.StreamResponse(status=self.status)
            await answer.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await answer.write(bytes(65536))
            return answer
        return web.Response(status=self.status, body=self.body, headers=self.answer_headers)


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """A collector that listens, for the time of the block."""
    made = Collector()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        made.gate.set()
        await runner.cleanup()
