"""The question and the answer of a placement."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Strategy = Literal["Spread", "Pack", "Single"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Which clusters may be used, and how.

    ``clusters``: names, in order of preference (empty: all members). ``selector``: labels a cluster must have.
    ``max_clusters``: a job never uses more. ``max_per_cluster``: the most unfinished Pods of the job in one cluster.
    ``weights``: shares for Spread and preference for the others; 1 where none is given, 0 excludes.
    """

    strategy: Strategy = "Spread"
    clusters: tuple[str, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    max_clusters: int | None = None
    max_per_cluster: int | None = None
    weights: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demand:
    """``count`` more Pods for job ``uid``; ``existing`` counts the unfinished ones that each cluster has already."""

    uid: str
    count: int
    rules: Rules = field(default_factory=Rules)
    existing: Mapping[str, int] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    """Clusters that ever had a Pod of the job: they count towards ``max_clusters``, and are preferred by Single."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cluster as placement sees it. ``free_pods``: how many more Pods it holds, None: not known, no limit. ``refusal``: why it
    gets none of this job, a sentence; empty where it may."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    reachable: bool = True
    reason: str = ""
    free_pods: int | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class ClusterVerdict:
    """The decision about one cluster. ``count``: new Pods it gets. ``reason``: one CamelCase word; ``message``: a sentence."""

    cluster: str
    fits: bool
    count: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PlacementDecision:
    """``assigned``: new Pods by cluster, in the order in which to fill them. ``unplaced``: how many found no place.

    ``at`` is the ``now`` that it was made with, Unix seconds.
    """

    assigned: dict[str, int]
    unplaced: int
    verdicts: tuple[ClusterVerdict, ...]
    at: float

    @property
    def reason(self) -> str:
        """Why Pods are unplaced, in a sentence; empty when all have a place."""
        if not self.unplaced:
            return ""
        by_reason: dict[str, list[str]] = {}
        for verdict in self.verdicts:
            if not verdict.fits or verdict.reason == "Full":
                by_reason.setdefault(verdict.message, []).append(verdict.cluster)
        if not by_reason:
            return "the fleet has no member clusters"
        shown = [f"{message} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" for message, names in by_reason.items()]
        return f"no place for {self.unplaced}: " + "; ".join(shown)
