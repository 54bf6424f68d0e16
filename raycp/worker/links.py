"""``ShardLinks``: one link to each shard of the plan, and each shard's part of the worker's slots."""

from collections.abc import Callable

from raycp.protocol.plan import Plan, ShardPlan
from raycp.worker.shard_link import ShardLink
from raycp.worker.standby_connections import StandbyConnections

MakeLink = Callable[[str, ShardPlan], ShardLink]
"""(shard, its primary) -> a link."""


class ShardLinks:
    """Lives on the worker's actor loop; the only writer of ``links``. ``only``: the shard whose tasks it takes; empty for all.
    ``standbys``: connections that are ready for the next primaries."""

    def __init__(self, links: dict[str, ShardLink], make: MakeLink, standbys: StandbyConnections, only: str = "") -> None:
        self._links = links
        self._make = make
        self._standbys = standbys
        self._only = only

    async def update(self, plan: Plan) -> None:
        """Connect to the primaries of ``plan``; of a fleet on standby, to its own standbys, which hand nothing out before they
        are promoted. Standbys of the active fleet are connected to before they are needed."""
        targets = plan.successors if plan.following is not None else plan.shards
        wanted = {target.shard: target for target in targets if target.port}
        for shard, link in list(self._links.items()):
            target = wanted.get(shard)
            if target is None:
                await link.close()
                del self._links[shard]
            elif (target.host, target.port, target.member) != link.target:
                link.retarget(target, self._standbys.take(target.member))
        for shard, target in wanted.items():
            if shard not in self._links:
                self._links[shard] = self._make(shard, target)
        self._standbys.update(plan)

    def share(self, slots: int) -> None:
        """Give each shard its part of ``slots``, at least one, so that no shard waits for another's tasks. 0: nothing to any."""
        each = -(-slots // len(self._links)) if self._links else 0
        for link in self._links.values():
            link.set_credit(each if not self._only else slots if link.shard == self._only else 0)

    def disconnected(self) -> list[str]:
        """Shards without a connection, and why they or this worker refused one."""
        missing = [link for link in self._links.values() if not link.connected]
        return [f"{link.shard}: {link.refusal}" if link.refusal else link.shard for link in missing]
