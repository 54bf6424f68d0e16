"""``switch``: users' changes go on while leadership, a primary, another process or a whole node is replaced.

One fleet per cause, many repetitions (``--cause``, see ``causes``). The *gap* of a repetition is the longest wait of a change
sent around it, above the median of the changes before. The phases are the fleet's own record of the switch.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from raycp.bench.causes import CAUSES, Cause, Site, whole
from raycp.bench.driver import LoadError
from raycp.bench.fleets import RayAtHand, fleet_doc, fleet_under_test, ray_at_hand
from raycp.bench.gaps import gap_figures, gaps_of, stale_writes, undisturbed
from raycp.bench.nodes import PLACE, NodeHouse, node_house
from raycp.bench.phases import phase_figures, phases_between
from raycp.bench.scenario import EXISTING, USERS_PER_SECOND, Row, RunOutcome, Stage, outcome_of, scenario
from raycp.bench.seed_switch import CAUSES as SEED_CAUSES
from raycp.bench.seed_switch import seed_switch
from raycp.config.fleet import FleetDoc
from raycp.driver.fleet_client import FleetClient
from raycp.protocol.control import Switches

BEFORE = 0.5
"""Seconds of undisturbed changes before each switch."""

DEFAULT = "graceful"


def cause_of(options: Mapping[str, Any]) -> Cause:
    """The requested cause. Raises ``LoadError`` if it does not exist."""
    name = str(options.get("cause") or DEFAULT)
    if name not in CAUSES:
        raise LoadError(f"{name!r} is no cause: there are {', '.join(CAUSES)}")
    return CAUSES[name]


@contextlib.asynccontextmanager
async def ray_for(address: str, options: Mapping[str, Any]) -> AsyncIterator[RayAtHand]:
    """A Ray of a head and two nodes if the cause loses a node; else the one at ``--address``."""
    if cause_of(options).leader:
        if address != "local":
            raise LoadError("this cause loses a Ray node: it starts nodes of its own, and cannot run with --address")
        async with node_house() as house:
            yield house
    else:
        async with ray_at_hand(address) as found:
            yield found


@scenario(
    name="switch",
    about="users create 20 a second while a process or node fails, or shards are handed over: the longest extra wait",
    runs=1,
    offers=("seed",),
    plays={"seed": seed_switch},
    variants=("cause", tuple(CAUSES)),
    only={"seed": SEED_CAUSES},
    ray=ray_for,
)
async def switch(stage: Stage) -> RunOutcome:
    """See the docstring of the module."""
    cause = cause_of(stage.options)
    cluster = stage.members[0]
    repetitions = stage.count(int(stage.options.get("repetitions") or cause.repetitions))
    existing = stage.count(int(stage.options.get("existing") or EXISTING))
    rate = float(stage.options.get("rate") or USERS_PER_SECOND)
    tag = f"{stage.run}r"
    await stage.load.post(cluster, f"e{tag}", existing)
    windows: list[list[Row]] = []
    answer: dict[str, Any] = {"duplicates": 0}
    missing = 0
    recovered: list[float] = []
    times: list[tuple[float, float]] = []
    async with _fleet(stage, cause) as site:
        await stage.load.wait(f"e{tag}", existing, 240)
        recorded = (await stage.load.order("writes", cluster=cluster))["count"] if stage.ground.clusters else 0
        for number in range(repetitions):
            await whole(site, cause.settle)
            await cause.prepare(site)
            prefix, count = f"s{tag}{number}", round((BEFORE + cause.after) * rate)
            posting = asyncio.create_task(stage.load.post(cluster, prefix, count, rate=rate))
            await asyncio.sleep(BEFORE)
            begun = time.time()
            recovered.append(await cause.act(site))
            await posting
            answer = await stage.load.wait(prefix, count, 30)
            times.append((begun, time.time()))
            await cause.mend(site)
            windows.append(answer["rows"])
            missing += answer["missing"]
        await whole(site, cause.settle)
        answer = await stage.load.wait(f"e{tag}", existing, 5)
        written = await stage.load.order("writes", cluster=cluster, after=recorded) if stage.ground.clusters else None
        history = await site.fleet.client.ask(Switches())
    await stage.load.clean(cluster)
    if cause.name == "leader-kill":  # nothing waits for a leader, but the time without one is reported
        phases = [{"leaderless": seconds} for seconds in recovered]
    else:
        phases = [found for begun, ended in times if (found := phases_between(history, begun, ended, cause.killed))]
    gaps = gaps_of(windows, undisturbed(windows, round(BEFORE * rate)))
    own: dict[str, Any] = {
        "cause": cause.name,
        "existing": existing,
        **gap_figures(gaps),
        **({"recovery_max_s": round(max(recovered), 3)} if any(recovered) else {}),
        "stale_writes": stale_writes(written["stamps"]) if written and not written["lost"] else None,
        **phase_figures(phases),
    }
    outcome = outcome_of(
        {"rows": [row for window in windows for row in window], "missing": missing, "duplicates": answer["duplicates"]}, **own
    )
    outcome.curves["gap_ms"] = [(float(number), gap * 1000) for number, gap in enumerate(sorted(gaps))]
    outcome.phases = phases
    return outcome


@contextlib.asynccontextmanager
async def _fleet(stage: Stage, cause: Cause) -> AsyncIterator[Site]:
    """A fleet with two workers and one standby, in which any one process or node may die."""
    overrides: dict[str, Any] = {"shards": {"standby": 1}}
    if not cause.leader:
        async with fleet_under_test(fleet_doc(stage.ground, workers=2, overrides=overrides), stage.policy) as fleet:
            yield Site(fleet)
        return
    assert isinstance(stage.ray, NodeHouse)
    overrides["shards"]["nodeLabels"] = {PLACE: "node"}
    overrides["workers"] = {"slots": 16, "cpus": 0.1, "nodeLabels": {PLACE: "node"}}
    doc = fleet_doc(stage.ground, workers=2, overrides=overrides)
    await _place_leader(doc, cause)
    async with fleet_under_test(doc, stage.policy) as fleet:
        yield Site(fleet, stage.ray)


async def _place_leader(doc: FleetDoc, cause: Cause) -> None:
    """Create the leader first, on the node that the cause needs; the fleet then finds it running."""
    await FleetClient(doc.ray_namespace).ensure_leader(dict(doc.spec.ray.env), {PLACE: cause.leader})
