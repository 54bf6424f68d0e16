"""Asks a cluster's API server whether it is well as a whole, so that no user's task has to fail for that.

While the breaker is not closed, its probes are sent from here. And before failures of one group of APIs (``/apis/GROUP/...``, which
another process may serve: aggregation) count against the server, the server is asked: it may be that group alone that fails (law
11). So it is when nothing has come from it for a while: a server that is frozen refuses nothing, and its watches would say so only
after ``ReflectorOptions.stall``.
"""

import logging
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.kube import ApiError, ClusterClient, KubeError
from raycp.kube.breaker import Breaker, BreakerPhase
from raycp.kube.errors import UNABLE

log = logging.getLogger(__name__)

PROBE_TIMEOUT = 2.0
SILENT = 15.0
"""Seconds without a byte of a watch, or an answer to a question, after which a server is asked."""

EVERY = 1.0
"""Least seconds between two questions because of one group's failures."""


class ServerProbe:
    """One cluster's. The client reports the outcome of a probe to ``breaker``, which it shares."""

    def __init__(self, clock: Clock, breaker: Breaker, client: Callable[[], ClusterClient | None]) -> None:
        self._clock = clock
        self._breaker = breaker
        self._client = client
        self._doubts: list[tuple[str, float]] = []
        self._well_at = float("-inf")
        self.busy = False
        """``run`` is at work, or is started again after an exception."""
        self.ended = False
        """The cluster has left: nothing is asked any more."""

    @property
    def wanted(self) -> bool:
        """Whether there is something to ask."""
        return not self.ended and (bool(self._doubts) or self._breaker.state is not BreakerPhase.CLOSED)

    def doubt(self, reason: str, sent: float) -> None:
        """A request to one group failed, which was sent at ``sent``. It counts once the server has failed, too."""
        if self._clock.now() - self._well_at >= EVERY:
            self._doubts.append((reason, sent))

    def silent(self, contact: float) -> None:
        """The server's watches have received nothing since ``contact``."""
        now = self._clock.now()
        if now - max(contact, self._well_at) >= SILENT and not self.wanted:
            self._doubts.append((f"nothing was received from it for {now - contact:.0f} s", now))

    async def run(self) -> None:
        """Ask until there is nothing to ask."""
        self.busy = True
        while self.wanted:
            client = self._client()
            closed = self._breaker.state is BreakerPhase.CLOSED
            if client is None or not (closed or self._breaker.allow()):
                self._settle_doubts(well=client is not None)
                await self._clock.sleep(0.1)
                continue
            self._settle_doubts(well=await self._ask(client))
        self.busy = False

    async def _ask(self, client: ClusterClient) -> bool:
        try:
            await client.identity(timeout=PROBE_TIMEOUT, priority=0)
        except KubeError as error:
            if not isinstance(error, ApiError) or error.status in UNABLE:
                log.debug("probe of cluster %s: %s", client.name, error)
                return False
        self._well_at = self._clock.now()
        return True

    def _settle_doubts(self, *, well: bool) -> None:
        doubts, self._doubts = self._doubts, []
        if not well:
            for reason, sent in doubts:
                self._breaker.failure(reason, sent)
