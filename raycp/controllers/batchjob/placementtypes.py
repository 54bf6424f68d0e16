"""``Placement``: the schema of ``spec.placement``, the rules that it keeps, and what it means to ``raycp.scheduling``.

Names and meanings are those of Kubernetes where it has such a field for nodes (``tolerations``, ``topologySpreadConstraints``,
preferences), else those of Karmada's PropagationPolicy (affinity groups in order).
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from raycp.controllers.batchjob.labelselector import SELECTOR_LIMIT, LabelKey, LabelSelector, expressions_of
from raycp.controllers.batchjob.podtemplate import LabelValue
from raycp.controllers.batchjob.validation import INVALID, REQUIRED, SpecRule, cel_rules
from raycp.controllers.crdmodel import CrdModel
from raycp.scheduling import Rules
from raycp.scheduling.labels import LabelRequirement, TolerationSpec
from raycp.scheduling.model import COST_LABEL, AffinityGroup, Preference, SpreadConstraint

Topology = Literal["Any", "SameZone", "SameCluster"]

_INT32 = 2**31 - 1
_CLUSTERS, _FEW = 1000, 16
_WEIGHT = 1_000_000

ClusterName = Annotated[str, Field(max_length=63)]

TOLERATION_RULES: Sequence[SpecRule] = (
    SpecRule(
        ".operator",
        INVALID,
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        "(has(self.key) && self.key != '') || self.operator == 'Exists'",
        lambda each: bool(each.key) or each.operator == "Exists",
    ),
    SpecRule(
        ".value",
        INVALID,
        "value must be empty when `operator` is 'Exists'",
        "self.operator != 'Exists' || !has(self.value) || self.value == ''",
        lambda each: each.operator != "Exists" or not each.value,
    ),
    SpecRule(
        ".effect",
        INVALID,
        "effect must be 'NoExecute' when `tolerationSeconds` is set",
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        lambda each: each.toleration_seconds is None or each.effect == "NoExecute",
    ),
)
"""``ValidateTolerations`` of Kubernetes."""

PREFERENCE_RULES: Sequence[SpecRule] = (
    SpecRule(
        ".preference",
        REQUIRED,
        "must have matchLabels or matchExpressions",
        "(has(self.preference.matchLabels) && size(self.preference.matchLabels) > 0)"
        " || (has(self.preference.matchExpressions) && size(self.preference.matchExpressions) > 0)",
        lambda each: bool(each.preference.match_labels or each.preference.match_expressions),
    ),
    SpecRule(".weight", INVALID, "must not be 0", "self.weight != 0", lambda each: each.weight != 0),
)

AFFINITY_RULES: Sequence[SpecRule] = (
    SpecRule(
        "",
        REQUIRED,
        "at least one of clusters and labelSelector must be specified",
        "(has(self.clusters) && size(self.clusters) > 0) || has(self.labelSelector)",
        lambda each: bool(each.clusters) or each.label_selector is not None,
    ),
)

PLACEMENT_RULES: Sequence[SpecRule] = (
    SpecRule(
        ".topologySpreadConstraints",
        INVALID,
        "may not be given with strategy Single, which uses one cluster",
        "self.strategy != 'Single' || !has(self.topologySpreadConstraints) || size(self.topologySpreadConstraints) == 0",
        lambda each: each.strategy != "Single" or not each.topology_spread_constraints,
    ),
    # The lists are maps by these keys in the CRD.
    SpecRule(".affinities", INVALID, "a name is used twice", "", lambda each: _once([group.name for group in each.affinities])),
    SpecRule(
        ".topologySpreadConstraints",
        INVALID,
        "a topologyKey is used twice",
        "",
        lambda each: _once([constraint.topology_key for constraint in each.topology_spread_constraints]),
    ),
)


def _once(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def _map_by(key: str) -> dict[str, Any]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class ClusterAffinity(CrdModel):
    """Clusters that are tried together."""

    model_config = ConfigDict(json_schema_extra=cel_rules(AFFINITY_RULES))
    name: str = Field(min_length=1, max_length=63, description="Name of the group, in what is said of it.")
    clusters: list[ClusterName] = Field(
        default_factory=list, max_length=_CLUSTERS, description="Names, in order of preference; empty: all that have the labels."
    )
    label_selector: LabelSelector | None = Field(default=None, description="Labels that its clusters have.")


class ClusterPreference(CrdModel):
    """Clusters that are preferred, or avoided."""

    model_config = ConfigDict(json_schema_extra=cel_rules(PREFERENCE_RULES))
    weight: int = Field(ge=-100, le=100, description="Added to the score of clusters with these labels; negative: avoid them.")
    preference: LabelSelector = Field(description="The labels.")


class ClusterToleration(CrdModel):
    """Taints of clusters that keep the job from nothing."""

    model_config = ConfigDict(json_schema_extra=cel_rules(TOLERATION_RULES))
    key: LabelKey = Field(default="", description="Key of the taint; empty, with Exists: every key.")
    operator: Literal["Equal", "Exists"] = Field(default="Equal", description="Equal: the value is the same. Exists: any value.")
    value: LabelValue = Field(default="", description="Value of the taint.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="", description="Effect of the taint; empty: every effect."
    )
    toleration_seconds: int | None = Field(
        default=None,
        ge=0,
        le=_INT32,
        description="With NoExecute: how long Pods stay after the cluster got the taint. Nothing new is placed there meanwhile.",
    )


class TopologySpread(CrdModel):
    """Evenness over clusters, regions or zones."""

    topology_key: Literal["cluster", "region", "zone"] = Field(description="What the Pods are spread over.")
    max_skew: int = Field(default=1, ge=1, le=_INT32, description="The most by which the numbers of Pods in two of them differ.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        default="DoNotSchedule",
        description="Of Pods that would break it. DoNotSchedule: they wait. ScheduleAnyway: they go where they break it least.",
    )


class CostPreference(CrdModel):
    """How much cheap clusters are preferred."""

    weight: int = Field(ge=1, le=100, description="Score of the cheapest cluster that fits; of the most expensive, 0.")
    label: str = Field(
        default=COST_LABEL, min_length=1, max_length=317, description="The clusters' label that has the cost, a number; 0 if none."
    )


class Placement(CrdModel):
    """Which member clusters run the Pods, and how many of them."""

    model_config = ConfigDict(json_schema_extra=cel_rules(PLACEMENT_RULES))
    clusters: list[ClusterName] = Field(
        default_factory=list, max_length=_CLUSTERS, description="Names, in order of preference; empty: all members."
    )
    cluster_selector: dict[str, LabelValue] = Field(
        default_factory=dict, max_length=SELECTOR_LIMIT, description="Labels that a cluster must have."
    )
    affinities: list[ClusterAffinity] = Field(
        default_factory=list,
        max_length=_FEW,
        description="Groups of clusters, in order: the first that takes all Pods is used, else the one that takes most.",
        json_schema_extra=_map_by("name"),
    )
    preferences: list[ClusterPreference] = Field(
        default_factory=list, max_length=_FEW, description="Which of the clusters come first, by the sum of the weights."
    )
    tolerations: list[ClusterToleration] = Field(
        default_factory=list, max_length=_FEW, description="Taints of clusters that are no obstacle."
    )
    topology_spread_constraints: list[TopologySpread] = Field(
        default_factory=list,
        max_length=3,
        description="How even the Pods are over clusters, regions or zones; all hold.",
        json_schema_extra=_map_by("topologyKey"),
    )
    cost: CostPreference | None = None
    strategy: Literal["Spread", "Pack", "Single", "Weighted"] = Field(
        default="Spread",
        description="Spread: evenly, by weight. Weighted: by weight and free room. Pack: fill one cluster before the next. Single:"
        " one cluster only.",
    )
    max_clusters: int | None = Field(default=None, ge=1, le=_INT32, description="The most clusters that run Pods of the job.")
    max_pods_per_cluster: int | None = Field(default=None, ge=1, le=_INT32, description="The most unfinished Pods in one cluster.")
    weights: dict[str, Annotated[int, Field(ge=0, le=_WEIGHT)]] = Field(
        default_factory=dict, max_length=_CLUSTERS, description="Share per cluster; 1 if not named, 0 excludes."
    )

    # when a cluster is lost, drained, or has no node for the Pods
    on_unreachable: Literal["Wait", "Replace"] = Field(
        default="Wait", description="Wait: Pods in an unreachable cluster are assumed to run. Replace: they run anew elsewhere."
    )
    unreachable_toleration_seconds: int = Field(
        default=300,
        ge=0,
        le=_INT32,
        description="With Replace: how long a cluster may be unreachable before its Pods are replaced.",
    )
    unschedulable_toleration_seconds: int = Field(
        default=60,
        ge=1,
        le=_INT32,
        description="How long Pods may find no node in a cluster before they move to another that takes them.",
    )
    max_moving: int | None = Field(
        default=None,
        ge=1,
        description="Most running Pods that leave a cluster at a time, where they could stay; by default a quarter of parallelism.",
    )

    @property
    def tolerated(self) -> tuple[TolerationSpec, ...]:
        """Its tolerations, as placement reads them."""
        return tuple(
            TolerationSpec(each.key, each.operator, each.value, each.effect, each.toleration_seconds) for each in self.tolerations
        )


def rules_of(placement: Placement, topology: Topology = "Any") -> Rules:
    """What it asks for, as placement rules. ``topology``: that of the job's gang."""
    return Rules(
        placement.strategy,
        tuple(placement.clusters),
        placement.cluster_selector,
        placement.max_clusters,
        placement.max_pods_per_cluster,
        placement.weights,
        affinities=tuple(
            AffinityGroup(each.name, tuple(each.clusters), _requirements(each.label_selector)) for each in placement.affinities
        ),
        tolerations=placement.tolerated,
        spread=tuple(
            SpreadConstraint(each.topology_key, each.max_skew, each.when_unsatisfiable == "ScheduleAnyway")
            for each in placement.topology_spread_constraints
        ),
        preferences=tuple(Preference(each.weight, _requirements(each.preference)) for each in placement.preferences),
        cost_weight=placement.cost.weight if placement.cost is not None else 0,
        cost_label=placement.cost.label if placement.cost is not None else COST_LABEL,
        topology=topology,
    )


def _requirements(selector: LabelSelector | None) -> tuple[LabelRequirement, ...]:
    if selector is None:
        return ()
    equal = [LabelRequirement(key, "In", (value,)) for key, value in (selector.match_labels or {}).items()]
    found = [LabelRequirement(each.key, each.operator, tuple(each.values or ())) for each in selector.match_expressions or ()]
    return (*equal, *found)


def parts_of(placement: Placement, path: str) -> list[tuple[Sequence[SpecRule], Any, str]]:
    """(rules, value, path) of all that has rules in it."""
    found: list[tuple[Sequence[SpecRule], Any, str]] = [(PLACEMENT_RULES, placement, path)]
    for at, group in enumerate(placement.affinities):
        found.append((AFFINITY_RULES, group, f"{path}.affinities[{at}]"))
        found += expressions_of(group.label_selector, f"{path}.affinities[{at}].labelSelector")
    for at, each in enumerate(placement.preferences):
        found.append((PREFERENCE_RULES, each, f"{path}.preferences[{at}]"))
        found += expressions_of(each.preference, f"{path}.preferences[{at}].preference")
    found += [(TOLERATION_RULES, each, f"{path}.tolerations[{at}]") for at, each in enumerate(placement.tolerations)]
    return found
