"""What is wrong with a shard's clusters, as its report says it: pure."""

from raycp.base.problems import FLEET, ProblemCode, ProblemOwner, Subject
from raycp.protocol.report import Report
from raycp.shard.caches import Caches
from raycp.shard.ledger import Ledger
from raycp.shard.watched_cluster import UNREACHABLE_AFTER, Informer, WatchedCluster


def shard_problems(report: Report, caches: Caches, store: str, now: float, ledger: Ledger) -> dict[Subject, str]:
    """One problem for each cluster that can't be used, for each kind that fails in a cluster that can, and for each controller that
    fails for each of its objects. ``report`` has its clusters; ``store``: why the watermarks are not stored."""
    hopeless = ledger.notes.failures.of_all(ledger.reconciled)
    found: dict[Subject, str] = {
        (ProblemCode.ALL_OBJECTS_FAIL, ProblemOwner(controller=name)): how for name, how in hopeless.items()
    }
    for row in report.clusters:
        owner = ProblemOwner(cluster=row.name)
        if not row.reachable:
            found[ProblemCode.CLUSTER_UNREACHABLE, owner] = row.reason or "it does not answer"
            continue
        watched = caches.cluster(row.name)
        failing = {kind: i for kind, i in watched.informers.items() if _failing(i, now)} if watched is not None else {}
        for kind, informer in failing.items():
            whose = f" (controller {', '.join(informer.controllers)})" if informer.refused else ""
            found[ProblemCode.KIND_FAILED, ProblemOwner(cluster=row.name, kind=str(kind))] = f"{_why(informer)}{whose}"
        if watched is not None:
            found |= _lesser(row.name, watched)
        if not row.synced and not failing:
            found[ProblemCode.CLUSTER_NOT_SYNCED, owner] = row.reason or "its kinds are being listed"
    if store:
        found[ProblemCode.STATE_NOT_STORED, FLEET] = f"watermarks: {store}"
    return found


def _lesser(name: str, watched: WatchedCluster) -> dict[Subject, str]:
    """Of a cluster that answers: objects that are left out, and credentials that will expire."""
    found: dict[Subject, str] = {}
    for kind, informer in watched.informers.items():
        if informer.reflector is not None and (left_out := informer.reflector.status().left_out):
            found[ProblemCode.OBJECTS_UNREADABLE, ProblemOwner(cluster=name, kind=str(kind))] = left_out
    if watched.client is not None and (problem := watched.client.credentials_problem):
        found[ProblemCode.CREDENTIALS, ProblemOwner(cluster=name)] = f"its credentials cannot be renewed: {problem}"
    return found


def _why(informer: Informer) -> str:
    """Why a kind fails: the server's last error, where the next attempt would only say that it is one."""
    if informer.reflector is None:
        return "it can't be watched"
    status = informer.reflector.status()
    return status.last_error or status.reason or "it can't be watched"


def _failing(informer: Informer, now: float) -> bool:
    """A watch that is opened again within some seconds is no problem."""
    contact = informer.last_contact
    return informer.failing and (not informer.synced or contact is None or now - contact > UNREACHABLE_AFTER)
