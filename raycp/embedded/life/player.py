"""Applies stages to objects: an object that matches a stage is changed by it after the stage's delay.

One heap of (due, object) for all kinds. A stage that is chosen for an object stays chosen, with its due time, for as
long as it matches: an unrelated change does not restart the delay.
"""

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.life.evaluator import Answers, Evaluator
from raycp.embedded.life.events import Events
from raycp.embedded.life.gotemplate import TemplateError
from raycp.embedded.life.merge import MERGE_KEYS, merge
from raycp.embedded.life.render import render
from raycp.embedded.life.seams import Api, Inbox, Object, Tables, iso
from raycp.embedded.life.stagefile import LifeStage, Patch, StageStep, choose
from raycp.embedded.patches import json_patch
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject

log = logging.getLogger(__name__)

AGAIN = 1.0
"""seconds until a stage is tried again that the API server could not serve"""

View = Callable[[Object], Object | None]
"""the data of stages for an object; None: apply no stage now"""


class _Key(NamedTuple):
    resource: str
    ns: str
    name: str


@dataclass
class _Plan:
    """The next stage of one object."""

    stage: LifeStage
    due: float
    uid: str
    number: int


class Player:
    """``start()`` subscribes; ``run()`` works until cancelled. ``views`` by kind add the simulation's data (``.raycp``)."""

    def __init__(
        self,
        api: Api,
        store: ObjectStore,
        registry: Registry,
        clock: Clock,
        stages: list[LifeStage],
        seed: int = 0,
        views: dict[str, View] | None = None,
        before_render: Callable[[Object], None] = lambda seen: None,
    ) -> None:
        self.api = api
        self.clock = clock
        self.events = Events(api, clock)
        self.problems: dict[str, str] = {}
        """the last error of each stage"""
        self._registry = registry
        self._rng = random.Random(seed)
        self._views = views or {}
        self._before_render = before_render
        self._tables = Tables(store, registry)
        self._plans: dict[_Key, _Plan] = {}
        self._heap: list[tuple[float, int, _Key]] = []
        self._numbers = itertools.count()
        self._wake = asyncio.Event()
        self._by_resource: dict[str, list[LifeStage]] = {}
        self._kind_of: dict[str, str] = {}
        self._resources: dict[str, ServedResource] = {}
        self._kinds: dict[str, list[LifeStage]] = {}
        self._inbox = Inbox(self._reconcile, clock)
        for stage in stages:
            self._kinds.setdefault(f"{stage.api_version}/{stage.kind}", []).append(stage)
        asked = {kind: [text for stage in of for text in stage.expressions] for kind, of in self._kinds.items()}
        self._evaluator = Evaluator(asked)

    def start(self) -> None:
        self._tables.subscribe("customresourcedefinitions.apiextensions.k8s.io", lambda change: self._subscribe())
        self._subscribe()

    def stop(self) -> None:
        self._tables.close()

    async def run(self) -> None:
        watching = asyncio.create_task(self._inbox.run())
        try:
            await self._play_when_due()
        finally:
            watching.cancel()
            self._evaluator.close()

    @property
    def busy(self) -> bool:
        """Whether objects wait for the choice of their next stage."""
        return self._inbox.busy

    def requeue(self, resource: str, ns: str, name: str) -> None:
        """Re-evaluate an object after its view changed without a change of the object."""
        self._inbox.put(_Key(resource, ns, name))

    def _subscribe(self) -> None:
        for kind in list(self._kinds):
            api_version, _, name = kind.rpartition("/")
            resource = self._registry.by_kind(api_version, name)
            if resource is not None:
                self._listen(resource, kind)

    def _listen(self, resource: ServedResource, kind: str) -> None:
        name = resource.info.name
        self._by_resource[name] = self._kinds.pop(kind)
        self._kind_of[name] = kind
        self._resources[name] = resource

        def changed(change: StoreChange) -> None:
            record = change.record
            key = _Key(name, record.ns, record.name)
            if change.type == "DELETED":
                self._plans.pop(key, None)
            else:
                self._inbox.put(key)

        self._tables.on(resource.table, changed)
        self._inbox.put_all(_Key(name, r.ns, r.name) for r in resource.table.records(""))

    def _view(self, obj: Object) -> Object | None:
        view = self._views.get(obj["kind"])
        return view(obj) if view is not None else obj

    def _record(self, key: _Key) -> tuple[ServedResource, StoredObject] | None:
        resource = self._resources[key.resource]
        record = resource.table.get(key.ns, key.name)
        return (resource, record) if record is not None else None

    async def _reconcile(self, key: _Key) -> float | None:
        """Choose the next stage of an object that has changed."""
        found = self._record(key)
        if found is None:
            self._plans.pop(key, None)
            return None
        obj = found[0].read(found[1])
        seen = self._view(obj)
        if seen is None:
            self._plans.pop(key, None)
            return None
        answers = await self._answers(key, found[1], obj, seen)
        if answers is None:
            return None
        old = self._plans.get(key)
        if old is not None and old.uid == found[1].uid and old.stage.matches(seen, answers):
            return None
        stage = choose(self._by_resource[key.resource], seen, answers, self._rng)
        if stage is None:
            self._plans.pop(key, None)
            return None
        delay = stage.delay(answers, self.clock.wall(), self._rng)
        if delay <= 0:
            self._plans.pop(key, None)
            await self._play(key, stage, found[0], obj, seen)
            return None
        number = next(self._numbers)
        self._plans[key] = _Plan(stage, self.clock.now() + delay, found[1].uid, number)
        if not self._heap or self._heap[0][0] > self._plans[key].due:
            self._wake.set()
        heapq.heappush(self._heap, (self._plans[key].due, number, key))
        return None

    async def _play_when_due(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            until = loop.time() + Inbox.SLICE
            while self._heap and self._heap[0][0] <= self.clock.now() + 1e-9:
                _, number, key = heapq.heappop(self._heap)
                plan = self._plans.get(key)
                if plan is None or plan.number != number:
                    continue  # superseded
                del self._plans[key]
                try:
                    await self._due(key, plan)
                except Exception as error:  # such as OSError: jq has no process to run in
                    log.error("simulation: a stage of %s failed", key, exc_info=error)
                    self._inbox.later(key, AGAIN)
                if loop.time() > until:
                    await asyncio.sleep(0)
                    until = loop.time() + Inbox.SLICE
            await _first(self._wake, self._heap[0][0] - self.clock.now() if self._heap else None, self.clock)

    async def _due(self, key: _Key, plan: _Plan) -> None:
        found = self._record(key)
        if found is None or found[1].uid != plan.uid:
            return
        obj = found[0].read(found[1])
        seen = self._view(obj)
        answers = await self._answers(key, found[1], obj, seen) if seen is not None else None
        if seen is None or answers is None or not plan.stage.matches(seen, answers):
            self._inbox.put(key)
            return
        await self._play(key, plan.stage, found[0], obj, seen)

    async def _answers(self, key: _Key, record: StoredObject, obj: Object, seen: Object) -> Answers | None:
        """What jq answers for the object; None if it has changed meanwhile, and is evaluated again."""
        answers = await self._evaluator.answers(self._kind_of[key.resource], seen)
        for stage in self._by_resource[key.resource]:
            for reason in filter(None, map(self._evaluator.reasons.get, stage.expressions)):
                self._fail(stage, obj, reason)
        found = self._record(key)
        if found is not None and found[1] is record:
            return answers
        self._inbox.put(key)
        return None

    async def _play(self, key: _Key, stage: LifeStage, resource: ServedResource, obj: Object, seen: Object) -> None:
        try:
            for step in stage.steps:
                obj = await self._step(key, step, resource, obj, seen)
        except StatusError as error:
            if error.code == 409:
                self._inbox.put(key)  # changed meanwhile: evaluate it again
            elif error.code != 404:
                self._fail(stage, obj, error.message)
                if error.code >= 500:
                    self._inbox.later(key, AGAIN)
        except (TemplateError, json_patch.JsonPatchFailed, json_patch.MalformedJsonPatch, ValueError, KeyError) as error:
            self._fail(stage, obj, str(error))
        else:
            if stage.immediate:
                self._inbox.put(key)

    def _fail(self, stage: LifeStage, obj: Object, message: str) -> None:
        """Report a stage that failed, once per stage and message, as an Event on the object."""
        if self.problems.get(stage.name) != message:
            self.problems[stage.name] = message
            self.events.record(obj, "Warning", "StageFailed", f"stage {stage.name}: {message}")

    async def _step(self, key: _Key, step: StageStep, resource: ServedResource, obj: Object, seen: Object) -> Object:
        if step.event is not None:
            event = step.event
            self.events.record(obj, event.get("type") or "Normal", event.get("reason") or "", event.get("message") or "")
        if step.finalizers is not None:
            obj = await self._finalizers(key, step, obj)
        if step.delete:
            await self.api.delete(key.resource, key.ns, key.name, uid=obj["metadata"]["uid"], grace=0)
            return obj
        if step.patch is not None:
            obj = await self._patch(key, step.patch, obj, seen)
        if step.apply is not None:
            await self._apply(step.apply, seen)
        return obj

    async def _finalizers(self, key: _Key, step: StageStep, obj: Object) -> Object:
        assert step.finalizers is not None
        old = list(obj["metadata"].get("finalizers") or ())
        new = [] if step.finalizers["empty"] else [f for f in old if f not in step.finalizers["remove"]]
        new += [f for f in step.finalizers["add"] if f not in new]
        if new == old:
            return obj
        obj["metadata"]["finalizers"] = new
        return await self.api.update(key.resource, obj)

    async def _patch(self, key: _Key, patch: Patch, obj: Object, seen: Object) -> Object:
        content = self._content(patch, seen)
        if patch.type == "json":
            if patch.root and isinstance(content, list):
                content = [{**each, "path": f"/{patch.root}{each.get('path', '')}"} for each in content if isinstance(each, dict)]
            changed = json_patch.apply(obj, content or [])
        else:
            strategic = patch.type == "strategic" or (not patch.type and obj["kind"] in ("Pod", "Node"))
            content = {patch.root: content} if patch.root else content
            changed = merge(obj, content, MERGE_KEYS if strategic else {})
        return await self.api.update(key.resource, changed, subresource=patch.subresource)

    async def _apply(self, patch: Patch, seen: Object) -> None:
        """Create the object of the template, or merge the template into the existing object."""
        wanted = self._content(patch, seen)
        resource = self._registry.by_kind(wanted["apiVersion"], wanted["kind"])
        if resource is None:
            raise ValueError(f"no such kind: {wanted['apiVersion']}/{wanted['kind']}")
        meta = wanted.setdefault("metadata", {})
        ns = meta.setdefault("namespace", seen["metadata"].get("namespace", "")) if resource.info.namespaced else ""
        live = self._tables.read(resource.info.name, ns, str(meta.get("name", "")))
        if live is None:
            await self.api.create(resource.info.name, wanted, ns)
        else:
            await self.api.update(resource.info.name, merge(live, wanted, MERGE_KEYS), subresource=patch.subresource)

    def _content(self, patch: Patch, seen: Object) -> Any:
        self._before_render(seen)
        meta = seen["metadata"]
        known = (seen.get("raycp") or {}).get("volatile") or []
        volatile = [*known, iso(self.clock.wall()), meta.get("uid") or "", meta.get("name") or ""]
        return render(patch.template, seen, [part for part in volatile if part])


async def _first(event: asyncio.Event, seconds: float | None, clock: Clock) -> None:
    """Wait until ``event`` is set, at most ``seconds`` of ``clock``."""
    waits: list[asyncio.Task[Any]] = [asyncio.create_task(_wait(event.wait))]
    if seconds is not None:
        waits.append(asyncio.create_task(clock.sleep(max(0.0, seconds))))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()


async def _wait(wait: Callable[[], Awaitable[Any]]) -> None:
    await wait()
