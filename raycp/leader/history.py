"""The leader's memory of switches: what happened, how long each phase took, kept in the hub."""

import logging
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.kube import KubeError
from raycp.leadership.epoch import Leadership
from raycp.leadership.records import Conflict, Records
from raycp.leadership.switches import Switch, add, read_switches, write_switches
from raycp.protocol.control import Lead
from raycp.protocol.plan import Plan, ShardPlan
from raycp.protocol.report import Report

log = logging.getLogger(__name__)

EVERY = 2.0


class History:
    """One per leader. What can't be stored now is stored later; it holds nothing up."""

    def __init__(self, clock: Clock, loops: Loops) -> None:
        self._clock = clock
        self._switches: list[Switch] = []
        self._records: Records | None = None
        self._changed = False
        self._told = False
        self._loops = loops

    def begin(self, records: Records, leadership: Leadership, order: Lead | None = None) -> None:
        """This leader has been recorded; its own beginning is the first that it remembers. ``order``: how it came to lead, where
        its fleet had stood by."""
        first = self._records is None
        self._records = records
        cause = "start" if leadership.incarnation == 1 else "restart"
        order = order or Lead("", None, None, cause)
        self._note(
            Switch(
                self._clock.wall(), order.cause, "leader", leadership.epoch, leadership.incarnation, leadership.holder,
                order.before, order.drain, order.leaderless,
            )
        )  # fmt: skip
        if first:
            self._loops.forever(self._store, "history of switches", every=EVERY)

    def end(self) -> None:
        """Another leader keeps the history now."""
        self._records = None

    def promoted(self, plan: Plan, before: ShardPlan, now: ShardPlan) -> None:
        """A shard has a new primary."""
        self._note(
            Switch(
                self._clock.wall(), now.cause, f"shard {now.shard}", plan.epoch, now.term, now.member, before.member,
                now.drain, now.leaderless,
            )
        )  # fmt: skip

    def reported(self, plan: Plan | None, member: str, report: Report) -> None:
        """A primary tells how long it took it."""
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

    async def _store(self) -> None:
        if self._records is None or not self._changed:
            return
        try:
            if not self._told:
                # What this leader saw comes after what was stored before it.
                mine, self._switches = self._switches, await read_switches(self._records)
                for switch in mine:
                    add(self._switches, switch)
                self._told = True
            self._changed = False
            await write_switches(self._records, self._switches)
        except (KubeError, Conflict, TimeoutError) as error:
            self._changed = True
            log.info("the history of switches could not be stored: %s", error)

    def rows(self) -> list[dict[str, Any]]:
        """Oldest first."""
        found: list[dict[str, Any]] = msgspec.to_builtins(self._switches)
        return found
