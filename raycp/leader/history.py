"""The history of switches: what happened and how long each phase took, kept in the hub."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.kube import KubeError
from raycp.leadership.epoch import Leadership
from raycp.leadership.records import Conflict, Records
from raycp.leadership.switches import RECORD, Switch, add, read_switches, write_switches
from raycp.metrics import Counter, Family
from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.control import Lead
from raycp.protocol.members import LEADER
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report

log = logging.getLogger(__name__)

EVERY = 2.0

RECHECK = 30.0
"""Seconds between two looks at the stored history: a record that was deleted is made again."""

DEATHS = ("death", "silence", "restart")
"""Causes of switches whose predecessor died: its flight recorder has what it did last."""

TailOf = Callable[[str], Awaitable[list[str]]]
"""The last lines that a dead actor recorded, by its name."""


class History:
    """One per leader. It is stored in the background; a failed write is retried and delays nothing, nor does the search for what a
    dead process recorded last. ``switches`` counts those of the leadership; those of primaries are counted by the promoted, which
    outlive a leader's death."""

    def __init__(
        self,
        clock: Clock,
        loops: Loops,
        switches: Family[Counter],
        tail_of: TailOf,
        recorder: FlightRecorder | None = None,
    ) -> None:
        self.problem = ""
        """Why it could not be stored."""
        self._counts = switches
        self._clock = clock
        self._tail_of = tail_of
        self._recorder = recorder or FlightRecorder(clock)
        self._switches: list[Switch] = []
        self._records: Records | None = None
        self._changed = False
        self._loaded = False
        self._checked = clock.now()
        self._loops = loops

    def begin(self, records: Records, leadership: Leadership, order: Lead | None = None) -> None:
        """This leader is recorded: the first entry is its own start. ``order``: how it came to lead, where its fleet was the
        standby."""
        first = self._records is None
        self._records = records
        cause = "start" if leadership.incarnation == 1 else "restart"
        if order is not None or cause == "restart":  # a fleet's first leader is no switch
            self._counts.labels(order.cause if order is not None else cause).inc()
        order = order or Lead("", None, None, cause)
        self._note(
            Switch(
                self._clock.wall(), order.cause, "leader", leadership.epoch, leadership.incarnation, leadership.holder,
                order.before, order.drain, order.leaderless,
            )
        )  # fmt: skip
        if first:
            self._loops.forever(self._store, LoopName.HISTORY, every=EVERY)

    @property
    def records(self) -> Records | None:
        """The hub's, while this leader keeps them."""
        return self._records

    def end(self) -> None:
        """Another leader keeps the history from now on."""
        self._records = None

    def promoted(self, before: Plan, after: Plan, shard: str) -> None:
        """``shard`` has a new primary. Its very first one is no switch."""
        old = next(known for known in before.shards if known.shard == shard)
        new = next(known for known in after.shards if known.shard == shard)
        if old.term:
            self._note(
                Switch(
                    self._clock.wall(), new.cause, f"shard {shard}", after.epoch, new.term, new.member, old.member,
                    new.drain, new.leaderless,
                )
            )  # fmt: skip

    def reported(self, plan: Plan | None, member: str, report: Report) -> None:
        """A primary reports how long its phases took."""
        if not report.phases or plan is None:
            return
        for switch in reversed(self._switches):
            if switch.holder == member and switch.what != "leader":
                ramp_up, backlog = report.phases.get("ramp_up"), report.phases.get("backlog")
                if (switch.ramp_up, switch.backlog) != (ramp_up, backlog):
                    switch.ramp_up, switch.backlog = ramp_up, backlog
                    self._changed = True
                return

    def _note(self, switch: Switch) -> None:
        add(self._switches, switch)
        self._changed = True
        self._recorder.note(
            "switch",
            urgent=True,
            of=switch.what,
            cause=switch.cause,
            epoch=switch.epoch,
            term=switch.term,
            holder=switch.holder,
            before=switch.before,
            leaderless=switch.leaderless,
        )
        if switch.cause in DEATHS:
            dead = LEADER.actor_name if switch.what == "leader" else switch.before
            self._loops.spawn(self._keep_tail(switch, dead), f"the last records of {dead}")

    async def _keep_tail(self, switch: Switch, dead: str) -> None:
        switch.tail = await self._tail_of(dead)
        self._changed = self._changed or bool(switch.tail)

    async def _store(self) -> None:
        if self._records is None:
            return
        try:
            if not self._changed and self._clock.now() - self._checked >= RECHECK:
                self._changed = self._loaded and await self._records.read(RECORD) is None
                self._checked = self._clock.now()
            if not self._changed:
                self.problem = ""
                return
            if not self._loaded:
                # Entries of this leader follow those of its predecessors.
                mine, self._switches = self._switches, await read_switches(self._records)
                for switch in mine:
                    add(self._switches, switch)
                self._loaded = True
            self._changed = False
            await self._write(self._records)
            self._checked = self._clock.now()
            self.problem = ""
        except (KubeError, Conflict, TimeoutError) as error:
            self.problem = str(error) or type(error).__name__
            log.info("the history of switches could not be stored: %s", self.problem)

    async def _write(self, records: Records) -> None:
        try:
            await write_switches(records, self._switches)
        except BaseException:
            self._changed = True
            raise

    def newest(self, count: int) -> list[Switch]:
        """The last entries, oldest first, without what died processes recorded."""
        return [msgspec.structs.replace(switch, tail=[]) for switch in self._switches[-count:]]

    def rows(self) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        found: list[dict[str, Any]] = msgspec.to_builtins(self._switches)
        return found
