"""``place``: filter the clusters, order them, fill them.

The rules, in order:

1. A cluster fits when it is named (or none is), has the labels, has a weight above 0, is reachable, and has not refused the job.
2. With ``max_clusters`` n, clusters that the job uses already come first; new ones fill up to n.
3. The order is the one in which ``clusters`` names them, else by weighted rendezvous hashing of (job, cluster)
   (Thaler and Ravishankar, 1998; weights after Schindelhauer and Schomaker, 2005): jobs spread over the fleet without
   any state, and a cluster that comes or goes moves only its share.
4. ``Spread`` gives each Pod to the cluster with the least load in proportion to its weight; ``Pack`` fills one
   cluster before it starts the next; ``Single`` uses one only, the one it has used before if any.
5. No cluster gets more than ``max_per_cluster`` and its free room allow.

The same arguments give the same decision, whatever the order of ``fleet``.
"""

import hashlib
import heapq
import math
from collections.abc import Iterable

from raycp.scheduling.model import Candidate, ClusterVerdict, Demand, PlacementDecision, Rules


def place(job: Demand, fleet: Iterable[Candidate], now: float) -> PlacementDecision:
    """Where the next ``job.count`` Pods go. Pure; see the module for the rules."""
    rules = job.rules
    candidates = sorted(fleet, key=lambda candidate: candidate.name)
    refused = {candidate.name: _refusal(candidate, rules) for candidate in candidates}
    fitting = [candidate for candidate in candidates if refused[candidate.name] is None]
    order = _ordered(job, fitting)
    beyond: set[str] = set()
    limit = 1 if rules.strategy == "Single" else rules.max_clusters
    if limit is not None:
        kept = _within(job, [candidate.name for candidate in order], limit)
        beyond = {candidate.name for candidate in order} - kept
        order = [candidate for candidate in order if candidate.name in kept]
    room = {candidate.name: _room(candidate, job) for candidate in order}
    counts = _spread(job, order, room) if rules.strategy == "Spread" else _pack(job, order, room)
    verdicts = []
    for candidate in candidates:
        name, count = candidate.name, counts.get(candidate.name, 0)
        refusal = refused[name]
        if refusal is not None:
            verdicts.append(ClusterVerdict(name, False, 0, *refusal))
        elif name in beyond:
            message = "the job already uses another cluster" if limit == 1 else f"the job uses {limit} clusters at most"
            verdicts.append(ClusterVerdict(name, False, 0, "ClusterLimit", message))
        elif count:
            verdicts.append(ClusterVerdict(name, True, count, "Chosen", f"gets {count}"))
        elif room[name] <= 0:
            verdicts.append(ClusterVerdict(name, True, 0, "Full", "no room for more Pods of this job"))
        else:
            verdicts.append(ClusterVerdict(name, True, 0, "NotNeeded", "others come first"))
    assigned = {candidate.name: counts[candidate.name] for candidate in order if counts.get(candidate.name)}
    return PlacementDecision(assigned, job.count - sum(assigned.values()), tuple(verdicts), now)


def allowed(candidate: Candidate, rules: Rules) -> bool:
    """Whether the job may run there at all, whatever the cluster's state."""
    return _mismatch(candidate, rules) is None


def _refusal(candidate: Candidate, rules: Rules) -> tuple[str, str] | None:
    """(reason, message) why a cluster does not fit; None where it does."""
    found = _mismatch(candidate, rules)
    if found is not None:
        return found
    if not candidate.reachable:
        return "Unreachable", f"not reachable{': ' + candidate.reason if candidate.reason else ''}"
    if candidate.refusal:
        return "Refused", candidate.refusal
    return None


def _mismatch(candidate: Candidate, rules: Rules) -> tuple[str, str] | None:
    if rules.clusters and candidate.name not in rules.clusters:
        return "NotNamed", "not among the named clusters"
    for key, value in sorted(rules.selector.items()):
        if candidate.labels.get(key) != value:
            return "LabelMismatch", f"label {key} is not {value!r}"
    if rules.weights.get(candidate.name, 1) <= 0:
        return "ZeroWeight", "its weight is 0"
    return None


def _ordered(job: Demand, fitting: list[Candidate]) -> list[Candidate]:
    if job.rules.clusters:
        rank = {name: at for at, name in enumerate(job.rules.clusters)}
        return sorted(fitting, key=lambda candidate: rank[candidate.name])
    return sorted(fitting, key=lambda candidate: (-_score(job, candidate.name), candidate.name))


def _score(job: Demand, cluster: str) -> float:
    digest = hashlib.sha256(f"{job.uid}\0{cluster}".encode()).digest()
    uniform = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
    return job.rules.weights.get(cluster, 1) / -math.log(uniform)


def _within(job: Demand, names: list[str], limit: int) -> set[str]:
    """The clusters that a job with a limit may use: those it uses (unreachable ones count too), then the first new ones."""
    used = set(job.used) | {name for name, count in job.existing.items() if count}
    kept = [name for name in names if name in used][:limit]
    kept += [name for name in names if name not in used][: max(0, limit - len(used))]
    return set(kept)


def _room(candidate: Candidate, job: Demand) -> int:
    room = job.count
    if job.rules.max_per_cluster is not None:
        room = min(room, job.rules.max_per_cluster - job.existing.get(candidate.name, 0))
    if candidate.free_pods is not None:
        room = min(room, candidate.free_pods)
    return max(0, room)


def _pack(job: Demand, order: list[Candidate], room: dict[str, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    left = job.count
    started = [c for c in order if job.existing.get(c.name)]
    for candidate in started + [c for c in order if not job.existing.get(c.name)]:
        counts[candidate.name] = min(left, room[candidate.name])
        left -= counts[candidate.name]
    return counts


def _spread(job: Demand, order: list[Candidate], room: dict[str, int]) -> dict[str, int]:
    """One Pod after the other to the least loaded cluster; the heap keeps that at O(n log clusters)."""
    counts = {candidate.name: 0 for candidate in order}

    def load(name: str) -> float:
        return (job.existing.get(name, 0) + counts[name] + 1) / job.rules.weights.get(name, 1)

    heap = [(load(candidate.name), at, candidate.name) for at, candidate in enumerate(order) if room[candidate.name] > 0]
    heapq.heapify(heap)
    for _ in range(job.count):
        if not heap:
            break
        _, at, name = heapq.heappop(heap)
        counts[name] += 1
        if counts[name] < room[name]:
            heapq.heappush(heap, (load(name), at, name))
    return counts
