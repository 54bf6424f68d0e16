"""What can be set about a queue. Plain values, replaced as a whole by ``WorkQueue.set_policy``."""

from collections.abc import Mapping
from random import Random

import msgspec

from raycp.config.controllers import ControllerSpec
from raycp.config.pauses import PausedSpec
from raycp.config.tiers import TIERS, TiersSpec


class KeyBackoff(msgspec.Struct, frozen=True):
    """Seconds between attempts: ``base`` doubled per failure up to ``cap``, then up to ``jitter`` (a share) longer.

    Jitter only lengthens, so that a retry is ready no earlier than its backoff.
    """

    base: float = 0.05
    cap: float = 300.0
    jitter: float = 0.2

    def delay(self, attempts: int, rng: Random) -> float:
        """The wait after the ``attempts``-th failure in a row, counted from 1."""
        exponent = min(attempts - 1, 62)
        return float(min(self.cap, self.base * 2.0**exponent)) * (1.0 + self.jitter * rng.random())


class LanePolicy(msgspec.Struct, frozen=True):
    """One tier. ``share`` of all slots is guaranteed to it while it has work; ``max_wait`` in seconds, see law 4."""

    name: str
    share: float
    max_wait: float


DEFAULT_LANES = (
    LanePolicy("critical", 0.40, 1.0),
    LanePolicy("high", 0.25, 5.0),
    LanePolicy("standard", 0.25, 15.0),
    LanePolicy("background", 0.10, 60.0),
)


class QueuePolicy(msgspec.Struct, frozen=True):
    """``lanes`` from most to least urgent; the last is the background lane. ``default``: the lane of unknown tiers.

    ``concurrency`` and ``backoffs`` are per controller; ``cluster_in_flight`` is how many keys of one cluster may be
    handed out at once (None: no limit), ``cluster_limits`` the same for single clusters; of ``paused_clusters`` and
    ``paused_controllers`` nothing is handed out. ``retry_share``: the most of
    a lane's slots that retries may take. ``headroom``: the share of all slots that namespaces with a backlog leave free
    while others, that have none, come and go.
    """

    lanes: tuple[LanePolicy, ...] = DEFAULT_LANES
    default: str = "standard"
    backoff: KeyBackoff = KeyBackoff()
    backoffs: Mapping[str, KeyBackoff] = {}
    concurrency: Mapping[str, int] = {}
    cluster_in_flight: int | None = None
    cluster_limits: Mapping[str, int] = {}
    paused_clusters: frozenset[str] = frozenset()
    paused_controllers: frozenset[str] = frozenset()
    retry_share: float = 0.25
    headroom: float = 1 / 6
    slots: int = 32

    def __post_init__(self) -> None:
        names = [lane.name for lane in self.lanes]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"lanes must have different names, at least one: {names}")
        if self.default not in names:
            raise ValueError(f"default {self.default!r} is none of {names}")
        if any(not 0 < lane.share <= 1 for lane in self.lanes) or sum(lane.share for lane in self.lanes) > 1 + 1e-9:
            raise ValueError("shares must be above 0 and sum to 1 at most")

    @property
    def background(self) -> str:
        """The lane of polls, resyncs and existing objects."""
        return self.lanes[-1].name

    @classmethod
    def of(
        cls,
        tiers: TiersSpec,
        controllers: Mapping[str, ControllerSpec],
        cluster_limits: Mapping[str, int] | None = None,
        slots: int = 32,
        paused: PausedSpec = PausedSpec(),  # noqa: B008 - never changed
    ) -> "QueuePolicy":
        """The policy that a fleet file says. ``controllers`` by name; ``cluster_limits``: keys in flight per
        cluster."""
        return cls(
            lanes=tuple(LanePolicy(name, tiers.of(name).share, tiers.of(name).max_wait) for name in TIERS),
            default=tiers.default,
            backoffs={name: KeyBackoff(spec.retry.min, spec.retry.max, spec.retry.jitter) for name, spec in controllers.items()},
            concurrency={name: spec.concurrency for name, spec in controllers.items() if spec.concurrency is not None},
            cluster_limits=dict(cluster_limits or {}),
            paused_clusters=frozenset(paused.clusters),
            paused_controllers=frozenset(paused.controllers),
            slots=slots,
        )
