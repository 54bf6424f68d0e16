"""The base of all members' cores: control questions, the watch as a long-poll, the newest plan, and an abrupt end."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import Subject
from raycp.base.release import this_release
from raycp.member.problem_log import ProblemLog, bounded
from raycp.metrics import FleetMetrics, Metrics
from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.channels import Accept, ChannelCredentials, Listener
from raycp.protocol.control import Configure, Drain, PlanOf, Question, ReportAfter
from raycp.protocol.control.codec import unknown_question
from raycp.protocol.members import WATCH_SECONDS, Member
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report


class MemberCore:
    """Base of a core. Subclasses implement ``configure``, ``fill`` and ``drain``; ``changed()`` ends a waiting watch."""

    def __init__(self, member: Member, clock: Clock, host: str, node: str, recorder: FlightRecorder | None = None) -> None:
        self.member = member
        self.clock = clock
        self.host = host
        self.node = node
        self.node_id = ""
        """Ray's id of the node on which this process runs; empty outside Ray."""
        self.raycp_release = this_release()
        self.recorder = recorder or FlightRecorder(clock)
        self.loops = Loops(clock)
        self.loops.failed = lambda _: self.changed()
        self.plan: Plan | None = None
        self.credentials = ChannelCredentials(member.actor_name)
        self.listener: Listener | None = None
        """The port to which other members connect; None before the first plan, and for roles that nobody calls."""
        self._news = asyncio.Event()
        self._number = 0
        self._essence: tuple[object, ...] = ()
        self._noted: tuple[object, ...] = ()
        self._problem_log = ProblemLog(clock)

    def count_failures(self, metrics: Metrics) -> None:
        """Count the failures of this member's loops in ``metrics``."""
        family = FleetMetrics(metrics).loop_failures

        def failed(name: LoopName) -> None:
            family.labels(name).inc()
            self.changed()

        self.loops.failed = failed

    async def ask(self, question: Question[Any]) -> Any:
        """Answer a control question of any member, or of the role in ``extra``. Raises ``ControlError``."""
        match question:
            case ReportAfter(seen):
                return await self._watch(seen)
            case Configure(plan):
                if self.plan is None or plan.version > self.plan.version:
                    self.credentials.update(plan)
                    await self.configure(plan, self.plan)
                    self.plan = plan
                    if self.listener is not None:
                        self.listener.reconsider()
                    self.changed()
            case PlanOf():
                return self.plan
            case Drain(timeout):
                await self.drain(timeout)
            case _:
                return await self.extra(question)
        return None

    async def extra(self, question: Question[Any]) -> Any:
        """Questions of one role. Raises ``ControlError``."""
        raise unknown_question(question, self.member.role)

    async def listen(self, accept: Accept, plan: Plan) -> None:
        """Open the port to which other members connect. Raises ``OSError``."""
        listener = Listener(self.credentials, accept)
        await listener.open(self.host, plan.fleet.doc.spec.channels.numbers)
        self.listener = listener

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        """Take over a newer plan."""
        raise NotImplementedError

    async def drain(self, timeout: float) -> None:
        """Finish the work in progress, within ``timeout`` seconds."""
        raise NotImplementedError

    def fill(self, report: Report) -> None:
        """Put the role's own facts into a report."""
        raise NotImplementedError

    def problems(self, report: Report) -> Mapping[Subject, str]:
        """What is wrong at this moment, apart from its loops; ``report`` is filled."""
        return {}

    def report(self) -> Report:
        """The member's present state, for the leader and the observer."""
        version = self.plan.version if self.plan else 0
        report = Report(pid=os.getpid(), node=self.node, node_id=self.node_id, host=self.host, plan=version)
        report.release = self.raycp_release
        self.fill(report)
        report.problems = bounded([*self.loops.problems, *self._problem_log.standing(self.problems(report))])
        return report

    def changed(self) -> None:
        """Something changed that the leader should know at once."""
        self._news.set()

    async def abort(self) -> None:
        """End as the death of the process would: send nothing, refuse at the port, break all connections. Subclasses extend."""
        self.loops.close()
        self.cut()
        await self.loops.stop()

    def cut(self) -> None:
        """Close the listener and break all connections, without notifying the peers. Subclasses implement it."""

    async def _watch(self, seen: int) -> Report:
        report = self._numbered()
        if report.number != seen:
            return report
        self._news.clear()
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass
        return self._numbered()

    def _note_state(self, report: Report) -> None:
        state = (report.state, report.ready, list(report.reasons), dict(report.phases))
        if state != self._noted:
            self._noted = state
            self.recorder.note("state", state=report.state, ready=report.ready, reasons=report.reasons, phases=report.phases)

    def _numbered(self) -> Report:
        report = self.report()
        essence = _essence(report)
        if essence != self._essence:
            self._essence = essence
            self._note_state(report)
            self._number += 1
        report.number = self._number
        return report


def _essence(report: Report) -> tuple[object, ...]:
    """The fields of a report whose changes the leader should know at once, without counters."""
    clusters = [(c.name, c.reachable, c.synced, c.reason, c.breaker) for c in report.clusters]
    suspects = (report.quarantine, report.suspected, [(each.object, each.convicted) for each in report.suspects])
    state = (report.state, report.ready, list(report.reasons), report.dead, dict(report.phases), suspects)
    problems = [problem.subject for problem in report.problems]
    return report.host, report.port, report.plan, state, clusters, dict(report.extra), problems
