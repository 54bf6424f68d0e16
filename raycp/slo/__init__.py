"""Reconcile latency against its objectives: from a change received to the end of the reconcile that saw it (law 9).

The path of a change through this room: in the shard, ``SliClocks`` starts a clock when the change is observed and stops it
when it is reconciled; ``SloTracker`` counts the resulting ``Sample`` (metrics, and a compact absolute report once a
second). In the observer, ``SloBook`` merges the reports of all shards, living and dead, into windows, budgets, burn rates
and alerts, and keeps them over a restart.

- ``sample``: ``Kind``, ``Segments``, ``Sample``: the measurement of a stopped clock;
- ``clocks``: ``SliClocks``: one clock per change, through coalescing, retries, waits and hand-over;
- ``clock_state``: a key's clocks as they are sent to another process;
- ``objectives``: ``Objective``, ``Objectives``: the changes that an objective covers, and whether one met it;
- ``histogram``: ``LogHistogram``: percentiles within 3 %, mergeable, sparse;
- ``windows``: ``SlotRing``, ``Windows``: counts of the last 5 minutes to 30 days in fixed memory;
- ``budget``: error budget, burn rates, and the burn alerts: pure functions;
- ``tracker``: ``SloTracker``, the shard's counters;
- ``book``: ``SloBook``, the observer's merged view, with checkpoint and restore;
- ``rules``: the same alerts as Prometheus rules;
- ``timeline``: ``Timelines``: the recent history of an object, for ``raycp why``.
"""

from raycp.slo.book import SloBook
from raycp.slo.clocks import Overdue, SliClocks
from raycp.slo.histogram import LogHistogram
from raycp.slo.objectives import Objective, Objectives
from raycp.slo.sample import Kind, Sample, Segments
from raycp.slo.timeline import Step, StepListener, Timelines
from raycp.slo.tracker import COUNTED_AT_ONCE, SloTracker
from raycp.slo.windows import SlotRing, Windows

__all__ = [
    "COUNTED_AT_ONCE",
    "Kind",
    "LogHistogram",
    "Objective",
    "Objectives",
    "Overdue",
    "Sample",
    "Segments",
    "SliClocks",
    "SloBook",
    "SloTracker",
    "SlotRing",
    "Step",
    "StepListener",
    "Timelines",
    "Windows",
]
