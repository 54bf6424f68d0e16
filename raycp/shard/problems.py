"""What is wrong with a shard's clusters, as its report says it: pure."""

from raycp.base.problems import FLEET, ProblemCode, ProblemOwner, Subject
from raycp.protocol.report import Report
from raycp.shard.caches import Caches
from raycp.shard.watched_cluster import UNREACHABLE_AFTER, Informer


def shard_problems(report: Report, caches: Caches, store: str, now: float) -> dict[Subject, str]:
    """One problem for each cluster that can't be used, and for each kind that fails in a cluster that can. ``report`` has its
    clusters; ``store``: why the watermarks are not stored."""
    found: dict[Subject, str] = {}
    for row in report.clusters:
        owner = ProblemOwner(cluster=row.name)
        if not row.reachable:
            found[ProblemCode.CLUSTER_UNREACHABLE, owner] = row.reason or "it does not answer"
            continue
        watched = caches.cluster(row.name)
        failing = {kind: i for kind, i in watched.informers.items() if _failing(i, now)} if watched is not None else {}
        for kind, informer in failing.items():
            why = informer.reflector.status().reason if informer.reflector is not None else ""
            found[ProblemCode.KIND_FAILED, ProblemOwner(cluster=row.name, kind=str(kind))] = why or "it can't be watched"
        if not row.synced and not failing:
            found[ProblemCode.CLUSTER_NOT_SYNCED, owner] = row.reason or "its kinds are being listed"
    if store:
        found[ProblemCode.STATE_NOT_STORED, FLEET] = f"watermarks: {store}"
    return found


def _failing(informer: Informer, now: float) -> bool:
    """A watch that is opened again within some seconds is no problem."""
    contact = informer.last_contact
    return informer.failing and (not informer.synced or contact is None or now - contact > UNREACHABLE_AFTER)
