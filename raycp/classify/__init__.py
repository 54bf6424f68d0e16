"""Events to verdicts: what a change is, how urgent it is, and whose it is.

An ``Event`` of the cache and what the shard knows of its object (``Known``) go into one pure function, ``classify``; a
``Verdict`` comes out: whether to enqueue, why, how far in front, and whether a clock of the SLI starts. It is what
tells the one object that a user changed while nobody watched from the ten thousand that a start lists anyway.

- ``verdict``: ``Reason``, ``Priority``, ``Verdict``: the words;
- ``rules``: ``Known`` and ``classify``: the table of verdicts, row by row;
- ``watermark``: ``Watermark``: what of a cluster and kind has been seen and reconciled, small enough to be stored each
  second;
- ``inputs``: what a decision reads, and the reasons with which a change of each makes keys due;
- ``tiers``: ``TierRules``: the tier of an object, compiled from ``spec.tiers.rules``; ``tier_problems``: invalid rules;
- ``fieldpath``: reading a few fields of a large JSON object without decoding the rest; ``references``: the names at a path;
- ``spread``: random delays of system work, and the pace of changes that concern many keys.
"""

from raycp.classify.rules import (
    AWAY,
    CLUSTER_CHANGED,
    FLEET_CHANGED,
    NEW_CODE,
    OWNED_AWAY,
    REQUESTED,
    WATCHED,
    WATCHED_AWAY,
    WATCHED_LISTED,
    Known,
    begins_deletion,
    classify,
    classify_wake,
)
from raycp.classify.spread import pace_width, resync_period, spread_delay, spread_width
from raycp.classify.tiers import RuleError, TierChoice, TierRules
from raycp.classify.verdict import Priority, Reason, Verdict
from raycp.classify.watermark import Watermark

__all__ = [
    "AWAY",
    "CLUSTER_CHANGED",
    "FLEET_CHANGED",
    "NEW_CODE",
    "OWNED_AWAY",
    "REQUESTED",
    "WATCHED",
    "WATCHED_AWAY",
    "WATCHED_LISTED",
    "Known",
    "Priority",
    "Reason",
    "RuleError",
    "TierChoice",
    "TierRules",
    "Verdict",
    "Watermark",
    "begins_deletion",
    "classify",
    "classify_wake",
    "pace_width",
    "resync_period",
    "spread_delay",
    "spread_width",
]
