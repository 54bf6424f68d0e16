"""Periodic resync: a second look at every object, spread over time, so that no round is ever a storm."""

import asyncio

from raycp.base.keys import RequestKey
from raycp.base.loops import Loops
from raycp.base.objects import Obj
from raycp.classify import resync_period, spread_width
from raycp.shard.events import EventHandler
from raycp.shard.routes import Route
from raycp.shard.state import ShardState

STEP = 0.02
"""Seconds between the steps of a round."""


class Resyncs:
    """One shard's rounds: one task per controller and cluster, ended with ``loops``."""

    def __init__(self, state: ShardState, loops: Loops, intake: EventHandler) -> None:
        self._state = state
        self._loops = loops
        self._intake = intake
        self._rounds: dict[tuple[str, str], asyncio.Task[None]] = {}

    def plan(self) -> None:
        """Begin the rounds that the plan asks for, and end those that it asks for no more."""
        wanted = {
            (c.name, cluster): c.resync
            for c in self._state.controllers.values()
            for cluster in c.clusters
            if cluster in self._state.clusters and c.resync
        }
        for where in [where for where in self._rounds if where not in wanted]:
            self._rounds.pop(where).cancel()
        for where in wanted:
            if where not in self._rounds:
                self._rounds[where] = self._loops.spawn(self._repeat(*where), f"resync of {where[0]} in {where[1]}")

    async def _repeat(self, name: str, cluster: str) -> None:
        """A second look at every object, spread over time, about every ``resync`` seconds."""
        clock, spent = self._state.clock, 0.0
        while True:
            period = resync_period(self._state.rng, self._state.controllers[name].resync)
            await clock.sleep(max(0.0, period - spent))
            begun = clock.now()
            watched = self._state.clusters.get(cluster)
            route = self._state.routes.get(cluster, {}).get(self._state.kinds[name])
            if watched is None or route is None:
                continue
            informer = watched.informers[self._state.kinds[name]]
            for primary in route.primaries:
                if primary.controller.name == name:
                    await self._walk(cluster, primary, list(informer.store))
            spent = clock.now() - begun

    async def _walk(self, cluster: str, primary: Route, objs: list[Obj]) -> None:
        """One round: all objects, evenly over the time that they are to be spread over, at random within each step of it. No
        step is more than a blink, and no more than the next step's work is waiting at a time."""
        controller = primary.controller
        width = spread_width(controller.resync, controller.spread)
        steps = max(1, min(len(objs), round(width / STEP)))
        pause = width / steps
        selects = primary.selector.matches if primary.selector is not None else None
        begun = self._state.clock.now()
        for step in range(steps):
            for obj in objs[len(objs) * step // steps : len(objs) * (step + 1) // steps]:
                if selects is None or selects(obj.meta.labels):
                    key = RequestKey(controller.name, cluster, obj.meta.namespace, obj.meta.name)
                    self._intake.resync(key, obj, self._state.rng.uniform(0.0, pause))
            self._state.dispatch_soon()
            await self._state.clock.sleep(max(0.0, begun + (step + 1) * pause - self._state.clock.now()))
