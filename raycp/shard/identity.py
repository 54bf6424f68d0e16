"""A shard member's epoch and term, which it stamps on hand-outs and sends to its peers."""

from raycp.protocol.plan import Plan


class ShardIdentity:
    """Plain attributes, replaced with each plan. ``term`` is 0 before the plan names this member a primary (law 6b)."""

    def __init__(self, shard: str, member: str) -> None:
        self.shard = shard
        self.member = member
        self.epoch = 0
        self.term = 0
        self.only = False
        """Whether the fleet has no other shard."""

    def update(self, plan: Plan) -> None:
        """Take epoch and term from ``plan``."""
        mine = next((shard for shard in plan.shards if shard.member == self.member), None)
        self.epoch = plan.epoch
        self.term = mine.term if mine is not None else 0
        self.only = len(plan.shards) == 1

    @property
    def primary(self) -> bool:
        """Whether the plan names this member the shard's primary, in a recorded epoch."""
        return bool(self.epoch and self.term)
