"""A worker: pulls tasks from every shard, runs reconcilers, acknowledges.

The way of a task: a shard spends the worker's credit and sends it; it runs on the user loop (``raycp.worker.backend`` below it);
writes to objects of other shards are told to those first (law 8); the acknowledgement goes back to the shard with new credit.
A worker whose user code can't be stopped names the culprit and ends itself: its keys return on its certain death, never before.
"""

import asyncio
import dataclasses
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from raycp.base.clock import Clock
from raycp.base.tasks import Done, Outcome, Task
from raycp.member.clients import Clients
from raycp.member.core import MemberCore
from raycp.member.permits import PermitKeeper
from raycp.member.stats import StatsReporter
from raycp.metrics import Metrics, ReconcileMetrics
from raycp.protocol.control import ControlError, ErrorCode, Question, Rest, Resume
from raycp.protocol.members import Member
from raycp.protocol.plan import ControllerPlan, Plan
from raycp.protocol.report import Report
from raycp.protocol.substrate import LeaderAsk
from raycp.sdk.controller import Controller
from raycp.sdk.loader import LoadError, load_controllers
from raycp.sdk.run import run_reconcile
from raycp.sdk.session import Running
from raycp.worker.backend import WorkerBackend
from raycp.worker.shard_link import ShardLink
from raycp.worker.user_loop import UserLoop

log = logging.getLogger(__name__)

SILENT = 5.0
"""A user loop that does not turn for this long is blocked (design, section 3)."""

LAST_WORDS = 1.0
STUCK_AFTER = 2.0
"""How long after its timeout a reconcile may take to come back before it counts as unstoppable."""


class _Run:
    __slots__ = ("link", "plan", "running", "started", "task")

    def __init__(self, task: Task, link: ShardLink, plan: ControllerPlan, started: float) -> None:
        self.task = task
        self.link = link
        self.plan = plan
        self.started = started
        self.running = Running()


class WorkerCore(MemberCore):
    """One worker process. Its state lives on the actor's loop; reconciles run on ``user``."""

    def __init__(self, member: Member, clock: Clock, host: str, node: str, ask: LeaderAsk | None = None) -> None:
        super().__init__(member, clock, host, node)
        self.metrics = Metrics()
        self.permits = PermitKeeper(member, clock, self.loops, self.metrics, ask, self._permitted, self._superseded)
        self._counts = ReconcileMetrics(self.metrics)
        self._tier = member.tier
        self._links: dict[str, ShardLink] = {}
        self._runs: dict[tuple[str, int], _Run] = {}
        self._controllers: dict[str, Controller] = {}
        self._plans: dict[str, ControllerPlan] = {}
        self._configs: dict[str, dict[str, Any]] = {}
        self._problem = "waiting for the fleet's plan"
        self._slots = 0
        self._port = 0
        self._server: asyncio.Server | None = None
        self._draining = False
        self._ending = False
        self._user: UserLoop | None = None
        self.user_loop_ended: Callable[[int | None], None] = lambda _: None
        """Called by ``abort`` with the thread's id, before anybody can notice that this worker is dead."""
        self._clients = Clients(clock)
        self._backend: WorkerBackend | None = None
        self._teller = StatsReporter(member, clock, self.loops, self.metrics, self.report)
        self.loops.forever(self._check, "watchdog", every=0.25)

    # the plan

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        spec = plan.fleet.doc.spec.workers
        if self._server is None:
            # Nobody talks to this port: that it refuses proves that this process is dead (law 6f).
            self._server = await asyncio.start_server(lambda _, writer: writer.close(), self.host, 0)
            self._port = int(self._server.sockets[0].getsockname()[1])
        if self._user is None:
            self._user = UserLoop(self.clock, spec.threads or spec.slots)
            self._backend = WorkerBackend(self, self._clients, self.clock, self._user, asyncio.get_running_loop(), self.metrics)
        assert self._backend is not None
        self._slots = spec.slots
        # Before any link says hello to a new primary: what its predecessor handed out writes no more from here on (law 6g).
        self.permits.learn(plan)
        await self._load(plan)
        self._clients.update(plan)
        self._backend.update(plan)
        self._teller.update(plan)
        # While the fleet stands by, its own standbys: they will be primaries, and hand nothing out before.
        targets = plan.successors if plan.following is not None else plan.shards
        wanted = {shard.shard: shard for shard in targets if shard.port}
        for shard, link in list(self._links.items()):
            target = wanted.get(shard)
            if target is None:
                await link.close()
                del self._links[shard]
            elif (target.host, target.port, target.member) != link.target:
                link.retarget(target, plan.token)
        for shard, target in wanted.items():
            if shard not in self._links:
                self._links[shard] = ShardLink(self, shard, target, plan.token)
        self._share_credit()

    async def _load(self, plan: Plan) -> None:
        """Import the controllers' modules, off the loop: they are user code."""
        problems = []
        for known in plan.fleet.controllers:
            before = self._controllers.get(known.name)
            if before is not None:
                self._controllers[known.name] = dataclasses.replace(before, timeout=known.timeout)
                continue
            try:
                found = await asyncio.to_thread(load_controllers, [known.use])
            except LoadError as error:
                problems.append(str(error))
                log.error("%s", error)
                continue
            for controller in found:
                if controller.name == known.original:
                    # The plan has decided between the fleet file's time limit and the controller's own.
                    self._controllers[known.name] = dataclasses.replace(controller, name=known.name, timeout=known.timeout)
        self._plans = {known.name: known for known in plan.fleet.controllers}
        self._configs = {known.name: json.loads(known.config) for known in plan.fleet.controllers}
        self._problem = "; ".join(problems)

    def _share_credit(self) -> None:
        """Give each shard its part of the slots, at least one, so that no shard waits for another's tasks."""
        if not self._links or self._draining or self._ending:
            return
        each = max(1, -(-self._slots // len(self._links))) if self.permits.look() else 0
        for link in self._links.values():
            link.set_credit(each)

    def _permitted(self) -> None:
        """A permit was granted, or has ended: without one no task is taken."""
        self._share_credit()
        self.changed()

    def _superseded(self, shard: str, term: int) -> None:
        """A new primary of ``shard``: what those before it handed out may go on, but not write."""
        for (home, _), run in self._runs.items():
            if home == shard and run.task.term < term and self._user is not None:
                self._user.call(run.running.revoke, f"shard {shard} has a new primary, of term {term}")

    # tasks, from links

    def hello_facts(self, shard: str) -> tuple[str, int, str, list[tuple[int, Task]]]:
        """What a link says of this worker: host, port, preferred tier, tasks of that shard in work."""
        running = [(r.task.id, r.task) for (s, _), r in self._runs.items() if s == shard]
        return self.host, self._port, self._prefers(), running

    def _prefers(self) -> str:
        """The tier that this worker is reserved for. The default tier's pool is the fleet's common one: it prefers nobody."""
        common = self.plan.fleet.doc.spec.tiers.default if self.plan is not None else self._tier
        return "" if self._tier == common else self._tier

    def tasks(self, link: ShardLink, tasks: Sequence[Task]) -> None:
        """Hand-outs: start them all."""
        assert self._user is not None
        now = self.clock.now()
        batch = []
        for task in tasks:
            if self._draining or self._ending:
                # Sent for credit that was given before: no credit follows, so it goes to another worker.
                link.finished(Done(task.id, task.key, Outcome.INTERRUPTED, 0.0, error="the worker takes no more"))
                continue
            if task.epoch < self.permits.epoch or task.term < self.permits.term_of(task.shard):
                link.finished(Done(task.id, task.key, Outcome.INTERRUPTED, 0.0, error="handed out by a primary that was succeeded"))
                continue
            plan = self._plans.get(task.key.controller)
            controller = self._controllers.get(task.key.controller)
            if plan is None or controller is None:
                error = f"this worker does not know the controller {task.key.controller!r}: {self._problem or 'not in the plan'}"
                link.finished(Done(task.id, task.key, Outcome.RETRY, 0.0, error=error))
                continue
            run = _Run(task, link, plan, now)
            self._runs[link.shard, task.id] = run
            self._counts.active.labels(task.key.controller, task.tier).inc()
            batch.append((run, controller))
        if batch:
            self._user.call(self._begin, batch)

    def _begin(self, batch: list[tuple[_Run, Controller]]) -> None:
        """On the user loop: start a batch of reconciles."""
        assert self._user is not None
        for run, controller in batch:
            if run.task.tokens and (purse := self._clients.purses.get(run.task.key.cluster)) is not None:
                purse.add(run.task.tokens)
            self._user.loop.create_task(self._reconcile(run, controller), name=f"{run.link.shard}\0{run.task.id}")

    async def _reconcile(self, run: _Run, controller: Controller) -> None:
        """On the user loop: one reconcile, start to acknowledgement."""
        assert self._user is not None
        assert self._backend is not None
        task = run.task
        try:
            await self._backend.complete_children(task, controller, run.link.shard)
            done = await run_reconcile(
                controller,
                task,
                self._backend,
                self.clock,
                timeout=run.plan.timeout,
                running=run.running,
                executor=self._user.executor,
                config=self._configs.get(task.key.controller),
            )
            if done.writes:
                await self._backend.fold_elsewhere(done, run.link.shard)
        except Exception as error:
            log.exception("a task of %s could not be run", task.key)
            done = Done(task.id, task.key, Outcome.RETRY, 0.0, error=f"internal: {error!r}")
        if (purse := self._clients.purses.get(task.key.cluster)) is not None:
            done.used, done.unused = purse.settle(task.tokens)
        self._backend.finish(run.link, done, self._finished)

    def _finished(self, link: ShardLink, done: Done) -> None:
        """Back on the actor's loop."""
        run = self._runs.pop((link.shard, done.id), None)
        key = done.key
        if run is not None:
            self._counts.active.labels(key.controller, run.task.tier).inc(-1.0)
        result = _result(done)
        self._counts.total.labels(key.controller, key.cluster, result).inc()
        self._counts.seconds.labels(key.controller, key.cluster).observe(done.seconds)
        if done.error:
            self._counts.errors.labels(key.controller, key.cluster, done.error.split(":", 1)[0][:64]).inc()
        (self._links.get(link.shard) or link).finished(done)

    def revoke(self, link: ShardLink, ids: Sequence[int]) -> None:
        """The shard wants these back; their next write is refused."""
        assert self._user is not None
        for identity in ids:
            run = self._runs.get((link.shard, identity))
            if run is not None:
                self._user.call(run.running.revoke, "revoked by its shard")

    # the watchdog

    async def _check(self) -> None:
        if self._user is None or self._ending or not self._runs:
            return
        now = self.clock.now()
        stuck = [run for run in self._runs.values() if now - run.started > run.plan.timeout + STUCK_AFTER]
        silent = self._user.silent_for()
        if silent > SILENT:
            current = self._user.current()
            name = current.get_name() if current is not None else ""
            blocking = [
                run
                for (shard, identity), run in self._runs.items()
                if run.running.runs_as(current) or f"{shard}\0{identity}" == name
            ]
            stack = _stack_of(self._user)
            error = f"the reconciler blocked its event loop for {silent:.1f} s: use a plain def, or await"
            log.error("%s %s\n%s", error, [str(run.task.key) for run in blocking], stack)
            await self._end(blocking or list(self._runs.values()), error)
        elif stuck:
            error = "the reconciler went on after its timeout and could not be stopped"
            await self._end(stuck, error)

    async def _end(self, culprits: list[_Run], error: str) -> None:
        """Take no more, say who it was, and end this process."""
        self._ending = True
        for link in self._links.values():
            link.set_credit(0)
        for run in culprits:
            log.error("ending this worker: %s: %s", run.task.key, error)
            run.link.culprit([run.task.id], error)
        await self.clock.sleep(LAST_WORDS)
        os._exit(70)

    # life

    async def extra(self, question: Question[Any]) -> Any:
        match question:
            case Rest():
                if self._runs:
                    raise ControlError(ErrorCode.BUSY, f"{len(self._runs)} reconciles run")
                return self.permits.suspend()
            case Resume():
                return self.permits.resume()
        return await super().extra(question)

    def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            link.cut()
        self._teller.cut()

    async def abort(self) -> None:
        if self._user is not None:  # first: from here on its reconciles do nothing more
            await asyncio.to_thread(self._user.abort)
            self.user_loop_ended(self._user.thread_id)
        await super().abort()

    async def drain(self, timeout: float) -> None:
        """Take no more and wait for what runs, up to ``timeout``."""
        self._draining = True
        for link in self._links.values():
            link.set_credit(0)
        deadline = self.clock.now() + timeout
        while self._runs and self.clock.now() < deadline:
            await self.clock.sleep(0.01)
        if self._user is not None:
            for run in list(self._runs.values()):
                self._user.call(run.running.revoke, "the worker is drained")
        grace = self.clock.now() + 1.0
        while self._runs and self.clock.now() < grace:
            await self.clock.sleep(0.01)
        await self._teller.last()

    def fill(self, report: Report) -> None:
        report.port = self._port
        report.slots = self._slots
        report.busy = len(self._runs)
        waiting = [f"not connected to shard {link.shard}" for link in self._links.values() if not link.connected]
        reasons = [self._problem] if self._problem else waiting
        standing = self.plan is not None and self.plan.following is not None
        if not self.permits.held and not standing:
            reasons.append(f"no permit to write: {self.permits.permit.refused or 'the leader does not answer'}")
        if not self._links and not reasons:
            reasons = ["no shard is up yet"]
        report.ready = not reasons
        report.reasons = reasons
        report.state = "draining" if self._draining else "starting" if reasons else "standby" if standing else "running"


def _result(done: Done) -> str:
    if done.outcome is Outcome.OK:
        return "requeue_after" if done.requeue_after is not None else "waiting" if done.waiting else "success"
    return {Outcome.RETRY: "error", Outcome.PERMANENT: "permanent", Outcome.INTERRUPTED: "interrupted"}[done.outcome]


def _stack_of(user: UserLoop) -> str:
    """What the user loop's thread is doing, for the log."""
    frame = sys._current_frames().get(user.thread_id or 0)
    return "".join(traceback.format_stack(frame))[-1500:] if frame is not None else ""
