"""``TraceSwitch``: puts ``ChangeTraces`` where changes pass while traces are exported, and takes it away when not."""

from collections.abc import Callable
from typing import Protocol

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.metrics.traces import TraceExport
from raycp.protocol.plan import Plan
from raycp.shard.change_traces import ChangeTraces
from raycp.shard.ledger import Drops, Ledger
from raycp.slo import StepListener


class Traced(Protocol):
    """A part of the shard that reports to ``traces`` where there are some."""

    traces: ChangeTraces | None


class TraceSwitch:
    """One shard's. ``recorded``: the flight recorder's listener, which stays."""

    def __init__(
        self,
        export: TraceExport,
        clock: Clock,
        ledger: Ledger,
        kind_of: Callable[[str], GVK | None],
        traced: tuple[Traced, ...],
    ) -> None:
        self._export = export
        self._clock = clock
        self._timelines = ledger.timelines
        self._recorded = ledger.timelines.listener
        self._kind_of = kind_of
        self._traced = traced
        self._traces: ChangeTraces | None = None
        ledger.forgets.append(self._forget)

    async def update(self, plan: Plan) -> None:
        """Follow the plan's fleet file."""
        before = self._export.tracer
        await self._export.update(plan.fleet.doc.spec.traces, plan.fleet.doc.name)
        tracer = self._export.tracer
        if tracer is before:
            return
        traces = self._traces = ChangeTraces(tracer, self._clock, self._kind_of) if tracer is not None else None
        self._timelines.listener = self._recorded if traces is None else _both(self._recorded, traces.step)
        for part in self._traced:
            part.traces = traces

    def _forget(self, drops: Drops) -> None:
        if self._traces is not None:
            self._traces.forget(drops)


def _both(first: StepListener | None, second: StepListener) -> StepListener:
    if first is None:
        return second

    def listener(*step: object) -> None:
        first(*step)  # type: ignore[arg-type]
        second(*step)  # type: ignore[arg-type]

    return listener
