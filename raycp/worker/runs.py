"""``Runs``: the reconciles that run in this worker, from the hand-out of a task to its acknowledgement.

The table lives on the actor's loop, the reconciles run on the user loop. Every task that is taken in is acknowledged, whatever
fails on the way: a run is in the table from its hand-out until the task around its reconcile has ended, and that end, of whatever
kind, acknowledges it.
"""

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.selections import selection_of
from raycp.base.tasks import Done, Outcome, Task
from raycp.base.text import message_of
from raycp.kube import KubeError
from raycp.member.clients import Clients
from raycp.metrics import Metrics, ReconcileMetrics
from raycp.metrics.recorder import FlightRecorder
from raycp.sdk.backend import Backend
from raycp.sdk.failure_lines import FailureLines
from raycp.sdk.map_functions import mapping_of
from raycp.sdk.outcome import INTERNAL, error_class
from raycp.sdk.run import run_reconcile
from raycp.sdk.session import Session
from raycp.worker.controllers import LoadedController, LoadedControllers
from raycp.worker.failure_events import FailureEvents
from raycp.worker.fence import VoidHandouts, WritePermits
from raycp.worker.handout_frames import fit
from raycp.worker.reconcile_traces import RunTraces
from raycp.worker.refusals import TaskTooLarge, refuse
from raycp.worker.shard_reads import ShardReads, memory_key
from raycp.worker.task_memory import NoRoom, TaskMemory
from raycp.worker.user_loop import UserLoop
from raycp.worker.write_folds import WriteFolds

log = logging.getLogger(__name__)

UNKNOWN = "UnknownController"
"""The class of the error where a worker could not import the controller."""

READ_WITHIN = 60.0
"""Seconds in which a task must have read what it did not bring, waiting for room included."""

_MANY = 1_000
"""Writes and requests of one reconcile beyond which they are counted."""


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
    """One task in work. ``session`` is set when its reconcile starts, on the user loop; ``started`` is when, by the clock (infinity
    before). ``behind``: it decides by an older fleet document than its shard had."""

    __slots__ = ("behind", "known", "link", "revoked", "session", "started", "task")

    def __init__(self, task: Task, link: TaskLink, known: LoadedController, *, behind: bool) -> None:
        self.task = task
        self.behind = behind
        self.link = link
        self.known = known
        self.started = math.inf
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
        memory: TaskMemory,
        void: VoidHandouts,
    ) -> None:
        self.accepting = True
        self.traces: RunTraces | None = None
        """Where traces are exported."""
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
        self._memory = memory
        self._void = void
        self._events = FailureEvents(backend, clock)
        self._lines = FailureLines()
        self._metrics = ReconcileMetrics(metrics)
        self._sequence = 0
        self._awaited = 0
        """The newest fleet document that tasks have waited for long enough."""
        self._early: list[tuple[TaskLink, Task]] = []
        """Tasks that wait for a newer fleet document, until ``_patience`` ends."""
        self._patience: asyncio.TimerHandle | None = None
        self._runs: dict[tuple[str, int], Run] = {}
        self._active: set[tuple[str, str]] = set()
        self._actor_loop = asyncio.get_running_loop()
        metrics.before_snapshot(self.count_active)

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
        at, recorder = self._clock.wall(), self._recorder
        epoch, terms, known = self._permits.epoch, self._permits.terms, self._controllers.known
        batch = []
        for task in tasks:
            behind = task.fleet > self._sequence
            if behind and task.fleet > self._awaited and self.accepting:
                self._wait(link, task)
                continue
            controller = known.get(task.key.controller)
            if not self.accepting:  # sent on earlier credit: none follows, so it goes to another worker
                _refuse(link, task, Outcome.INTERRUPTED, "the worker accepts no further tasks")
            elif task.epoch < epoch or task.term < terms.get(task.shard, 0):
                _refuse(link, task, Outcome.INTERRUPTED, "the primary that handed it out was succeeded")
            elif controller is None:
                problem = self._controllers.problem or "not in the plan"
                text = f"this worker does not know the controller {task.key.controller!r}: {problem}"
                done = Done(task.id, task.key, Outcome.RETRY, 0.0, error=text, error_class=UNKNOWN)
                link.finished(done)
                if (kind := self._controllers.kinds.get(task.key.controller)) is not None:
                    self._user.call(self._events.ended, task, done, kind)
            else:
                run = self._runs[link.shard, task.id] = Run(task, link, controller, behind=behind)
                batch.append(run)
                if recorder.on:
                    recorder.step(at, "started", task.key, (task.shard, task.term, task.attempt, task.reason))
        if batch:
            try:
                self._user.call(self._begin, batch)
            except Exception as error:
                log.exception("%d tasks could not be started", len(batch))
                for run in batch:
                    self._finished(run, _failed(run.task, error))

    def _wait(self, link: TaskLink, task: Task) -> None:
        """Its reconcile must not decide by an older fleet document than its shard had, as nothing would wake it again."""
        self._early.append((link, task))
        if self._patience is None:
            self._patience = self._actor_loop.call_later(PLAN_WITHIN, self._give_up)

    def _give_up(self) -> None:
        """Without it, for now: they run again until it has arrived (``_again``)."""
        self._awaited = max(task.fleet for _, task in self._early)
        text = "fleet document %d has not arrived within %g s: its tasks run with the one before, and again %g s later"
        log.warning(text, self._awaited, PLAN_WITHIN, PLAN_WITHIN)
        self._start_early()

    def update(self, sequence: int) -> None:
        """The fleet document of that ``sequence`` is in force here: start the tasks that waited for it."""
        self._sequence = max(self._sequence, sequence)
        self._start_early()

    def _start_early(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        early, self._early = self._early, []
        for link, task in early:
            self.start(link, [task])

    def revoke(self, link: TaskLink, ids: Sequence[int]) -> None:
        """Stop the reconciles of these tasks: their next request is refused. So is a write for one that is not known here."""
        for early in [early for early in self._early if early[0] is link and early[1].id in ids]:
            self._early.remove(early)
            _refuse(link, early[1], Outcome.INTERRUPTED, "revoked by its shard")
        for identity in ids:
            run = self._runs.get((link.shard, identity))
            if run is not None:
                self._user.call(run.revoke, "revoked by its shard")
            else:
                self._void.add(link.shard, identity)

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
            try:
                if run.task.tokens and (pool := self._clients.token_pools.get(run.task.key.cluster)) is not None:
                    pool.add(run.task.tokens)
                if run.task.change and (traces := self.traces) is not None:  # another thread may set it
                    traces.begin(run.task)
                work = self._user.loop.create_task(self._reconcile(run), name=f"{run.link.shard}\0{run.task.id}")
                work.add_done_callback(partial(self._ended, run))
            except Exception as error:
                log.exception("the task of %s could not be started", run.task.key)
                self._actor_loop.call_soon_threadsafe(self._finished, run, _failed(run.task, error))

    async def _reconcile(self, run: Run) -> Done:
        """On the user loop: one reconcile, start to outcome."""
        task, known, shard = run.task, run.known, run.link.shard
        if task.refused:
            return refuse(task, task.refused, self._backend, self._clock)
        controller, kinds = known.controller, known.member_kinds if known.member_kinds or known.controller.reachability else None
        wakes: list[RequestKey] = []
        if selection_of(task.key) is not None:
            kinds = None
            controller, wakes = mapping_of(controller, task)
        if task.rest or kinds is not None:
            # Behind the answers: what the shards have sent of their clusters by now.
            try:
                async with asyncio.timeout(READ_WITHIN):
                    await self._reads.complete(task, kinds)
            except TaskTooLarge as error:
                return refuse(task, message_of(error), self._backend, self._clock)
            except (NoRoom, KubeError, TimeoutError) as error:
                problem = f"its children could not be read: {message_of(error)}"
                return Done(task.id, task.key, Outcome.RETRY, 0.0, error=problem, error_class=error_class(error))
        session = run.session = Session(controller, task, self._backend, self._clock)
        if run.revoked:
            session.revoke(run.revoked)
        run.started = self._clock.now()
        done = await run_reconcile(
            session, timeout=known.timeout, executor=self._user.executor, config=known.config, lines=self._lines
        )
        run.started = math.inf
        if done.outcome is not Outcome.OK:
            self._events.ended(task, done, controller.kind)
        if wakes and done.outcome is Outcome.OK:
            done.wakes = wakes
        if done.writes:
            await self._folds.fold(done, shard)
        if len(done.writes) + len(done.calls) > _MANY:
            fit(done)
        return done

    def _ended(self, run: Run, work: "asyncio.Task[Done]") -> None:
        """On the user loop: the task around a reconcile has ended, however."""
        task = run.task
        if work.cancelled():  # the author's code cancels every task that it finds
            done = _failed(task, asyncio.CancelledError("the task around the reconcile was cancelled"), run.session)
        elif (error := work.exception()) is not None:
            log.error("the task of %s could not be run", task.key, exc_info=error)
            done = _failed(task, error, run.session)
        else:
            done = work.result()
        try:
            if self._memory.used:
                self._memory.release(memory_key(task))
            if (pool := self._clients.token_pools.get(task.key.cluster)) is not None:
                done.used, done.unused = pool.settle(task.tokens)
            if task.change and (traces := self.traces) is not None:
                traces.end(task, done, run.known.controller.kind)
        except Exception:
            log.exception("what %s held could not be released", task.key)
        self._actor_loop.call_soon_threadsafe(self._finished, run, done)

    def _finished(self, run: Run, done: Done) -> None:
        """Back on the actor's loop: acknowledge."""
        link, key = run.link, done.key
        self._runs.pop((link.shard, done.id), None)
        if run.behind:
            _again(done)
        (self._links.get(link.shard) or link).finished(done)
        self._metrics.total.labels(key.controller, key.cluster, _result(done)).inc()
        self._metrics.seconds.labels(key.controller, key.cluster).observe(done.seconds)
        if done.error_class and done.outcome is not Outcome.INTERRUPTED:
            self._metrics.errors.labels(key.controller, key.cluster, done.error_class).inc()
        if self._recorder.on:
            facts = (done.outcome, done.seconds, len(done.calls), len(done.writes), done.error)
            self._recorder.step(self._clock.wall(), "finished", key, facts)

    def count_active(self) -> None:
        """Set the gauges of what runs."""
        counts = Counter((run.task.key.controller, run.task.tier) for run in self._runs.values())
        self._active.update(counts)
        for labels in self._active:
            self._metrics.active.labels(*labels).set(float(counts[labels]))


def _failed(task: Task, error: BaseException, session: Session | None = None) -> Done:
    """The acknowledgement of a task that ended without an outcome. What it has written, its key waits for (law 8)."""
    text = f"internal: {type(error).__name__}: {message_of(error)}"
    done = Done(task.id, task.key, Outcome.RETRY, 0.0, error=text, error_class=INTERNAL)
    if session is not None:
        done.calls, done.writes = session.calls, [replace(write, raw=None) for write in session.writes]
        fit(done)
    return done


def _again(done: Done) -> None:
    """It was decided by a fleet document that its shard knows to be outdated: nothing else would wake its key."""
    if done.outcome is Outcome.OK:
        done.requeue_after = min(PLAN_WITHIN, PLAN_WITHIN if done.requeue_after is None else done.requeue_after)
    elif done.outcome is Outcome.PERMANENT:
        done.outcome = Outcome.RETRY


def _refuse(link: TaskLink, task: Task, outcome: Outcome, error: str) -> None:
    link.finished(Done(task.id, task.key, outcome, 0.0, error=error))


def _result(done: Done) -> str:
    if done.outcome is Outcome.OK:
        return "requeue_after" if done.requeue_after is not None else "waiting" if done.waiting else "success"
    return {Outcome.RETRY: "error", Outcome.PERMANENT: "permanent", Outcome.INTERRUPTED: "interrupted"}[done.outcome]
