"""The fleet's own condition in its hub: ConfigMap ``raycp-FLEET-condition``, for who asks the hub and not the fleet.

Its data are those of a Kubernetes condition of type ``Ready`` (API conventions, typical status properties), out of the status that
the leader sends to the observer, so that hub, ``/readyz`` and ``raycp status`` say the same. ``observedTime`` is renewed every
``RENEW`` seconds: a condition that is much older is that of a fleet which nobody leads.
"""

import logging
from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.kube import KubeError
from raycp.leadership.records import Conflict, Records
from raycp.protocol.status import FleetStatus, ReadinessState
from raycp.sdk.conditions import time_text

log = logging.getLogger(__name__)

RECORD = "condition"
EVERY = 1.0
RENEW = 30.0
REWORD = 3.0
"""Seconds between two writes because of words alone: a message may count seconds."""

MOST_PROBLEMS = 50
"""Problems that it names."""

LONGEST = 32_768
"""Characters of its message (``metav1.Condition``); of thousands of clusters that are down, a ConfigMap could not hold all."""

REASONS = {ReadinessState.READY: "Ready", ReadinessState.DEGRADED: "Degraded", ReadinessState.NOT_READY: "NotReady"}


class FleetCondition:
    """One per leader. ``records``: the hub's, None while this leader may not write them."""

    def __init__(self, clock: Clock, loops: Loops, records: Callable[[], Records | None]) -> None:
        self.problem = ""
        """Why it could not be stored."""
        self._clock = clock
        self._loops = loops
        self._records = records
        self._status: FleetStatus | None = None
        self._stored: dict[str, str] = {}
        self._facts: object = None
        self._stored_at = float("-inf")
        self._begun = False

    def begin(self) -> None:
        """Store it from now on."""
        if not self._begun:
            self._begun = True
            self._loops.forever(self._store, LoopName.CONDITION, every=EVERY)

    def observed(self, status: FleetStatus) -> None:
        """The fleet's status now; returns at once."""
        self._status = status

    async def _store(self) -> None:
        records, status = self._records(), self._status
        if records is None or status is None or not status.fleet:
            return
        data = condition_of(status)
        facts = (data["reason"], frozenset(problem.subject for problem in status.found))
        now = self._clock.now()
        age = now - self._stored_at
        if facts == self._facts and age < (RENEW if data == self._stored else REWORD):
            self.problem = ""  # what could not be stored has passed
            return
        try:
            found = await records.read(RECORD)
            known = found.data if found is not None else {}
            wall = time_text(self._clock.wall())
            moved = known.get("lastTransitionTime") if known.get("reason") == data["reason"] else None
            await records.write(RECORD, {**data, "lastTransitionTime": moved or wall, "observedTime": wall}, found)
        except (KubeError, Conflict, TimeoutError) as error:
            self.problem = str(error) or type(error).__name__
            log.info("the fleet's condition could not be stored: %s", self.problem)
            return
        self.problem, self._stored, self._facts, self._stored_at = "", data, facts, now


def condition_of(status: FleetStatus) -> dict[str, str]:
    """What the status says, without times of its own. Pure."""
    state = ReadinessState(status.readiness or ReadinessState.NOT_READY)
    problems = [msgspec.to_builtins(each) for each in status.found[:MOST_PROBLEMS]]
    return {
        "type": "Ready",
        "status": "False" if state is ReadinessState.NOT_READY else "True",
        "reason": REASONS[state],
        "message": _message(status.reasons),
        "problems": msgspec.json.encode(problems).decode(),
    }


def _message(reasons: list[str]) -> str:
    whole = "; ".join(reasons)
    if len(whole) <= LONGEST:
        return whole
    more = f"... (there are {len(reasons)} reasons)"
    return f"{whole[: LONGEST - len(more)]}{more}"
