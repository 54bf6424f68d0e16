"""The members that report to the observer: their connections, and the newest report of each."""

import logging
from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.metrics import Merger
from raycp.observer.timelines import TimelineQueries
from raycp.protocol.frames import Hello, Message, Refusal, RefusalCode, Stats, Sync, SyncDone, TimelineReply
from raycp.protocol.job_query import JobQuery
from raycp.protocol.members import Member
from raycp.protocol.report import Report
from raycp.protocol.transport import Connection
from raycp.slo import SloBook

log = logging.getLogger(__name__)


class MemberReport(msgspec.Struct, frozen=True):
    """A member's newest report, and when it arrived by the observer's clock. ``problem`` as in ``status_builder.KnownMember``."""

    member: Member
    report: Report
    at: float
    problem: str = ""

    @property
    def node(self) -> str:
        """Ray's id of the member's node."""
        return self.report.node_id

    @property
    def refusal(self) -> str:
        """Only the leader gives members their plan."""
        return ""


class _Source:
    """One member's connection."""

    def __init__(self, sources: "Sources", connection: Connection, member: Member) -> None:
        self._sources = sources
        self.connection = connection
        self.member = member
        self._parts: list[Stats] = []
        """Of statistics that the next frames go on with."""

    def received(self, message: Message) -> None:
        if isinstance(message, Stats):
            self._parts.append(message)
            if not message.more:
                parts, self._parts = self._parts, []
                self._sources.feed(self.member, _joined(parts))
        elif isinstance(message, TimelineReply):
            self._sources.timelines.answered(message)
        elif isinstance(message, Sync):
            self.connection.send(SyncDone())

    def lost(self) -> None:
        self._sources.lost(self)


def _joined(parts: list[Stats]) -> Stats:
    """Statistics that came in several frames."""
    if len(parts) == 1:
        return parts[0]
    metrics, slo, report = (b"".join(each) for each in zip(*((p.metrics, p.slo, p.report) for p in parts), strict=True))
    return msgspec.structs.replace(parts[0], metrics=metrics, slo=slo, report=report, more=False)


class Sources:
    """One per observer. Metrics go to ``merger``, service levels to ``book``; ``home`` is the fleet instance
    (``Plan.home``); ``changed`` is called after each report."""

    def __init__(self, clock: Clock, merger: Merger, book: SloBook, home: Callable[[], str], changed: Callable[[], None]) -> None:
        self.reports: dict[str, MemberReport] = {}
        """By the actor's name."""
        self.timelines = TimelineQueries()
        self._clock = clock
        self._merger = merger
        self._book = book
        self._home = home
        self._changed = changed
        self._sources: dict[str, _Source] = {}

    def accept(self, connection: Connection, hello: Hello) -> _Source | Refusal:
        """A member has connected; the reason where it is refused."""
        member = Member.parse(hello.member)
        if member is None:
            return Refusal("not a member", RefusalCode.WRONG_ROLE)
        source = self._sources[hello.member] = _Source(self, connection, member)
        return source

    def lost(self, source: _Source) -> None:
        """A member's connection has ended."""
        name = source.member.actor_name
        if self._sources.get(name) is source:
            del self._sources[name]
            self._merger.silence(name)

    def connected(self) -> set[str]:
        """Names of the members that are connected, as actors and as processes in the book."""
        return {*self._sources, *(self.process(name) for name in self._sources)}

    def process(self, actor: str) -> str:
        """A member's name in the book, which outlives the fleet instance: the next one's members have the same names."""
        return f"{self._home()} {actor}"

    def feed(self, member: Member, stats: Stats) -> None:
        """Take in one member's absolute values."""
        name = member.actor_name
        try:
            self._merger.feed(name, stats.metrics)
            if stats.slo:
                self._book.feed(self.process(name), stats.slo)
            report = msgspec.msgpack.decode(stats.report, type=Report)
        except (msgspec.MsgspecError, ValueError):
            log.exception("the statistics of %s can't be decoded", member)
            return
        self.reports[name] = MemberReport(member, report, self._clock.now())
        self._changed()

    def actors(self) -> list[str]:
        """Members whose reports are kept."""
        return list(self.reports)

    def forget(self, actor: str) -> None:
        """Drop a dead member's report."""
        self.reports.pop(actor, None)

    async def timeline(
        self, shard: str, cluster: str, kind: str, namespace: str, name: str, topic: str = "", jobs: JobQuery | None = None
    ) -> bytes | None:
        """The timeline of an object, as JSON, by the primary with actor name ``shard``; None where it is not connected or does not
        answer."""
        source = self._sources.get(shard)
        if source is None:
            return None
        return await self.timelines.ask(source.connection, cluster, kind, namespace, name, topic, jobs)
