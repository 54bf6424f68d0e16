"""What the cores of all members share: answering ``watch`` with a report, as a long-poll, and keeping the newest plan."""

import asyncio
import os

import msgspec

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.protocol.members import WATCH_SECONDS, Member
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report


class MemberCore:
    """Base of a core. Subclasses implement ``configure``, ``report`` and ``drain``; ``changed()`` ends a waiting watch."""

    def __init__(self, member: Member, clock: Clock, host: str, node: str) -> None:
        self.member = member
        self.clock = clock
        self.host = host
        self.node = node
        self.node_id = ""
        """Ray's id of the node on which this process runs; empty outside Ray."""
        self.loops = Loops(clock)
        self.plan: Plan | None = None
        self._news = asyncio.Event()

    async def ask(self, method: str, payload: bytes) -> bytes:
        """watch, configure, plan, drain, and what the subclass adds in ``extra``."""
        if method == "watch":
            return await self._watch(payload)
        if method == "configure":
            plan = msgspec.msgpack.decode(payload, type=Plan)
            if self.plan is None or plan.version > self.plan.version:
                await self.configure(plan, self.plan)
                self.plan = plan
                self.changed()
            return b""
        if method == "plan":
            return b"" if self.plan is None else msgspec.msgpack.encode(self.plan)
        if method == "drain":
            await self.drain(msgspec.msgpack.decode(payload, type=float))
            return b""
        return await self.extra(method, payload)

    async def extra(self, method: str, payload: bytes) -> bytes:
        """Methods of one role. Raises ``KeyError``."""
        raise KeyError(f"{self.member.role} has no method {method!r}")

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        """Take over a newer plan."""
        raise NotImplementedError

    async def drain(self, timeout: float) -> None:
        """Finish what is under way, within ``timeout`` seconds."""
        raise NotImplementedError

    def fill(self, report: Report) -> None:
        """Put the role's own facts into a report."""
        raise NotImplementedError

    def report(self) -> Report:
        """What the leader is told."""
        version = self.plan.version if self.plan else 0
        report = Report(pid=os.getpid(), node=self.node, node_id=self.node_id, host=self.host, plan=version)
        self.fill(report)
        return report

    def changed(self) -> None:
        """Something that the leader should hear at once."""
        self._news.set()

    async def _watch(self, seen: bytes) -> bytes:
        """The report, at once if it differs from what the leader has seen in a way that matters, else after a while."""
        now = msgspec.msgpack.encode(self.report())
        if not seen or _essence(seen) != _essence(now):
            return now
        self._news.clear()
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass
        return msgspec.msgpack.encode(self.report())


def _essence(raw: bytes) -> tuple[object, ...]:
    report = msgspec.msgpack.decode(raw, type=Report)
    clusters = [(c.name, c.reachable, c.synced, c.reason, c.breaker) for c in report.clusters]
    state = (report.state, report.ready, report.reasons, report.dead, report.phases)
    return report.pid, report.host, report.port, report.plan, state, clusters, report.extra
