"""``ChangeTracer``: what a shard or a worker holds while traces are exported. ``TraceExport``: makes one as the fleet file says."""

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from raycp.base.keys import RequestKey
from raycp.config.traces import TracesSpec
from raycp.metrics.catalog import TraceMetrics
from raycp.metrics.registry import Metrics
from raycp.metrics.traces.identity import TraceIdentity, sampled, trace_id
from raycp.metrics.traces.settings import TraceSettings, TraceSettingsError, trace_settings

if TYPE_CHECKING:  # no circle: a process without traces does not import the SDK
    from raycp.metrics.traces.pipeline import SpanPipeline

log = logging.getLogger(__name__)

FLUSH_WITHIN = 2.0
"""Seconds that a process that ends waits for its last spans to be taken."""


class ChangeTracer:
    """``emit`` is for one thread. ``errors``: spans of a failed reconcile are emitted even where its trace is not sampled."""

    def __init__(self, settings: TraceSettings, pipeline: "SpanPipeline") -> None:
        self.errors = settings.errors
        self.emit = pipeline.emit
        self.drop = pipeline.drop
        self._ratio = settings.ratio

    def identify(self, change: str, key: RequestKey) -> TraceIdentity:
        """The trace of what ``change`` caused for ``key``."""
        trace = trace_id(change, key)
        return TraceIdentity(trace, sampled(trace, self._ratio))


class TraceExport:
    """One per process. ``resource``: the attributes by which a backend tells this process from others."""

    def __init__(self, metrics: Metrics, resource: Mapping[str, str]) -> None:
        self.tracer: ChangeTracer | None = None
        """None while no traces are exported."""
        self._resource = resource
        self._settings: TraceSettings | None = None
        self._updating = asyncio.Lock()
        self._refused = ""
        self._pipeline: SpanPipeline | None = None
        self._spans = TraceMetrics(metrics).spans
        self._before = {"exported": 0, "failed": 0, "dropped": 0}
        """Of pipelines that have ended."""
        for result in self._before:
            self._spans.labels(result)
        metrics.before_snapshot(self._count)

    @property
    def problem(self) -> str:
        """Why traces are not exported though they should be; empty where they are."""
        return self._refused or (self._pipeline.problem if self._pipeline is not None else "")

    async def update(self, spec: TracesSpec | None, fleet: str) -> None:
        """Follow the fleet file, and this process's environment."""
        async with self._updating:
            await self._update(spec, fleet)

    async def _update(self, spec: TracesSpec | None, fleet: str) -> None:
        try:
            settings, self._refused = trace_settings(spec, os.environ), ""
        except TraceSettingsError as error:
            if not self._refused:
                log.warning("traces are not exported: %s", error)
            settings, self._refused = None, str(error)
        if settings == self._settings:
            return
        self.close()
        self._settings = settings
        if settings is not None:
            resource = {**self._resource, "service.name": "raycp", "service.namespace": fleet}
            self._pipeline = await asyncio.to_thread(_pipeline, settings, resource)
            self.tracer = ChangeTracer(settings, self._pipeline)

    async def flush(self) -> None:
        """Send what waits, within ``FLUSH_WITHIN`` seconds: this process ends."""
        if self._pipeline is not None:
            await asyncio.to_thread(self._pipeline.flush, FLUSH_WITHIN)

    def close(self) -> None:
        """Send nothing more. Does not wait."""
        if self._pipeline is not None:
            self._pipeline.close()
            for result in self._before:
                self._before[result] += getattr(self._pipeline, result)
        self.tracer = self._pipeline = self._settings = None

    def _count(self) -> None:
        for result, before in self._before.items():
            self._spans.labels(result).value = before + (getattr(self._pipeline, result) if self._pipeline is not None else 0)


def _pipeline(settings: TraceSettings, resource: Mapping[str, str]) -> "SpanPipeline":
    """Off the loop: this imports the SDK, which takes a while, and which a process without traces does not have."""
    from raycp.metrics.traces import pipeline

    return pipeline.SpanPipeline(settings, resource, every=pipeline.EVERY)
