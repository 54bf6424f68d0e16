"""Periodic resync: every object is reconciled again, spread over time, so that no round is a storm."""

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.objects import Obj
from raycp.base.problems import ProblemOwner
from raycp.classify import resync_period, spread_width
from raycp.shard.caches import Caches
from raycp.shard.events import EventHandler
from raycp.shard.routes import Route, Routes

STEP = 0.02
"""Seconds between the steps of a round."""


class Resyncs:
    """One shard's rounds: one task per controller and cluster, ended with ``loops``."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        loops: Loops,
        routes: Routes,
        caches: Caches,
        events: EventHandler,
        dispatch: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._loops = loops
        self._routes = routes
        self._caches = caches
        self._events = events
        self._dispatch = dispatch
        self._rounds: dict[tuple[str, str], asyncio.Task[None]] = {}

    def plan(self) -> None:
        """Start the rounds that the plan asks for, and stop the others."""
        wanted = {
            (c.name, cluster): c.resync
            for c in self._routes.controllers.values()
            for cluster in c.clusters
            if cluster in self._caches and c.resync
        }
        for where in [where for where in self._rounds if where not in wanted]:
            self._rounds.pop(where).cancel()
        for where in wanted:
            if where not in self._rounds:
                owner = ProblemOwner(controller=where[0], cluster=where[1])
                self._rounds[where] = self._loops.supervise(partial(self._repeat, *where), LoopName.RESYNC, owner)

    async def _repeat(self, name: str, cluster: str) -> None:
        """Reconcile every object again, spread over time, about every ``resync`` seconds."""
        clock, spent = self._clock, 0.0
        while True:
            period = resync_period(self._rng, self._routes.controllers[name].resync)
            await clock.sleep(max(0.0, period - spent))
            started = clock.now()
            kind = self._routes.kind_of[name]
            informer, route = self._caches.informer(cluster, kind), self._routes.kinds.get(cluster, {}).get(kind)
            if informer is None or route is None:
                continue
            for primary in route.primaries:
                if primary.controller.name == name:
                    await self._walk(cluster, primary, list(informer.store))
            spent = clock.now() - started

    async def _walk(self, cluster: str, primary: Route, objs: list[Obj]) -> None:
        """One round: spread all objects evenly over its width, at random within each step. A step blocks the loop only briefly,
        and at most one step's keys wait at a time."""
        controller = primary.controller
        width = spread_width(controller.resync, controller.spread)
        steps = max(1, min(len(objs), round(width / STEP)))
        pause = width / steps
        selects = primary.selector.matches if primary.selector is not None else None
        started = self._clock.now()
        for step in range(steps):
            for obj in objs[len(objs) * step // steps : len(objs) * (step + 1) // steps]:
                if selects is None or selects(obj.meta.labels):
                    key = RequestKey(controller.name, cluster, obj.meta.namespace, obj.meta.name)
                    self._events.resync(key, obj, self._rng.uniform(0.0, pause))
            self._dispatch()
            await self._clock.sleep(max(0.0, started + (step + 1) * pause - self._clock.now()))
