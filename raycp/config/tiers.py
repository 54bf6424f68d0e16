"""``spec.tiers`` and ``spec.slo``: shares of slots, rules that assign tiers, latency objectives."""

from typing import Annotated, Literal

from pydantic import Field

from raycp.config.names import TextMap, Texts
from raycp.config.strict import Strict
from raycp.config.units import Duration, Percent, PositiveDuration

TierName = Literal["critical", "high", "standard", "background"]

TIERS: tuple[TierName, ...] = ("critical", "high", "standard", "background")
"""The tiers from the most to the least urgent."""

Share = Annotated[
    Percent,
    Field(description="Share of the fleet's slots that it gets at least, while it has work. What all four get is 100 % at most."),
]
MaxWait = Annotated[
    PositiveDuration,
    Field(
        description="An item that has been ready for longer gets the next slot, "
        "unless its tier is above its share over the last second."
    ),
]


class PoolRange(Strict):
    """Number of worker processes that a tier adds. They pull that tier first and lend idle slots to the others."""

    min: int = Field(default=0, ge=0)
    """Fewest processes."""
    max: int = Field(default_factory=lambda given: int(given.get("min", 0)), ge=0)
    """Most processes with autoscaling; by default `min`."""


class StandardPool(PoolRange):
    """The pool that every fleet has."""

    min: int = Field(default=1, ge=0)
    """Fewest processes."""
    max: int = Field(default_factory=lambda given: max(4, int(given.get("min", 1))), ge=0)
    """Most processes with autoscaling; by default 4, or `min` if that is more."""


class AutoscaleSpec(Strict):
    """When a tier's pool grows and shrinks between `workers.min` and `workers.max`."""

    target: PositiveDuration | None = None
    """Target of the queue delay. By default half of the tier's tightest objective, else half of `maxWait`."""
    up_after: Duration = 2.0
    """Grow after the queue delay has been above the target for this long."""
    down_after: Duration = 60.0
    """Shrink after the queue delay has been below half the target, with idle slots, for this long."""
    request_nodes: bool = True
    """Request nodes for more workers from Ray's autoscaler, if there is one."""


class TierSpec(Strict):
    """One lane of the queue and its guaranteed share. Other lanes use what it leaves idle."""

    share: Share
    max_wait: MaxWait
    workers: PoolRange = PoolRange()
    """Worker processes that the tier adds."""
    autoscale: AutoscaleSpec = AutoscaleSpec()
    """When the number of its workers grows and shrinks."""


class CriticalTier(TierSpec):
    """Work that users wait for."""

    share: Share = 0.40
    max_wait: MaxWait = 1.0


class HighTier(TierSpec):
    """Work that is more urgent than most."""

    share: Share = 0.25
    max_wait: MaxWait = 5.0


class StandardTier(TierSpec):
    """The default tier."""

    share: Share = 0.25
    max_wait: MaxWait = 15.0
    workers: StandardPool = StandardPool()
    """Worker processes that the tier adds. A worker pulls from all lanes, so one pool is enough for a small fleet."""


class BackgroundTier(TierSpec):
    """System work: resyncs, existing objects at a start, polls. Its share keeps it from starving."""

    share: Share = 0.10
    max_wait: MaxWait = 60.0


class RuleWhen(Strict):
    """Conditions on an object; all given ones must hold. Each takes one value, or a list of which one must match."""

    label: TextMap = {}
    """Labels and their values. The value `*` matches any."""
    annotation: TextMap = {}
    """Annotations and their values. The value `*` matches any."""
    field: TextMap = {}
    """Fields by dotted path, such as `spec.qosTier`, and their values as text. The value `*` matches any."""
    priority_class: Texts = []
    """Its `spec.priorityClassName`, or that of its Pod template."""
    namespace: Texts = []
    """Its namespace; a final `*` matches any suffix, as in `prod-*`."""
    controller: Texts = []
    """The controller that reconciles it."""
    cluster: TextMap = {}
    """Labels of its cluster."""

    @property
    def always(self) -> bool:
        """Whether it holds for every object."""
        return self == RuleWhen()


class TierSource(Strict):
    """The place on the object that names its tier: exactly one."""

    label: str | None = None
    """A label whose value is the tier."""
    annotation: str | None = None
    """An annotation whose value is the tier."""
    field: str | None = None
    """A field, by dotted path, whose value is the tier."""


class TierRule(Strict):
    """One rule. The first rule that holds decides. An object that names an unknown tier gets the default tier and a problem."""

    when: RuleWhen = RuleWhen()
    """Conditions of the rule. Empty: all objects."""
    tier: TierName | None = None
    """The tier of these objects."""
    tier_from: TierSource | None = None
    """Instead of `tier`: where the object names its tier. The next rule is tried for objects that name none."""


DEFAULT_RULES: list[TierRule] = [
    TierRule(tier_from=TierSource(label="raycp.io/qos-tier")),
    TierRule(tier_from=TierSource(field="spec.qosTier")),
]


class TiersSpec(Strict):
    """The four tiers, and the rules that assign objects to them."""

    critical: CriticalTier = CriticalTier()
    """Work that users wait for."""
    high: HighTier = HighTier()
    """Work that is more urgent than most."""
    standard: StandardTier = StandardTier()
    """The default tier."""
    background: BackgroundTier = BackgroundTier()
    """System work; its share keeps it from starving."""
    default: TierName = "standard"
    """The tier of objects that no rule decides."""
    rules: list[TierRule] = DEFAULT_RULES
    """Rules that assign tiers, in order; the first that holds decides. By default the label `raycp.io/qos-tier`, then
    the field `spec.qosTier`."""

    def of(self, name: TierName) -> TierSpec:
        """The tier of that name."""
        tier: TierSpec = getattr(self, name)
        return tier


class SloObjective(Strict):
    """A latency objective: a share `objective` of the changes that users make is reconciled `within` this time."""

    controller: str
    """The controller's name, or `*` for all."""
    tier: TierName | None = None
    """The tier; by default all."""
    objective: Percent
    """Share of changes that must be within the threshold, such as `99.9%`."""
    within: PositiveDuration
    """The threshold: from the first observation of a change to the end of the reconcile that saw it."""
    window: PositiveDuration = 2592000.0
    """The window of the error budget; by default 30 days."""
