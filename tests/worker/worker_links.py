"""A ``ShardLink`` without a worker core."""

from channels import credentials
from inprocess import CLOCK, HOST

from raycp.base.loops import Loops
from raycp.protocol.frames import Hello
from raycp.protocol.plan import ShardPlan
from raycp.worker.shard_link import LinkRuns, ShardLink


def link_to(target: ShardPlan, runs: LinkRuns, loops: Loops) -> ShardLink:
    """A link to ``target``, whose shard's token is "secret"."""
    return ShardLink(
        target.shard,
        target,
        credentials=credentials("w"),
        runs=runs,
        hello=lambda in_flight: Hello("w", "worker", HOST, 1, "standard", in_flight),
        clock=CLOCK,
        loops=loops,
        changed=lambda: None,
        states_changed=lambda: None,
    )
