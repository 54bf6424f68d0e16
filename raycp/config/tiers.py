"""``spec.tiers`` and ``spec.slo``: how the fleet's slots are shared, what belongs to which tier, what is promised."""

from typing import Annotated, Literal

from pydantic import Field

from raycp.config.names import TextMap, Texts
from raycp.config.strict import Strict
from raycp.config.units import Duration, Percent, PositiveDuration

TierName = Literal["critical", "high", "standard", "background"]

TIERS: tuple[TierName, ...] = ("critical", "high", "standard", "background")
"""From the most to the least urgent."""

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
    """How many worker processes a tier adds. They pull that tier first and lend the rest of their slots."""

    min: int = Field(default=0, ge=0)
    """Always there."""
    max: int = Field(default_factory=lambda given: int(given.get("min", 0)), ge=0)
    """The most that autoscaling makes of it; as many as `min` by default."""


class StandardPool(PoolRange):
    """The pool that a fleet has at least."""

    min: int = Field(default=1, ge=0)
    """Always there."""
    max: int = Field(default_factory=lambda given: max(4, int(given.get("min", 1))), ge=0)
    """The most that autoscaling makes of it; 4, or `min` if that is more, by default."""


class AutoscaleSpec(Strict):
    """When a tier's pool grows and shrinks between `workers.min` and `workers.max`."""

    target: PositiveDuration | None = None
    """Time that items may wait in the queue. By default half of the tier's tightest objective, else half of
    `maxWait`."""
    up_after: Duration = 2.0
    """Grow when waiting has been above the target for this long."""
    down_after: Duration = 60.0
    """Shrink when it has been below half the target, with slots to spare, for this long."""
    request_nodes: bool = True
    """Ask Ray's autoscaler, where there is one, for the nodes that more workers need."""


class TierSpec(Strict):
    """One lane of the queue: what it is guaranteed. What it leaves idle, the others use."""

    share: Share
    max_wait: MaxWait
    workers: PoolRange = PoolRange()
    """Worker processes that it adds."""
    autoscale: AutoscaleSpec = AutoscaleSpec()
    """When its workers become more or fewer."""


class CriticalTier(TierSpec):
    """What users wait for now."""

    share: Share = 0.40
    max_wait: MaxWait = 1.0


class HighTier(TierSpec):
    """More urgent than most."""

    share: Share = 0.25
    max_wait: MaxWait = 5.0


class StandardTier(TierSpec):
    """What nobody has said anything about."""

    share: Share = 0.25
    max_wait: MaxWait = 15.0
    workers: StandardPool = StandardPool()
    """Worker processes that it adds. A worker pulls from all lanes, so one pool is enough for a small fleet."""


class BackgroundTier(TierSpec):
    """The system's own work: resyncs, existing objects at a start, polls. Never starved, never in the way."""

    share: Share = 0.10
    max_wait: MaxWait = 60.0


class RuleWhen(Strict):
    """Conditions on an object; all that are given must hold. Each takes one value or a list of which one must match."""

    label: TextMap = {}
    """Labels and their values. A value may be `*`: any."""
    annotation: TextMap = {}
    """Annotations and their values. A value may be `*`: any."""
    field: TextMap = {}
    """Fields by dotted path, such as `spec.qosTier`, and their values as text. A value may be `*`: any."""
    priority_class: Texts = []
    """Its `spec.priorityClassName`, or that of its Pod template."""
    namespace: Texts = []
    """Its namespace; `*` at the end stands for any rest, as in `prod-*`."""
    controller: Texts = []
    """The controller that reconciles it."""
    cluster: TextMap = {}
    """Labels of the cluster that it is in."""

    @property
    def always(self) -> bool:
        """Whether it holds for every object."""
        return self == RuleWhen()


class TierSource(Strict):
    """A place on the object that names its tier. Exactly one."""

    label: str | None = None
    """A label whose value is the tier."""
    annotation: str | None = None
    """An annotation whose value is the tier."""
    field: str | None = None
    """A field, by dotted path, whose value is the tier."""


class TierRule(Strict):
    """The first rule that holds decides. A tier named on an object that does not exist falls to the default, and is
    reported."""

    when: RuleWhen = RuleWhen()
    """Which objects. Empty: all."""
    tier: TierName | None = None
    """Their tier."""
    tier_from: TierSource | None = None
    """Or: where on the object its tier is named. Objects that name none are left to the next rule."""


DEFAULT_RULES: list[TierRule] = [
    TierRule(tier_from=TierSource(label="raycp.io/qos-tier")),
    TierRule(tier_from=TierSource(field="spec.qosTier")),
]


class TiersSpec(Strict):
    """The four tiers, and which object belongs to which."""

    critical: CriticalTier = CriticalTier()
    """What users wait for now."""
    high: HighTier = HighTier()
    """More urgent than most."""
    standard: StandardTier = StandardTier()
    """What nobody has said anything about."""
    background: BackgroundTier = BackgroundTier()
    """The system's own work; never starved."""
    default: TierName = "standard"
    """The tier of objects that no rule decides."""
    rules: list[TierRule] = DEFAULT_RULES
    """Which object belongs to which tier, in order. By default the label `raycp.io/qos-tier`, then `spec.qosTier`."""

    def of(self, name: TierName) -> TierSpec:
        """The tier of that name."""
        tier: TierSpec = getattr(self, name)
        return tier


class SloObjective(Strict):
    """A promise on reconcile latency: of the changes that a user makes, `objective` are done `within` that time."""

    controller: str
    """Whose reconciles: the controller's name, or `*` for all."""
    tier: TierName | None = None
    """Of which tier; all tiers by default."""
    objective: Percent
    """Share of changes that must be within the threshold, such as `99.9%`."""
    within: PositiveDuration
    """The threshold: from the first observation of a change to the end of the reconcile that saw it."""
    window: PositiveDuration = 2592000.0
    """The time over which the promise is kept and the error budget counted; 30 days by default."""
