"""``Runs``: the reconciles that run in this worker, from the hand-out of a task to its acknowledgement.

The table lives on the actor's loop, the reconciles run on the user loop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.selections import selection_of
from raycp.base.tasks import Done, Outcome, Task
from raycp.member.clients import Clients
from raycp.metrics import Metrics, ReconcileMetrics
from raycp.metrics.recorder import FlightRecorder
from raycp.sdk.backend import Backend
from raycp.sdk.map_functions import mapping_of
from raycp.sdk.outcome import INTERNAL
from raycp.sdk.run import run_reconcile
from raycp.sdk.session import Session
from raycp.worker.controllers import LoadedController, LoadedControllers
from raycp.worker.fence import WritePermits
from raycp.worker.shard_reads import ShardReads
from raycp.worker.user_loop import UserLoop
from raycp.worker.write_folds import WriteFolds

log = logging.getLogger(__name__)


PLAN_WITHIN = 5.0
"""Seconds that a task waits for the fleet document that its shard knew, which the leader sends to this worker too."""


class TaskLink(Protocol):
    """The link to the shard that handed a task out."""

    shard: str

    def finished(self, done: Done) -> None:
        """Acknowledge a task."""
        ...

    def report_culprit(self, ids: list[int], error: str, certain: bool) -> None:
        """Report tasks that can't be stopped; not ``certain``: one of all that are reported is it."""
        ...


class Run:
    """One task in work. ``session`` is set when its reconcile starts, on the user loop."""

    __slots__ = ("known", "link", "revoked", "session", "started", "task")

    def __init__(self, task: Task, link: TaskLink, known: LoadedController, started: float) -> None:
        self.task = task
        self.link = link
        self.known = known
        self.started = started
        self.session: Session | None = None
        self.revoked = ""

    def revoke(self, reason: str) -> None:
        """Refuse the reconcile's further requests and cancel it. Call on the user loop."""
        self.revoked = self.revoked or reason
        if self.session is not None:
            self.session.revoke(reason)


class Runs:
    """See the module. ``accepting``: whether tasks are accepted; a worker that stops refuses them."""

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        permits: WritePermits,
        controllers: LoadedControllers,
        user: UserLoop,
        backend: Backend,
        reads: ShardReads,
        folds: WriteFolds,
        clients: Clients,
        links: Mapping[str, TaskLink],
        recorder: FlightRecorder,
    ) -> None:
        self.accepting = True
        self._clock = clock
        self._permits = permits
        self._controllers = controllers
        self._user = user
        self._backend = backend
        self._reads = reads
        self._folds = folds
        self._clients = clients
        self._links = links
        self._recorder = recorder
        self._metrics = ReconcileMetrics(metrics)
        self._sequence = 0
        self._early: list[tuple[TaskLink, Task]] = []
        """Tasks that wait for a newer fleet document."""
        self._runs: dict[tuple[str, int], Run] = {}
        self._actor_loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._runs)

    def all(self) -> list[Run]:
        """The tasks in work."""
        return list(self._runs.values())

    def in_flight(self, shard: str) -> list[tuple[int, RequestKey]]:
        """Identifiers and keys of the tasks of ``shard`` in work."""
        running = [(run.task.id, run.task.key) for (home, _), run in self._runs.items() if home == shard]
        return running + [(task.id, task.key) for link, task in self._early if link.shard == shard]

    # from the links

    def start(self, link: TaskLink, tasks: Sequence[Task]) -> None:
        """Start the reconciles of tasks that were handed out; acknowledge at once those that can't be run here."""
        now, at, recorder = self._clock.now(), self._clock.wall(), self._recorder
        epoch, terms, known = self._permits.epoch, self._permits.terms, self._controllers.known
        batch = []
        for task in tasks:
            if task.fleet > self._sequence and self.accepting:
                self._wait(link, task)
                continue
            controller = known.get(task.key.controller)
            if not self.accepting:  # sent on earlier credit: none follows, so it goes to another worker
                _refuse(link, task, Outcome.INTERRUPTED, "the worker accepts no further tasks")
            elif task.epoch < epoch or task.term < terms.get(task.shard, 0):
                _refuse(link, task, Outcome.INTERRUPTED, "the primary that handed it out was succeeded")
            elif controller is None:
                problem = self._controllers.problem or "not in the plan"
                _refuse(link, task, Outcome.RETRY, f"this worker does not know the controller {task.key.controller!r}: {problem}")
            else:
                run = self._runs[link.shard, task.id] = Run(task, link, controller, now)
                self._metrics.active.labels(task.key.controller, task.tier).inc()
                batch.append(run)
                if recorder.on:
                    recorder.step(at, "started", task.key, (task.shard, task.term, task.attempt, task.reason))
        if batch:
            self._user.call(self._begin, batch)

    def _wait(self, link: TaskLink, task: Task) -> None:
        """Its reconcile must not decide by an older fleet document than its shard had, as nothing would wake it again."""
        self._early.append((link, task))
        if len(self._early) == 1:
            self._actor_loop.call_later(PLAN_WITHIN, self._give_up, task.fleet)

    def _give_up(self, sequence: int) -> None:
        if self._early:
            log.warning("fleet document %d has not arrived within %g s: its tasks run with the one before", sequence, PLAN_WITHIN)
            self.update(max(task.fleet for _, task in self._early))

    def update(self, sequence: int) -> None:
        """The fleet document of that ``sequence`` is in force here: start the tasks that waited for it."""
        self._sequence = max(self._sequence, sequence)
        early, self._early = self._early, []
        for link, task in early:
            self.start(link, [task])

    def revoke(self, link: TaskLink, ids: Sequence[int]) -> None:
        """Stop the reconciles of these tasks: their next request is refused."""
        for early in [early for early in self._early if early[0] is link and early[1].id in ids]:
            self._early.remove(early)
            _refuse(link, early[1], Outcome.INTERRUPTED, "revoked by its shard")
        for identity in ids:
            run = self._runs.get((link.shard, identity))
            if run is not None:
                self._user.call(run.revoke, "revoked by its shard")

    # from the worker

    def supersede(self, shard: str, term: int) -> None:
        """Stop what primaries of ``shard`` before ``term`` handed out."""
        for (home, _), run in self._runs.items():
            if home == shard and run.task.term < term:
                self._user.call(run.revoke, f"shard {shard} has a new primary, of term {term}")

    def revoke_all(self, reason: str) -> None:
        """Stop all reconciles."""
        for run in self._runs.values():
            self._user.call(run.revoke, reason)

    def holding(self, current: "asyncio.Task[object] | None") -> list[Run]:
        """The runs that ``current`` works for: it is the author's function, or the task around it."""
        if current is None:
            return []
        name = current.get_name()
        return [
            run
            for (shard, identity), run in self._runs.items()
            if (run.session is not None and run.session.work is current) or name == f"{shard}\0{identity}"
        ]

    def when_it_turns(self, then: Callable[[], None]) -> None:
        """Call ``then`` once the user loop has turned; not while a reconcile holds it."""

        def turned() -> None:
            with contextlib.suppress(RuntimeError):  # the actor's loop has been closed meanwhile
                self._actor_loop.call_soon_threadsafe(then)

        self._user.call(turned)

    # one reconcile

    def _begin(self, batch: list[Run]) -> None:
        """On the user loop: start a batch of reconciles."""
        for run in batch:
            if run.task.tokens and (pool := self._clients.token_pools.get(run.task.key.cluster)) is not None:
                pool.add(run.task.tokens)
            self._user.loop.create_task(self._reconcile(run), name=f"{run.link.shard}\0{run.task.id}")

    async def _reconcile(self, run: Run) -> None:
        """On the user loop: one reconcile, start to acknowledgement."""
        task, known, shard = run.task, run.known, run.link.shard
        try:
            controller = known.controller
            wakes: list[RequestKey] = []
            if selection_of(task.key) is not None:
                controller, wakes = mapping_of(controller, task)
            elif known.member_kinds or controller.reachability:
                # Behind the answers: what the shards have sent of their clusters by now.
                await self._reads.complete_children(task, known.member_kinds)
            session = run.session = Session(controller, task, self._backend, self._clock)
            if run.revoked:
                session.revoke(run.revoked)
            done = await run_reconcile(session, timeout=known.timeout, executor=self._user.executor, config=known.config)
            if wakes and done.outcome is Outcome.OK:
                done.wakes = wakes
            if done.writes:
                await self._folds.fold(done, shard)
        except Exception as error:
            log.exception("the task of %s could not be run", task.key)
            done = Done(task.id, task.key, Outcome.RETRY, 0.0, error=f"internal: {error!r}", error_class=INTERNAL)
        if (pool := self._clients.token_pools.get(task.key.cluster)) is not None:
            done.used, done.unused = pool.settle(task.tokens)
        self._actor_loop.call_soon_threadsafe(self._finished, run, done)

    def _finished(self, run: Run, done: Done) -> None:
        """Back on the actor's loop: acknowledge."""
        link, key = run.link, done.key
        if self._runs.pop((link.shard, done.id), None) is not None:
            self._metrics.active.labels(key.controller, run.task.tier).inc(-1.0)
        self._metrics.total.labels(key.controller, key.cluster, _result(done)).inc()
        self._metrics.seconds.labels(key.controller, key.cluster).observe(done.seconds)
        if done.error_class and done.outcome is not Outcome.INTERRUPTED:
            self._metrics.errors.labels(key.controller, key.cluster, done.error_class).inc()
        if self._recorder.on:
            facts = (done.outcome, done.seconds, len(done.calls), len(done.writes), done.error)
            self._recorder.step(self._clock.wall(), "finished", key, facts)
        (self._links.get(link.shard) or link).finished(done)


def _refuse(link: TaskLink, task: Task, outcome: Outcome, error: str) -> None:
    link.finished(Done(task.id, task.key, outcome, 0.0, error=error))


def _result(done: Done) -> str:
    if done.outcome is Outcome.OK:
        return "requeue_after" if done.requeue_after is not None else "waiting" if done.waiting else "success"
    return {Outcome.RETRY: "error", Outcome.PERMANENT: "permanent", Outcome.INTERRUPTED: "interrupted"}[done.outcome]
