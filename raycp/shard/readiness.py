"""Whether a shard's primary or standby is ready, and why not."""

from collections.abc import Iterable

from raycp.member.permits import PermitKeeper
from raycp.protocol.report import ClusterReport, Report
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.routes import Routes
from raycp.shard.standby import StandbyReplica


class ShardReadiness:
    """Fills readiness, reasons and state into a report whose ``clusters`` are filled."""

    def __init__(self, routes: Routes, caches: Caches) -> None:
        self._routes = routes
        self._caches = caches

    def fill_primary(self, report: Report, identity: ShardIdentity, permits: PermitKeeper, late: bool) -> None:
        """For a primary. ``late``: the deadline for clusters to sync has passed; a cluster that is down then no longer keeps the
        shard from being ready, unless it is the hub: without the hub there is neither work nor a fleet."""
        waiting = _unsynced(report.clusters)
        if not identity.epoch:
            waiting.insert(0, f'the leader is not recorded in cluster "{self._routes.hub}" yet')
        elif not identity.term:
            waiting.insert(0, "not in the plan yet")
        elif not permits.held:
            waiting.insert(0, f"no permit: {permits.permit.refused or 'the leader does not answer'}")
        hub = self._caches.cluster(self._routes.hub)
        excused = late and (hub is None or hub.usable)
        report.ready = identity.primary and permits.held and (not waiting or excused)
        report.reasons = [] if report.ready else waiting
        report.state = "running" if report.ready else "syncing"

    def fill_standby(self, report: Report, replica: StandbyReplica, late: bool, needed: str) -> None:
        """For a standby. ``late`` as above; ``needed``: a cluster that is never excused, the hub of a standby fleet."""
        waiting = _unsynced(report.clusters)
        if late:
            usable = {watched.name for watched in self._caches if watched.usable}
            needs = {needed} - usable
            waiting = _unsynced(row for row in report.clusters if row.name in needs or replica.follows(row.name))
        if not replica.complete:
            waiting.insert(0, "the primary's full account has not arrived yet")
        report.ready = not waiting
        report.reasons = waiting
        report.state = "standby" if report.ready else "syncing"
        report.lag = replica.lag
        report.dead = replica.dead


def _unsynced(rows: Iterable[ClusterReport]) -> list[str]:
    return [f"cluster {row.name}: {row.reason or 'not synced'}" for row in rows if not row.synced]
