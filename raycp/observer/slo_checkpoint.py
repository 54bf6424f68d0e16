"""The observer's SLO windows in the hub: kept there every few seconds, so that its own replacement goes on with them.

Between two colours of a fleet: the one that hands over writes its last with a mark (``closed``); the other one goes on from
there, or without it after ``CLOSED_WITHIN``. Only the fleet that the hub's record names writes.
"""

import base64
import contextlib
import logging
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.kube import KubeError
from raycp.leadership.epoch import Leadership, read_leadership
from raycp.leadership.records import Conflict, Record, Records
from raycp.member.clients import Clients
from raycp.metrics import Family, Gauge
from raycp.protocol.plan import Plan
from raycp.slo import SloBook

log = logging.getLogger(__name__)

CLOSED_WITHIN = 15.0
"""How long, in seconds, the observer of a fleet that has just taken over waits for the last checkpoint of the one before."""


class SloCheckpoint:
    """One per observer. ``is_leader`` is set to what the hub's record says."""

    def __init__(
        self, clock: Clock, clients: Clients, book: SloBook, is_leader: Family[Gauge], plan: Callable[[], Plan | None]
    ) -> None:
        self.leadership: Leadership | None = None
        """As the hub's record says; None before it was read."""
        self._clock = clock
        self._clients = clients
        self._book = book
        self._is_leader = is_leader
        self._plan = plan
        self._saved: Record | None = None
        self._restored = False
        self._closing = False
        self._leads_since = float("-inf")

    async def meet_hub(self) -> None:
        """Load what the way to the hub needs while there is time: at the switch it took 170 ms of a core. What goes wrong shows
        when it is used."""
        plan = self._plan()
        if plan is None or plan.hub.connect is None:
            return
        with contextlib.suppress(KubeError):
            await self._clients.get(plan.hub.name)

    def leads(self) -> None:
        """This fleet has stood by until now."""
        self._leads_since = self._clock.now()

    async def take_up(self) -> None:
        """Go on with the sums of the colour that led before as soon as it has told its last."""
        while not self._restored:
            await self.keep()
            await self._clock.sleep(0.3)

    async def close(self) -> None:
        """Tell the last."""
        self._closing = True
        await self.keep()

    async def keep(self) -> None:
        """Read who leads; where that is this fleet, go on from the last checkpoint and write the next."""
        plan = self._plan()
        if plan is None or plan.hub.connect is None or plan.following is not None:
            return
        try:
            client = await self._clients.get(plan.hub.name)
            records = Records(client, plan.fleet.name, plan.fleet.doc.spec.state.namespace)
            self.leadership = await read_leadership(records)
            others = self.leadership is None or self.leadership.home not in ("", plan.home)
            self._is_leader.labels(plan.fleet.name).set(0.0 if others else 1.0)
            if others and not (self._closing and plan.epoch):
                return  # another fleet instance leads, and counts; it waits for the last word of one that has handed over to it
            if not self._restored:
                self._saved = await records.read("slo")
                theirs = self._saved is None or "closed" not in self._saved.data
                if theirs and not self._closing and self._clock.now() - self._leads_since < CLOSED_WITHIN:
                    return  # the observer of the colour that led before has not told its last
                if self._saved is not None and "book" in self._saved.data:
                    self._book.restore(base64.b64decode(self._saved.data["book"]))
                self._restored = True
            data = {"book": base64.b64encode(self._book.checkpoint()).decode()}
            if self._closing:
                data["closed"] = "true"
            self._saved = await records.write("slo", data, self._saved)
        except (KubeError, ValueError) as error:
            log.warning("the SLO checkpoint could not be kept: %s", error)
        except Conflict:
            self._saved = await records.read("slo")
