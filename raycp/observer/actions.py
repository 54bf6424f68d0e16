"""The console's actions: what the JSON of a request orders of the leader, and what the leader's answer means over HTTP.

| action | fields | order |
|---|---|---|
| ``pause``, ``resume`` | ``clusters``, ``controllers`` | ``SetPause`` |
| ``reconcile`` | ``cluster``, ``kind``, ``namespace``, ``name``, ``controller`` (none: all of its) | ``ReconcileNow`` |
| ``drain``, ``undrain`` | ``clusters`` | ``SetDrain`` |
| ``handover`` | ``shards`` (all, where there are none) | ``HandOver`` |

All but ``handover`` may be repeated: once more changes nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from raycp.protocol.control import Amended, ErrorCode, HandOver, Question, ReconcileNow, SetDrain, SetPause
from raycp.protocol.substrate import LeaderAsk, MemberDied, MemberFailed, MemberUnavailable

WITHIN = 10.0
"""Seconds that the leader may take."""

HANDED_OVER_WITHIN = 60.0
"""Seconds that it may take to hand shards over."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Names = Annotated[list[Name], msgspec.Meta(max_length=1000)]


class ActionFields(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the JSON of a request says. ``order`` raises ``ValueError`` where that is not enough."""

    within: ClassVar[float] = WITHIN

    def order(self, action: str, by: str) -> Question[Any]:
        """What is asked of the leader."""
        raise NotImplementedError


class PauseFields(ActionFields, frozen=True):
    """Of ``pause`` and ``resume``."""

    clusters: Names = []
    controllers: Names = []

    def order(self, action: str, by: str) -> Question[Any]:
        if not (self.clusters or self.controllers):
            raise ValueError("name what: clusters, controllers, or both")
        return SetPause(action == "pause", self.clusters, self.controllers, by)


class DrainFields(ActionFields, frozen=True):
    """Of ``drain`` and ``undrain``."""

    clusters: Names

    def order(self, action: str, by: str) -> Question[Any]:
        if not self.clusters:
            raise ValueError("name a cluster")
        return SetDrain(action == "drain", self.clusters, by)


class ReconcileNowFields(ActionFields, frozen=True):
    """Of ``reconcile``: an object, as ``raycp why`` names it."""

    cluster: Name
    kind: Name
    name: Name
    namespace: str = ""
    controller: str = ""

    def order(self, action: str, by: str) -> Question[Any]:
        return ReconcileNow(self.cluster, self.kind, self.namespace, self.name, self.controller, by)


class HandoverFields(ActionFields, frozen=True):
    """Of ``handover``."""

    shards: Names = []
    within: ClassVar[float] = HANDED_OVER_WITHIN

    def order(self, action: str, by: str) -> Question[Any]:
        return HandOver(self.shards, by)


ACTIONS: Mapping[str, type[ActionFields]] = {
    "pause": PauseFields,
    "resume": PauseFields,
    "reconcile": ReconcileNowFields,
    "drain": DrainFields,
    "undrain": DrainFields,
    "handover": HandoverFields,
}
"""By the name in the address."""


class ActionOutcome(msgspec.Struct, frozen=True):
    """The HTTP status, and the answer as JSON; of what was not done, ``error`` says why."""

    status: int
    answer: dict[str, Any]

    def __str__(self) -> str:
        if "error" in self.answer:
            return str(self.answer["error"])
        return "done" if self.answer.get("changed", True) else "it was so before"


_STATUS = {
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.REFUSED: 409,
    ErrorCode.BUSY: 409,
    ErrorCode.HANDED_OVER: 409,
    ErrorCode.TIMED_OUT: 504,
}
"""Of failures that the leader answers with; 502 for any other."""


UNKNOWN = "the leader did not answer {}: it is not known whether this was done; look, and repeat it"


def failed(status: int, error: str) -> ActionOutcome:
    """Nothing was done, or it is not known what was."""
    return ActionOutcome(status, {"error": error})


def read(action: str, body: bytes) -> ActionFields:
    """The fields of a request. Raises ``ValueError`` with what is wrong with them."""
    try:
        return msgspec.json.decode(body or b"{}", type=ACTIONS[action])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the body is not the JSON of this action: {error}") from error


async def perform(ask: LeaderAsk, order: Question[Any], within: float) -> ActionOutcome:
    """Give the order to the leader, and wait up to ``within`` seconds for what comes of it."""
    try:
        found = await ask(order, within)
    except MemberFailed as error:
        return failed(_STATUS.get(error.code, 502), str(error.__cause__ or error))
    except (MemberDied, MemberUnavailable, TimeoutError) as error:
        return failed(503, UNKNOWN.format(f"({str(error) or type(error).__name__})"))
    if isinstance(found, Amended):
        return ActionOutcome(200, msgspec.to_builtins(found))
    rows = msgspec.to_builtins(found)
    if isinstance(order, ReconcileNow):
        return ActionOutcome(200, {"keys": rows})
    refused = [f"shard {row['shard']}: {row['problem']}" for row in rows if row["problem"]]
    return ActionOutcome(409 if refused else 200, {"shards": rows, **({"error": "; ".join(refused)} if refused else {})})
