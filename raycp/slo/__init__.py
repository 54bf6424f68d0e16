"""Is the promise kept? From a change received to the reconcile that saw it done, honestly measured (design, law 9).

The way of a change through this room, in the shard: ``SliClocks.started`` when it is observed, ``handed_out``,
``done``; out come
``Sample``s, which ``SloTracker`` counts (metrics, and a compact absolute report once a second). In the observer
``SloBook``
merges the reports of all shards, living and dead, into windows, budgets, burn rates and alerts, and keeps them over a
restart.

- ``sample``: ``Kind``, ``Segments``, ``Sample``: what a clock tells when it stops;
- ``clocks``: ``SliClocks``: one clock per change, through coalescing, retries, waits and hand-over;
- ``objectives``: ``Objective``, ``Objectives``: which changes a promise is about, and whether one kept it;
- ``histogram``: ``LogHistogram``: percentiles to 3 %, mergeable, sparse;
- ``windows``: ``Ring``, ``Windows``: counts of the last 5 minutes to 30 days in fixed memory;
- ``budget``: error budget, burn rates, and the burn alerts: pure functions;
- ``tracker``: ``SloTracker``, the shard's counting;
- ``book``: ``SloBook``, the observer's reading, with checkpoint and restore;
- ``rules``: the same alerts as Prometheus rules;
- ``timeline``: ``Timelines``: what happened to an object lately, for ``raycp why``.
"""

from raycp.slo.book import SloBook
from raycp.slo.clocks import Overdue, SliClocks
from raycp.slo.histogram import LogHistogram
from raycp.slo.objectives import Objective, Objectives
from raycp.slo.sample import Kind, Sample, Segments
from raycp.slo.timeline import Step, Timelines
from raycp.slo.tracker import SloTracker
from raycp.slo.windows import Ring, Windows

__all__ = [
    "Kind",
    "LogHistogram",
    "Objective",
    "Objectives",
    "Overdue",
    "Ring",
    "Sample",
    "Segments",
    "SliClocks",
    "SloBook",
    "SloTracker",
    "Step",
    "Timelines",
    "Windows",
]
