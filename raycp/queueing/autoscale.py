"""How many workers a tier needs: a pure function of its queue delay, with hysteresis.

Grow when waiting has been above the target for ``up_after``, in proportion to how far above, at most doubling; shrink
by one when it has been below half the target, with slots to spare, for ``down_after``. In between nothing changes.
(The shape of Kubernetes' HorizontalPodAutoscaler: a tolerance band, and a stabilisation window that is longer
downwards.)
"""

import math

import msgspec


class PoolPolicy(msgspec.Struct, frozen=True):
    """``min``..``max`` workers of ``slots`` each; ``target``, ``up_after``, ``down_after`` in seconds."""

    min: int
    max: int
    target: float
    slots: int = 32
    up_after: float = 2.0
    down_after: float = 60.0


class PoolState(msgspec.Struct, frozen=True):
    """What is known of a pool now, and what the last ``Decision`` remembered (``above_since``, ``below_since``: None
    where the delay is on the other side of its bound; ``changed_at``: the last change of size).

    ``delay``: the tier's queue delay in seconds, the larger of its recent p99 and its oldest ready item's age.
    ``busy``: slots in use in the pool's workers. ``starting``: requested workers that don't pull yet.
    """

    workers: int
    delay: float
    busy: int
    ready: int
    starting: int = 0
    above_since: float | None = None
    below_since: float | None = None
    changed_at: float = -math.inf


class Decision(msgspec.Struct, frozen=True):
    """``target``: how many workers to have; ``reason`` in words. Pass the rest on in the next ``PoolState``."""

    target: int
    reason: str
    above_since: float | None
    below_since: float | None
    changed_at: float


def scale_pool(state: PoolState, policy: PoolPolicy, now: float) -> Decision:
    """How many workers the pool should have. Call it about once a second. Raises ``ValueError`` for an impossible
    policy."""
    if not 0 <= policy.min <= policy.max or not policy.target > 0 or policy.slots < 1:
        raise ValueError(f"impossible pool policy: {policy}")
    have = state.workers
    if not policy.min <= have <= policy.max:
        bounded = min(max(have, policy.min), policy.max)
        return Decision(bounded, f"{have} is outside {policy.min}..{policy.max}", None, None, now)
    above = state.delay > policy.target
    above_since = (now if state.above_since is None else state.above_since) if above else None
    # One worker less must still leave a fifth of the slots free, or the pool would grow again at once.
    spare = state.busy <= 0.8 * policy.slots * (have - 1)
    low = state.delay < policy.target / 2 and state.ready <= policy.slots * max(have - 1, 0) and (spare or not state.busy)
    below_since = (now if state.below_since is None else state.below_since) if low else None
    waiting = f"items wait {state.delay:.3g} s"

    if above_since is not None:
        if have == policy.max:
            return Decision(have, f"{waiting}, but max is {policy.max}", above_since, None, state.changed_at)
        if state.starting:
            reason = f"{waiting}; {state.starting} worker(s) are starting"
            return Decision(have, reason, above_since, None, state.changed_at)
        if now - max(above_since, state.changed_at) >= policy.up_after or have == 0:
            factor = min(2.0, state.delay / policy.target)
            target = min(policy.max, max(have + 1, math.ceil(have * factor)))
            reason = f"{waiting}, more than {policy.target:.3g} s, for {now - above_since:.3g} s"
            return Decision(target, reason, above_since, None, now)
        return Decision(have, f"{waiting}, more than {policy.target:.3g} s", above_since, None, state.changed_at)
    if below_since is not None and have > policy.min:
        if now - max(below_since, state.changed_at) >= policy.down_after:
            reason = f"{waiting}, less than half of {policy.target:.3g} s, for {now - below_since:.3g} s"
            return Decision(have - 1, reason, None, below_since, now)
        return Decision(have, "slots to spare", None, below_since, state.changed_at)
    return Decision(have, "as it should be", None, below_since, state.changed_at)
