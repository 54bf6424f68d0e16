"""``Standing``: what a job remembers of one cluster beside its counts: that it refuses the job's Pods, since when it is lost, and
which indexes leave it or were replaced meanwhile."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from raycp.controllers.batchjob.indexes import IndexSet
from raycp.sdk import conditions

ASSIGNED_LIMIT = 100_000
"""Indexes that are assigned to clusters at one time: the highest ``parallelism``. No status makes a worker hold more."""


@dataclass(frozen=True, slots=True)
class PodRefusal:
    """The verdict that a cluster does not take this job's Pods, in the server's words.

    ``until`` is the Unix time (whole seconds) up to which no Pod is sent there; afterwards one is, index ``probe``, and when it is
    there the verdict is void. ``times`` counts refusals in a row. ``template``: it is the Pod itself that is refused.
    """

    reason: str
    message: str
    times: int = 1
    until: float = 0.0
    template: bool = False
    probe: int | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any] | None) -> "PodRefusal | None":
        """From ``status.clusters[].refusal``."""
        if not entry:
            return None
        return cls(
            entry["reason"] if conditions.is_reason(entry.get("reason")) else "Unknown",
            entry.get("message") or "",
            max(1, entry.get("times") or 1),
            conditions.parse_time(entry.get("until")) or 0.0,
            bool(entry.get("template")),
            entry.get("probe"),
        )

    def write(self) -> dict[str, Any]:
        """As it is stored."""
        entry: dict[str, Any] = {"reason": self.reason, "message": self.message, "times": self.times}
        entry["until"] = conditions.time_text(self.until)
        if self.template:
            entry["template"] = True
        if self.probe is not None:
            entry["probe"] = self.probe
        return entry


@dataclass(slots=True)
class Standing:
    """``lost_at``: Unix time (whole seconds) since which the cluster, in which indexes run, is unreachable. ``leaving``: indexes
    assigned to it whose Pods are given up, to run elsewhere. ``replaced``: indexes that run elsewhere by now, as a later attempt,
    whose Pods here may exist still. ``tainted_at``: Unix time (whole seconds) since which it has a taint ``NoExecute`` that the job
    tolerates for a time, or not at all."""

    refusal: PodRefusal | None = None
    lost_at: float | None = None
    leaving: set[int] = field(default_factory=set)
    replaced: set[int] = field(default_factory=set)
    tainted_at: float | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Standing":
        """From an entry of ``status.clusters``."""
        return cls(
            PodRefusal.read(entry.get("refusal")),
            conditions.parse_time(entry.get("lostAt")),
            _few(entry.get("leaving")),
            _few(entry.get("replaced")),
            conditions.parse_time(entry.get("taintedAt")),
        )

    def write(self) -> dict[str, Any]:
        """The fields of such an entry; without those that say nothing."""
        entry: dict[str, Any] = {}
        if self.refusal is not None:
            entry["refusal"] = self.refusal.write()
        if self.lost_at is not None:
            entry["lostAt"] = conditions.time_text(self.lost_at)
        if self.tainted_at is not None:
            entry["taintedAt"] = conditions.time_text(self.tainted_at)
        if self.leaving:
            entry["leaving"] = str(IndexSet(self.leaving))
        if self.replaced:
            entry["replaced"] = str(IndexSet(self.replaced))
        return entry


def _few(text: str | None) -> set[int]:
    """As a set. They were assigned once, so that there are no more of them than of assigned ones, whatever the text says."""
    return set(islice(IndexSet.read(text or "", 2**31 - 1), ASSIGNED_LIMIT))


def whole(at: float) -> float:
    """The next whole second, as times are stored."""
    return float(math.ceil(at))
