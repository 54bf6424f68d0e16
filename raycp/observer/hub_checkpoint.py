"""A state of the observer's in the hub (SLO windows, the console's history): written every few seconds, so that the observer's
replacement, on whatever node, goes on with it.

At a hand-over between two revisions of a fleet, the old one's observer marks its last checkpoint as ``closed``. The other
goes on from there, or without that mark after ``CLOSED_WITHIN``. Only the fleet that is recorded as leading writes.
"""

import asyncio
import base64
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from raycp.base.clock import Clock
from raycp.kube import ClusterClient, KubeError
from raycp.leadership.epoch import read_leadership
from raycp.leadership.records import Conflict, Record, Records
from raycp.protocol.plan import Plan

log = logging.getLogger(__name__)

CLOSED_WITHIN = 15.0
"""Seconds for which the observer of a fleet that has just taken over waits for the last checkpoint of the fleet before."""


class CheckpointedState(Protocol):
    """What is kept. ``restore`` raises ``ValueError`` for bytes that are no checkpoint of it, and then changes nothing;
    ``checkpoint`` where there is too much of it."""

    def checkpoint(self) -> bytes: ...

    def restore(self, saved: bytes) -> None: ...


class CheckpointRecord(NamedTuple):
    """Where a state is kept: the record's name and its key, and ``title`` for messages. ``anew``: what can't be restored is
    reported and written over; else it is reported until someone deletes the record."""

    record: str
    key: str
    title: str
    anew: bool = False


class HubCheckpoint:
    """One per observer and state. ``client`` gives the API client of a cluster; ``leads`` is called with what the hub's record says
    of this fleet."""

    def __init__(
        self,
        clock: Clock,
        client: Callable[[str], Awaitable[ClusterClient]],
        state: CheckpointedState,
        where: CheckpointRecord,
        plan: Callable[[], Plan | None],
        leads: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.problem = ""
        """Why the last one was not written, or what was found instead of one."""
        self.restored = False
        """Whether what was stored has been taken over, or there was nothing to take over."""
        self._clock = clock
        self._client = client
        self._state = state
        self._where = where
        self._plan = plan
        self._leads = leads
        self._saved: Record | None = None
        self._closing = False
        self._one = asyncio.Lock()
        self._leads_since = float("-inf")

    async def warm_up(self) -> None:
        """Connect to the hub while the fleet stands by, which costs some 170 ms of CPU time that a switch should not spend. Errors
        are left to the first use."""
        plan = self._plan()
        if plan is None or plan.hub.connect is None:
            return
        with contextlib.suppress(KubeError):
            await self._client(plan.hub.name)

    def taken_over(self) -> None:
        """This fleet leads from now on, and stood by before."""
        self._leads_since = self._clock.now()

    async def restore(self) -> None:
        """Go on with the state of the fleet that led before, as soon as it has written its last checkpoint."""
        while not self.restored:
            await self.keep()
            await self._clock.sleep(0.3)

    async def close(self) -> None:
        """Write the last checkpoint, marked as such."""
        self._closing = True
        await self.keep()

    async def keep(self) -> None:
        """Read which fleet leads; if it is this one, go on from the last checkpoint and write the next.

        One at a time: several loops call it, and what is stored must be taken over once."""
        async with self._one:
            await self._keep()

    async def _keep(self) -> None:
        plan = self._plan()
        if plan is None or plan.hub.connect is None or plan.following is not None:
            return
        try:
            client = await self._client(plan.hub.name)
            records = Records(client, plan.fleet.name, plan.fleet.doc.spec.state.namespace)
            leadership = await read_leadership(records)
            another_leads = leadership is None or leadership.home not in ("", plan.home)
            self._leads(not another_leads)
            if another_leads and not (self._closing and plan.epoch):
                self.problem = ""
                return  # the fleet that leads counts, and waits for the last checkpoint of a fleet that has handed over to it
            refused = ""
            if not self.restored:
                self._saved = await records.read(self._where.record)
                open_still = self._saved is None or "closed" not in self._saved.data
                if open_still and not self._closing and self._clock.now() - self._leads_since < CLOSED_WITHIN:
                    self.problem = ""
                    return
                refused = self._take_over(self._saved)
                self.restored = True
            data = {self._where.key: base64.b64encode(self._state.checkpoint()).decode()}
            if self._closing:
                data["closed"] = "true"
            self._saved = await records.write(self._where.record, data, self._saved)
            self.problem = refused
        except (KubeError, ValueError) as error:
            problem = str(error) or type(error).__name__
            if problem != self.problem:
                what = "the %s was not written to cluster %s, and is tried again: %s"
                log.warning(what, self._where.title, plan.hub.name, problem)
            self.problem = problem
        except Conflict:
            self._saved = await records.read(self._where.record)

    def _take_over(self, saved: Record | None) -> str:
        """Restore what was stored; why it can't be, where the state begins anew. Raises ``ValueError``."""
        if saved is None or self._where.key not in saved.data:
            return ""
        try:
            self._state.restore(base64.b64decode(saved.data[self._where.key], validate=True))
        except ValueError as error:
            if not self._where.anew:
                raise
            log.warning("the stored %s is refused, and begins anew: %s", self._where.title, error)
            return f"what was stored is refused, and it begins anew: {error}"
        return ""
