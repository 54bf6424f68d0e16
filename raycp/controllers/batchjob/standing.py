"""``Standing``: what a job remembers of one cluster beside its counts: that it refuses the job's Pods, since when it is lost, and
which indexes leave it or were replaced meanwhile."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raycp.controllers.batchjob import indexes
from raycp.sdk import conditions


@dataclass(frozen=True, slots=True)
class Refusal:
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
    def read(cls, entry: Mapping[str, Any] | None) -> "Refusal | None":
        """From ``status.clusters[].refusal``."""
        if not entry:
            return None
        return cls(
            entry.get("reason") or "",
            entry.get("message") or "",
            entry.get("times") or 1,
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
    whose Pods here may exist still."""

    refusal: Refusal | None = None
    lost_at: float | None = None
    leaving: set[int] = field(default_factory=set)
    replaced: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Standing":
        """From an entry of ``status.clusters``."""
        return cls(
            Refusal.read(entry.get("refusal")),
            conditions.parse_time(entry.get("lostAt")),
            set(indexes.parse(entry.get("leaving") or "")),
            set(indexes.parse(entry.get("replaced") or "")),
        )

    def write(self) -> dict[str, Any]:
        """The fields of such an entry; without those that say nothing."""
        entry: dict[str, Any] = {}
        if self.refusal is not None:
            entry["refusal"] = self.refusal.write()
        if self.lost_at is not None:
            entry["lostAt"] = conditions.time_text(self.lost_at)
        if self.leaving:
            entry["leaving"] = indexes.show(self.leaving)
        if self.replaced:
            entry["replaced"] = indexes.show(self.replaced)
        return entry


def whole(at: float) -> float:
    """The next whole second, as times are stored."""
    return float(math.ceil(at))
