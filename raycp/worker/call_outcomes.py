"""How requests to clusters of other shards went: told to those shards, whose breakers they concern (law 5).

A failure is told at once, answers are counted and told a few times a second. What gets lost with a connection is missed: the
shard's own watches notice a dead cluster too.
"""

import asyncio
from collections.abc import Callable

from raycp.base.tasks import ApiCall
from raycp.protocol.frames import CallOutcome

EVERY = 0.25


class CallOutcomes:
    """One worker's. Lives on the user loop."""

    def __init__(self, send: Callable[[str, CallOutcome], None]) -> None:
        self._send = send
        self._open: dict[str, CallOutcome] = {}

    def note(self, shard: str, call: ApiCall) -> None:
        """One request to a cluster of ``shard``, and what came of it."""
        fared = self._open.get(shard)
        if fared is None:
            fared = self._open[shard] = CallOutcome({}, [])
            asyncio.get_running_loop().call_later(EVERY, self._tell, shard, fared)
        if call.status in (0, 429) or call.status >= 500:
            fared.failed.append(call)
            self._tell(shard, fared)
        else:
            fared.answered[call.cluster] = fared.answered.get(call.cluster, 0) + 1

    def _tell(self, shard: str, fared: CallOutcome) -> None:
        if self._open.get(shard) is fared:
            del self._open[shard]
            self._send(shard, fared)
