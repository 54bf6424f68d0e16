"""The observer's SLO windows in the hub: written every few seconds, so that the observer's replacement goes on with them.

At a hand-over between two revisions of a fleet, the old one's observer marks its last checkpoint as ``closed``. The other
goes on from there, or without that mark after ``CLOSED_WITHIN``. Only the fleet that is recorded as leading writes.
"""

import base64
import contextlib
import logging
from collections.abc import Awaitable, Callable

from raycp.base.clock import Clock
from raycp.kube import ClusterClient, KubeError
from raycp.leadership.epoch import read_leadership
from raycp.leadership.records import Conflict, Record, Records
from raycp.metrics import Family, Gauge
from raycp.protocol.plan import Plan
from raycp.slo import SloBook

log = logging.getLogger(__name__)

CLOSED_WITHIN = 15.0
"""Seconds for which the observer of a fleet that has just taken over waits for the last checkpoint of the fleet before."""


class SloCheckpoint:
    """One per observer. ``client`` gives the API client of a cluster; ``is_leader`` is set to what the hub's record says."""

    def __init__(
        self,
        clock: Clock,
        client: Callable[[str], Awaitable[ClusterClient]],
        book: SloBook,
        is_leader: Family[Gauge],
        plan: Callable[[], Plan | None],
    ) -> None:
        self.problem = ""
        """Why the last one was not written."""
        self._clock = clock
        self._client = client
        self._book = book
        self._is_leader = is_leader
        self._plan = plan
        self._saved: Record | None = None
        self._restored = False
        self._closing = False
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
        """Go on with the windows of the fleet that led before, as soon as it has written its last checkpoint."""
        while not self._restored:
            await self.keep()
            await self._clock.sleep(0.3)

    async def close(self) -> None:
        """Write the last checkpoint, marked as such."""
        self._closing = True
        await self.keep()

    async def keep(self) -> None:
        """Read which fleet leads; if it is this one, go on from the last checkpoint and write the next."""
        plan = self._plan()
        if plan is None or plan.hub.connect is None or plan.following is not None:
            return
        try:
            client = await self._client(plan.hub.name)
            records = Records(client, plan.fleet.name, plan.fleet.doc.spec.state.namespace)
            leadership = await read_leadership(records)
            another_leads = leadership is None or leadership.home not in ("", plan.home)
            self._is_leader.labels(plan.fleet.name).set(0.0 if another_leads else 1.0)
            if another_leads and not (self._closing and plan.epoch):
                self.problem = ""
                return  # the fleet that leads counts, and waits for the last checkpoint of a fleet that has handed over to it
            if not self._restored:
                self._saved = await records.read("slo")
                open_still = self._saved is None or "closed" not in self._saved.data
                if open_still and not self._closing and self._clock.now() - self._leads_since < CLOSED_WITHIN:
                    return
                if self._saved is not None and "book" in self._saved.data:
                    self._book.restore(base64.b64decode(self._saved.data["book"]))
                self._restored = True
            data = {"book": base64.b64encode(self._book.checkpoint()).decode()}
            if self._closing:
                data["closed"] = "true"
            self._saved = await records.write("slo", data, self._saved)
            self.problem = ""
        except (KubeError, ValueError) as error:
            problem = str(error) or type(error).__name__
            if problem != self.problem:
                log.warning("the SLO checkpoint was not written to cluster %s, and is tried again: %s", plan.hub.name, problem)
            self.problem = problem
        except Conflict:
            self._saved = await records.read("slo")
