"""What the leader does at the clusters' APIs, beside supervision: a cluster that does not answer delays nothing else."""

from collections.abc import Awaitable, Callable, Mapping

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.base.problems import Subject
from raycp.kube import ConnectSpec
from raycp.leader.cluster_clients import ClusterClients
from raycp.leader.crds import Crds
from raycp.leader.fleet_record import FleetRecord
from raycp.leader.hub_lock import Elected, HubLock
from raycp.leader.mark_keys import MarkKeyKeeper
from raycp.leader.retries import Retries
from raycp.protocol.plan import Fleet, Plan


class Hub:
    """One per leader: puts together the lock, the stored fleet document, the keys for owner marks and the CRDs."""

    def __init__(
        self,
        clock: Clock,
        identity: str,
        loops: Loops,
        eligible: Callable[[], bool],
        elected: Elected,
        apply: Callable[[Fleet], Awaitable[None]],
    ) -> None:
        self.clients = clients = ClusterClients(clock)
        self.retries = retries = Retries(clock, loops)
        self.marks = MarkKeyKeeper(clock, clients, retries)
        self.record = FleetRecord(clock, clients, retries, apply)
        self.crds = Crds(clock, clients, retries)
        self.lock = HubLock(clock, identity, loops, clients, retries, eligible, self.record.adopt_newer, elected)

    @property
    def problems(self) -> dict[Subject, str]:
        """What a user should know, by subject."""
        return {**self.retries.problems, **self.lock.proof.problems}

    def recovered(self, plan: Plan) -> None:
        """A living fleet was found."""
        self.lock.recovered(plan)
        self.record.recovered()
        self.crds.recovered(plan)

    def step(self, plan: Plan, endpoints: Mapping[str, ConnectSpec]) -> None:
        """Start whatever is due; returns at once."""
        if self.lock.acquired:  # a candidate writes nothing
            self.crds.step(plan, endpoints)
        hub = endpoints.get(plan.fleet.doc.hub.name)
        if hub is None:
            return
        self.lock.step(plan, hub)
        if self.lock.leadership is not None:
            self.record.step(plan, hub, self.lock.leadership.incarnation)
            self.marks.step(plan, hub, self.lock.leadership.epoch)

    async def close(self) -> None:
        """Close all connections."""
        await self.clients.close()

    def where(self, plan: Plan) -> str:
        """Where the hub is, for people."""
        hub = plan.fleet.doc.hub
        if hub.embedded is not None:
            return f'the embedded cluster "{hub.name}"'
        named = [self.clients.authority(hub.name)]
        if hub.kubeconfig is not None:
            named.append(f"kubeconfig {hub.kubeconfig.path}" if hub.kubeconfig.path else "the default kubeconfig")
            named.append(f"context {hub.kubeconfig.context}" if hub.kubeconfig.context else "")
        else:
            named.append("the cluster that Ray runs in")
        return ", ".join(part for part in named if part)
