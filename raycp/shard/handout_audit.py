"""No hand-out and no credit is lost: once a second, what a shard, its queue and its workers say of them is compared.

A lost hand-out is a key that nobody reconciles (law 2); lost credit is a slot that nobody uses. Every step hands both on or fails
for its key alone; the audit finds what a fault in any step has lost nevertheless.

| compared | mended |
|---|---|
| what the queue counts as handed out, with the ledger's hand-outs | the key returns |
| the ledger's hand-outs, with what workers' seats have | the key returns |
| what a seat has, with what its worker reports to have | revoked at the worker, then the key returns |
| credit and hand-outs of a seat, with what its worker counts | credit is granted, or taken back |

A worker that is slow loses nothing: it reports what it runs, however long that takes. One that reports not to have a hand-out has
received the frame that brought it, since frames arrive in their order and are counted. Before the key returns (law 1) the hand-out
is revoked there, so that a reconcile of it that the worker has lost sight of can write no more, and the worker must report once
more that it does not have it, after it has received that.
"""

import logging
from typing import Protocol

from raycp.metrics import HandoutMetrics
from raycp.protocol.frames import Held
from raycp.shard.handouts import WorkerSeat
from raycp.shard.ledger import Ledger

log = logging.getLogger(__name__)


class AuditedSeats(Protocol):
    """The dispatcher, as the audit needs it."""

    @property
    def seats(self) -> dict[str, WorkerSeat]: ...

    @property
    def unseen(self) -> set[int]:
        """Hand-outs that are acknowledged, and wait for a write."""
        ...

    def give_back(self, seat: WorkerSeat, identity: int, error: str) -> None:
        """A living worker does not have this hand-out."""
        ...

    def release(self, seat: WorkerSeat, identity: int) -> None:
        """Nor this one of an earlier primary."""
        ...

    def revoke(self, seat: WorkerSeat, ids: list[int]) -> None: ...

    def dispatch_soon(self) -> None: ...


class HandoutAudit:
    """One shard's. ``HandoutMetrics.recovered`` counts what was mended: none in a fleet without faults of its own."""

    def __init__(self, ledger: Ledger, seats: AuditedSeats, metrics: HandoutMetrics) -> None:
        self._ledger = ledger
        self._seats = seats
        self._recovered = metrics.recovered

    def check(self) -> None:
        """Compare queue, ledger and seats."""
        for key in self._ledger.recover_strays():
            self._report("queue", f"{key} was handed out by the queue, and no hand-out of it is open")
        held = {identity for seat in self._seats.seats.values() for identity in seat.in_flight} | self._seats.unseen
        lost = [handout.task for handout in self._ledger.working.values() if handout.task.id not in held]
        for task in lost:
            self._ledger.returned(task.id, "no worker has its hand-out")
            self._report("ledger", f"the hand-out of {task.key} is open, and no worker has it")
        if lost:
            self._seats.dispatch_soon()

    def held(self, seat: WorkerSeat, report: Held) -> None:
        """Compare a seat with its worker's report. All that the worker sent before it has been handled."""
        seat.reported.update(report.ids)
        if report.more:
            return
        held, seat.reported = seat.reported, set()
        self._missing(seat, held, report.frames)
        self._credit(seat, report.outstanding)

    def _missing(self, seat: WorkerSeat, held: set[int], frames: int) -> None:
        received = [identity for identity, number in seat.in_flight.items() if number <= frames]
        missing = {identity for identity in (*received, *seat.foreign) if identity not in held}
        for identity in [identity for identity, number in seat.revoked.items() if identity in missing and number <= frames]:
            missing.discard(identity)
            del seat.revoked[identity]
            if identity in seat.in_flight:
                self._seats.give_back(seat, identity, "its worker does not have its hand-out")
            else:
                self._seats.release(seat, identity)
            self._report("worker", f"{seat.name} does not have hand-out {identity}")
        fresh = [identity for identity in missing if identity not in seat.revoked]
        if fresh:
            self._seats.revoke(seat, fresh)
        number = seat.connection.sent if seat.connection is not None else 0
        seat.revoked = {identity: seat.revoked.get(identity, number) for identity in missing}

    def _credit(self, seat: WorkerSeat, outstanding: int) -> None:
        """What a worker counts is what it has given; a seat that has less has lost some, on the way of a hand-out or of credit."""
        surplus = seat.credit + len(seat.in_flight) + len(seat.foreign) - outstanding
        if surplus < 0:
            seat.credit -= surplus
            self._report("credit", f"{-surplus} slots of {seat.name} were not in use", -surplus)
            self._seats.dispatch_soon()
        elif surplus > 0 and seat.credit:
            taken = min(seat.credit, surplus)
            seat.credit -= taken
            self._report("credit", f"{taken} slots of {seat.name} were counted twice", taken)

    def _report(self, where: str, what: str, count: int = 1) -> None:
        log.error("recovered: %s", what)
        self._recovered.labels(where).inc(count)
