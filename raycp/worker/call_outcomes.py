"""How requests to clusters of other shards went, reported to those shards: their breakers need it (law 5).

A failure is reported at once, answers are counted and reported a few times a second. Reports that are lost with a connection are
not repeated: the shard's own watches notice a dead cluster too.
"""

import asyncio
from collections.abc import Callable

from raycp.base.tasks import ApiCall
from raycp.kube.errors import UNABLE
from raycp.protocol.frames import CallOutcome

EVERY = 0.25
"""Seconds between two reports to a shard."""


class CallOutcomes:
    """One worker's. Lives on the user loop."""

    def __init__(self, send: Callable[[str, CallOutcome], None]) -> None:
        self._send = send
        self._open: dict[str, CallOutcome] = {}

    def record(self, shard: str, call: ApiCall) -> None:
        """One request to a cluster of ``shard``."""
        outcome = self._open.get(shard)
        if outcome is None:
            outcome = self._open[shard] = CallOutcome({}, [])
            asyncio.get_running_loop().call_later(EVERY, self._report, shard, outcome)
        if call.status in (0, 429) or call.status in UNABLE or call.status >= 500:
            outcome.failed.append(call)
            self._report(shard, outcome)
        else:
            outcome.answered[call.cluster] = outcome.answered.get(call.cluster, 0) + 1

    def _report(self, shard: str, outcome: CallOutcome) -> None:
        if self._open.get(shard) is outcome:
            del self._open[shard]
            self._send(shard, outcome)
