"""A change of tier rules applies to what is queued already."""

import msgspec
from inprocess import fleet_doc, fleet_of, stack, until

from raycp.base.keys import RequestKey

RULES = {"rules": [{"when": {"label": {"app": "gated"}}, "tier": "critical"}]}


async def test_queued_keys_move_to_the_lanes_of_the_new_rules() -> None:
    async with stack(["gated"]) as fleet:
        for number in range(40):
            await fleet.put("here", "gated", f"g{number}")
        shard = fleet.shard()
        await until(lambda: sum(d.ready for d in shard.queue.depths()) == 8)
        doc = fleet_doc(["here"], ["fleet_samples:gated"], tiers=RULES)
        fleet.doc = doc
        fleet.fleet = msgspec.structs.replace(fleet_of(doc), sequence=2)
        await fleet.configure()
        depths = {d.tier: d.ready for d in shard.queue.depths() if d.ready}
        assert depths == {"critical": 8}
        waiting = next(each.key for each in shard.queue.snapshot() if not each.worker and not each.delay)
        assert isinstance(waiting, RequestKey)
        why = shard.queue.why(waiting)
        assert why is not None
        assert why.tier == "critical"
