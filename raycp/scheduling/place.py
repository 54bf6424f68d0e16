"""``place``: filter the clusters, order them, fill them.

The rules, in order:

1. A cluster fits when it is named (or none is), has the labels, has a weight above 0, has no taint that the job does not tolerate,
   is reachable, and has not refused the job (``filters``).
2. Affinity groups are tried in order; the first whose clusters take all Pods is used, else the one whose clusters take most.
3. With ``max_clusters`` n, clusters that the job uses already come first; new ones fill up to n.
4. The order is the one in which ``clusters`` names them; else by preference (``scores``), and among equals by weighted rendezvous
   hashing of (job, cluster): jobs spread over the fleet without any state, and a cluster that comes or goes moves only its share.
5. With ``topology`` SameCluster or SameZone, the first cluster or zone in that order that takes all Pods is used, else the one that
   takes most; where the job has Pods already, none but theirs. ``Single`` is SameCluster.
6. ``Spread`` gives each Pod to the cluster with the least load in proportion to its weight; ``Weighted`` in proportion to weight
   and free room; ``Pack`` fills one cluster before it starts the next (``division``).
7. No cluster gets more than ``max_per_cluster``, its free room and the spread constraints allow. Those that are ``soft`` hold as
   far as all Pods have a place nevertheless.

The same arguments give the same decision, whatever the order of ``fleet``. Nothing that runs is moved: a decision is about new
Pods.
"""

from collections.abc import Iterable

from raycp.scheduling.division import fill
from raycp.scheduling.domains import domain_of
from raycp.scheduling.filters import group_mismatch, refusal
from raycp.scheduling.model import AffinityGroup, Candidate, ClusterVerdict, Demand, PlacementDecision
from raycp.scheduling.scores import scored

Refusals = dict[str, tuple[str, str]]


def place(job: Demand, fleet: Iterable[Candidate], now: float) -> PlacementDecision:
    """Where the next ``job.count`` Pods go. Pure; see the module for the rules."""
    rules = job.rules
    candidates = sorted(fleet, key=_name)
    refused: Refusals = {}
    fitting = []
    for candidate in candidates:
        reason = refusal(candidate, rules)
        if reason is None:
            fitting.append(candidate)
        else:
            refused[candidate.name] = reason
    beyond, room, counts, unplaced, scores = _best(job, fitting)
    refused |= beyond
    verdicts = []
    for candidate in candidates:
        name = candidate.name
        score = scores.get(name, 0.0)
        if (no := refused.get(name)) is not None:
            verdicts.append(ClusterVerdict(name, False, 0, no[0], no[1], score))
        elif count := counts.get(name, 0):
            verdicts.append(ClusterVerdict(name, True, count, "Chosen", f"gets {count}", score))
        elif room[name] <= 0:
            verdicts.append(ClusterVerdict(name, True, 0, "Full", "no room for more Pods of this job", score))
        elif unplaced:
            message = "more Pods here would break a spread constraint"
            verdicts.append(ClusterVerdict(name, False, 0, "SpreadConstraint", message, score))
        else:
            verdicts.append(ClusterVerdict(name, True, 0, "NotNeeded", "others come first", score))
    return PlacementDecision({name: count for name, count in counts.items() if count}, unplaced, tuple(verdicts), now)


def assign(job: Demand, fitting: list[Candidate]) -> tuple[dict[str, int], int]:
    """``assigned`` and ``unplaced`` of ``place``, without the verdicts. ``fitting``: those clusters that are not refused, by
    name."""
    _, _, counts, unplaced, _ = _best(job, fitting)
    return {name: count for name, count in counts.items() if count}, unplaced


def _best(job: Demand, fitting: list[Candidate]) -> tuple[Refusals, dict[str, int], dict[str, int], int, dict[str, float]]:
    """What ``_filled`` finds with the best affinity group; and the scores."""
    scores = scored(job, fitting)
    best: tuple[Refusals, dict[str, int], dict[str, int], int] | None = None
    for group in job.rules.affinities or (None,):
        found = _filled(job, fitting, scores, group)
        if best is None or found[3] < best[3]:
            best = found
        if not found[3]:
            break
    assert best is not None
    return *best, scores


def _name(candidate: Candidate) -> str:
    return candidate.name


def _filled(
    job: Demand, fitting: list[Candidate], scores: dict[str, float], group: AffinityGroup | None
) -> tuple[Refusals, dict[str, int], dict[str, int], int]:
    """With this group: (clusters it excludes, room, new Pods by cluster in the order in which to fill them, unplaced Pods)."""
    rules = job.rules
    excluded: Refusals = {}
    if group is not None:
        for candidate in fitting:
            if (reason := group_mismatch(candidate, group)) is not None:
                excluded[candidate.name] = reason
    for constraint in rules.spread:
        for candidate in () if constraint.soft else fitting:
            if domain_of(candidate, constraint.topology) is None:
                excluded.setdefault(candidate.name, ("NoDomain", f"it has no label for its {constraint.topology}"))
    order = [candidate for candidate in fitting if candidate.name not in excluded] if excluded else list(fitting)
    named = (group.clusters if group is not None else ()) or rules.clusters
    if named:
        rank = {name: at for at, name in enumerate(named)}
        order.sort(key=lambda candidate: rank.get(candidate.name, len(rank)))
    else:
        order.sort(key=lambda candidate: (-scores[candidate.name], candidate.name))
    single = rules.strategy == "Single" or rules.topology == "SameCluster"
    if rules.max_clusters is not None and not single:
        kept = _within(job, order, rules.max_clusters)
        message = f"the job uses {rules.max_clusters} clusters at most"
        excluded |= {each.name: ("ClusterLimit", message) for each in order if each.name not in kept}
        order = [each for each in order if each.name in kept]
    room = {candidate.name: _room(candidate, job) for candidate in order}
    if single or rules.topology == "SameZone":
        order = _together(job, order, room, excluded, zone=not single)
    counts = fill(job, order, room)
    return excluded, room, counts, job.count - sum(counts.values())


def _within(job: Demand, order: list[Candidate], limit: int) -> set[str]:
    """The clusters that a job with a limit may use: those it uses (unreachable ones count too), then the first new ones."""
    used = _used(job)
    kept = [each.name for each in order if each.name in used][:limit]
    kept += [each.name for each in order if each.name not in used][: max(0, limit - len(used))]
    return set(kept)


def _used(job: Demand) -> set[str]:
    return set(job.used) | {name for name, count in job.existing.items() if count}


def _room(candidate: Candidate, job: Demand) -> int:
    room = job.count
    if job.rules.max_per_cluster is not None:
        room = min(room, job.rules.max_per_cluster - job.existing.get(candidate.name, 0))
    if candidate.free_pods is not None:
        room = min(room, candidate.free_pods)
    return max(0, room)


def _together(job: Demand, order: list[Candidate], room: dict[str, int], excluded: Refusals, *, zone: bool) -> list[Candidate]:
    """The clusters of one domain; the others are added to ``excluded``."""
    domains: dict[str, list[Candidate]] = {}
    for candidate in order:
        domain = domain_of(candidate, "zone") if zone else candidate.name
        if domain is None:
            excluded[candidate.name] = ("NoDomain", "it has no label for its zone")
        else:
            domains.setdefault(domain, []).append(candidate)
    used = _used(job)
    tied = bool(used) and (not zone or any(each.name in used for members in domains.values() for each in members))
    chosen, most = "", -1
    for domain, members in domains.items():
        total = sum(room[each.name] for each in members)
        at_home = any(each.name in used for each in members)
        if tied and not at_home:
            continue
        if total > most:
            chosen, most = domain, total
        if at_home or total >= job.count:
            chosen = domain
            break
    for domain, members in domains.items():
        if domain != chosen:
            message = f"the job already uses another {'zone' if zone else 'cluster'}" if tied else f"{chosen} comes first"
            excluded |= {each.name: ("ClusterLimit", message) for each in members}
    return domains.get(chosen, [])
