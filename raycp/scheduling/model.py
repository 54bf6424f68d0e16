"""The question and the answer of a placement."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from raycp.scheduling.labels import LabelRequirement, TaintSpec, TolerationSpec

Strategy = Literal["Spread", "Pack", "Single", "Weighted"]
COST_LABEL = "raycp.io/cost"
"""Label of a cluster, by default: what a unit of its capacity costs, a number in any currency that all clusters use; 0 if it has
none."""


class AffinityGroup(msgspec.Struct, frozen=True):
    """Clusters that are tried together: named ones (in order of preference; empty: any) that meet all ``requirements``."""

    name: str = ""
    clusters: tuple[str, ...] = ()
    requirements: tuple[LabelRequirement, ...] = ()


class SpreadConstraint(msgspec.Struct, frozen=True):
    """The numbers of the job's Pods in any two domains differ by ``max_skew`` at most. A domain is a cluster, or the clusters with
    the same label ``topology.kubernetes.io/region`` or ``zone`` (else ``region``, ``zone``); clusters without it get no Pods.
    ``soft``: what finds no place so is placed nevertheless, where it breaks the constraint least; clusters without domain last."""

    topology: Literal["cluster", "region", "zone"]
    max_skew: int = 1
    soft: bool = False


class Preference(msgspec.Struct, frozen=True):
    """Clusters that meet all ``requirements`` score ``weight`` more, -100 to 100: data that is near, hardware that suits."""

    weight: int
    requirements: tuple[LabelRequirement, ...]


class Rules(msgspec.Struct, frozen=True):
    """Which clusters may be used, and how.

    ``clusters``: names, in order of preference (empty: all members). ``selector``: labels a cluster must have; ``requirements``:
    expressions on them. ``max_clusters``: a job never uses more. ``max_per_cluster``: the most unfinished Pods of the job in one
    cluster. ``weights``: shares for Spread and Weighted and preference for the others; 1 where none is given, 0 excludes.
    ``affinities``: groups in order; the first that takes all Pods is used, else the one that takes most. ``tolerations``: of
    taints of clusters. ``cost_weight``: how much a cheap cluster is preferred, 0 to 100, by its label ``cost_label``. ``topology``:
    all Pods in one cluster, or in one zone.
    """

    strategy: Strategy = "Spread"
    clusters: tuple[str, ...] = ()
    selector: Mapping[str, str] = {}
    max_clusters: int | None = None
    max_per_cluster: int | None = None
    weights: Mapping[str, int] = {}
    requirements: tuple[LabelRequirement, ...] = ()
    affinities: tuple[AffinityGroup, ...] = ()
    tolerations: tuple[TolerationSpec, ...] = ()
    spread: tuple[SpreadConstraint, ...] = ()
    preferences: tuple[Preference, ...] = ()
    cost_weight: int = 0
    cost_label: str = COST_LABEL
    topology: Literal["Any", "SameCluster", "SameZone"] = "Any"


class Demand(msgspec.Struct, frozen=True):
    """``count`` more Pods for job ``uid``; ``existing`` counts the unfinished ones that each cluster has already.

    ``used``: clusters that ever had a Pod of the job: they count towards ``max_clusters``, and are preferred by Single.
    """

    uid: str
    count: int
    rules: Rules = Rules()
    existing: Mapping[str, int] = {}
    used: frozenset[str] = frozenset()


class Candidate(msgspec.Struct, frozen=True):
    """A cluster as placement sees it. ``free_pods``: how many more Pods of the job it holds, None: not known, no limit.
    ``refusal``: why it gets none of this job, a sentence; empty where it may."""

    name: str
    labels: Mapping[str, str] = {}
    reachable: bool = True
    reason: str = ""
    free_pods: int | None = None
    refusal: str = ""
    taints: tuple[TaintSpec, ...] = ()


class ClusterVerdict(msgspec.Struct, frozen=True):
    """The decision about one cluster. ``count``: new Pods it gets. ``reason``: one CamelCase word; ``message``: a sentence.
    ``score``: what orders the clusters that fit, the higher the better; 0 for others."""

    cluster: str
    fits: bool
    count: int
    reason: str
    message: str
    score: float = 0.0


class PlacementDecision(msgspec.Struct, frozen=True):
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
