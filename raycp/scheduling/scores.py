"""The order in which clusters are preferred for a job.

The score of a cluster is the sum of what the job's preferences give it, ``cost_weight`` times how cheap it is among those that fit
(1: the cheapest, 0: the most expensive), -1000 for a taint ``PreferNoSchedule`` that is not tolerated, +10 where the job has Pods
already (steadiness), and a fraction below 1 that spreads jobs evenly: the rank in weighted rendezvous hashing of (job, cluster)
(Thaler and Ravishankar, 1998; weights after Schindelhauer and Schomaker, 2005).
"""

import math
from zlib import crc32

from raycp.scheduling.labels import untolerated
from raycp.scheduling.model import Candidate, Demand

STEADY = 10
AVOIDED = -1000
_MIX = 0x9E3779B97F4A7C15
_ALL = (1 << 64) - 1


def scored(job: Demand, fitting: list[Candidate]) -> dict[str, float]:
    """The score of each, the higher the better."""
    rules = job.rules
    seed = crc32(job.uid.encode())
    ties = {each.name: rules.weights.get(each.name, 1) / -math.log(_uniform(seed, each.name)) for each in fitting}
    scores = {name: tie / (1.0 + tie) for name, tie in ties.items()}
    if rules.cost_weight and fitting:
        costs = {each.name: _cost(each, rules.cost_label) for each in fitting}
        low, high = min(costs.values()), max(costs.values())
        if high > low:
            for name, cost in costs.items():
                scores[name] += rules.cost_weight * (high - cost) / (high - low)
    for each in fitting:
        if each.taints and untolerated(each.taints, rules.tolerations, soft=True) is not None:
            scores[each.name] += AVOIDED
    for preference in rules.preferences:
        for each in fitting:
            if all(requirement.holds(each.labels) for requirement in preference.requirements):
                scores[each.name] += preference.weight
    for name, count in job.existing.items():
        if count and name in scores:
            scores[name] += STEADY
    return scores


def _uniform(seed: int, cluster: str) -> float:
    """A number in (0, 1), even over jobs and clusters: two CRCs through the finalizer of SplitMix64 (Steele et al., 2014)."""
    mixed = ((seed << 32 | crc32(cluster.encode(), seed)) + _MIX) & _ALL
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _ALL
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _ALL
    return ((mixed ^ mixed >> 31) + 0.5) / 2**64


def _cost(candidate: Candidate, label: str) -> float:
    try:
        cost = float(candidate.labels.get(label, 0))
    except ValueError:
        return 0.0
    return cost if math.isfinite(cost) else 0.0
