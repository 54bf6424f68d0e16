"""What a person orders of a running fleet, by a command or in the console: pauses, drains, reconciles now, hand-overs of shards."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from raycp.leader.application import Application
from raycp.leader.plan_store import PlanStore
from raycp.leader.roster import Roster
from raycp.protocol.amendments import with_drain, with_pause
from raycp.protocol.control import (
    Amended,
    ControlError,
    ErrorCode,
    HandOver,
    HandoverResult,
    MakeDue,
    ReconcileNow,
    RequestedKey,
    SetDrain,
    SetPause,
)
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

SHARD_WITHIN = 5.0
"""Seconds that a shard's primary may take to answer: it queues some keys."""


class OperatorOrders:
    """One per leader. ``hand_over``: see ``ShardHandover.hand_over``."""

    def __init__(
        self,
        substrate: Substrate,
        plans: PlanStore,
        roster: Roster,
        application: Application,
        hand_over: Callable[[list[str]], Awaitable[list[HandoverResult]]],
    ) -> None:
        self._substrate = substrate
        self._plans = plans
        self._roster = roster
        self._application = application
        self._hand_over = hand_over

    async def run(
        self, order: SetPause | SetDrain | ReconcileNow | HandOver
    ) -> Amended | list[RequestedKey] | list[HandoverResult]:
        """Do it. Raises ``ControlError``."""
        log.info("%s", order, extra={"by": order.by})
        match order:
            case SetPause(paused, clusters, controllers):
                return await self._application.amend(partial(with_pause, clusters=clusters, controllers=controllers, paused=paused))
            case SetDrain(drained, clusters):
                return await self._application.amend(partial(with_drain, clusters=clusters, drained=drained))
            case ReconcileNow():
                return await self._reconcile(order)
            case HandOver(shards):
                return await self._handed_over(shards)

    async def _reconcile(self, order: ReconcileNow) -> list[RequestedKey]:
        plan = self._plans.plan
        if plan is None or plan.following is not None:
            raise ControlError(ErrorCode.REFUSED, "this fleet is not active: it reconciles nothing")
        names = [cluster.name for cluster in plan.clusters]
        if order.cluster not in names:
            raise ControlError(ErrorCode.NOT_FOUND, f"the fleet has no cluster {order.cluster!r}; there are: {', '.join(names)}")
        shard = plan.cluster(order.cluster).shard
        primary = self._roster.primary_of(shard)
        if primary is None:
            raise ControlError(ErrorCode.BUSY, f"shard {shard} has no primary at the moment: ask again")
        asked = MakeDue(order.cluster, order.kind, order.namespace, order.name, order.controller, order.by)
        try:
            return await self._substrate.ask(primary.member, asked, timeout=SHARD_WITHIN)
        except MemberFailed as error:
            code = ErrorCode.BUSY if error.code is ErrorCode.NOT_PRIMARY else error.code
            raise ControlError(code, str(error)) from error
        except (MemberDied, MemberUnavailable) as error:
            raise ControlError(ErrorCode.BUSY, f"shard {shard} does not answer: {error}; ask again") from error

    async def _handed_over(self, shards: list[str]) -> list[HandoverResult]:
        try:
            return await self._hand_over(shards)
        except KeyError as error:
            raise ControlError(ErrorCode.NOT_FOUND, str(error.args[0])) from error
        except TimeoutError as error:
            raise ControlError(ErrorCode.TIMED_OUT, "it took longer than leader.handover.timeout: see `raycp status`") from error
        except RuntimeError as error:
            raise ControlError(ErrorCode.REFUSED, str(error)) from error
