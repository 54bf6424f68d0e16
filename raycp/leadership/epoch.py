"""Epoch and incarnation: numbers that only rise, kept in the hub.

The *epoch* belongs to the fleet's leadership: it rises when a leadership begins that does not continue a living fleet. The
*incarnation* belongs to the leader's process: it rises with every restart. Both are written with compare-and-set before they
are used, so two leaders never hold the same pair (law 6d).
"""

import msgspec

from raycp.base.clock import Clock
from raycp.leadership.records import Conflict, Records

RECORD = "leader"


class Leadership(msgspec.Struct, frozen=True):
    """Who leads, as recorded. ``since`` is Unix seconds of the epoch's start; ``permit`` how long leave to write lasts that this
    leader grants, in seconds; ``released`` says that all who held it are gone."""

    epoch: int
    incarnation: int
    holder: str
    since: float
    permit: float = 0.0
    released: bool = False


async def read_leadership(records: Records) -> Leadership | None:
    """The recorded leadership; None where none was ever recorded."""
    found = await records.read(RECORD)
    return None if found is None else _decode(found.data)


class Entered(msgspec.Struct, frozen=True):
    """``mine`` is recorded; ``wait`` is how long, in seconds from now, holders of another epoch may still be permitted to write:
    a new epoch starts after that (law 6f)."""

    mine: Leadership
    wait: float


async def enter(records: Records, holder: str, clock: Clock, permit: float, living_epoch: int = 0) -> Entered:
    """Become the recorded leader.

    ``living_epoch`` is the epoch of the members found alive, 0 for none: a leader that comes back to a living fleet goes on
    with its epoch, any other begins the next. Raises ``ApiError``, ``Unreachable``; retries on conflict, since each retry
    reads what the other wrote.
    """
    while True:
        found = await records.read(RECORD)
        before = None if found is None else _decode(found.data)
        epoch, incarnation, since = next_leadership(before, living_epoch, clock.wall())
        mine = Leadership(epoch, incarnation, holder, since, permit)
        try:
            await records.write(RECORD, _encode(mine), found)
        except Conflict:
            continue
        going_on = before is None or before.released or epoch == before.epoch
        return Entered(mine, 0.0 if going_on or before is None else max(permit, before.permit))


PROOF_TIMEOUT = 1.5
"""Of the read that proves leadership, in seconds: short, so that one lost answer does not end all permits."""


async def confirm(records: Records, mine: Leadership, priority: int) -> Leadership | None:
    """The recorded leadership, for its holder's proof. A record that was deleted, or that is older than ``mine`` (restored from a
    backup), is written again. Raises ``Conflict``, ``ApiError``, ``Unreachable``."""
    found = await records.read(RECORD, priority, PROOF_TIMEOUT)
    known = None if found is None else _decode(found.data)
    if known is None or (known.epoch, known.incarnation) < (mine.epoch, mine.incarnation):
        await records.write(RECORD, _encode(mine), found)
        return mine
    return known


async def release(records: Records, mine: Leadership) -> None:
    """All holders of this epoch are gone: the next one need not wait for them.

    Raises ``Conflict``, ``ApiError``, ``Unreachable``.
    """
    found = await records.read(RECORD)
    if found is None:
        return
    known = _decode(found.data)
    if (known.epoch, known.incarnation) == (mine.epoch, mine.incarnation):
        await records.write(RECORD, _encode(msgspec.structs.replace(mine, released=True)), found)


def next_leadership(before: Leadership | None, living_epoch: int, wall: float) -> tuple[int, int, float]:
    """(epoch, incarnation, since) that follow ``before``; never a pair that was used."""
    if before is None:
        return max(1, living_epoch), 1, wall
    if living_epoch and living_epoch >= before.epoch:
        since = before.since if living_epoch == before.epoch else wall
        return living_epoch, before.incarnation + 1, since
    return before.epoch + 1, before.incarnation + 1, wall


def _encode(leadership: Leadership) -> dict[str, str]:
    return {
        "epoch": str(leadership.epoch),
        "incarnation": str(leadership.incarnation),
        "holder": leadership.holder,
        "since": f"{leadership.since:.3f}",
        "permit": f"{leadership.permit:g}",
        "released": "true" if leadership.released else "false",
    }


def _decode(data: dict[str, str]) -> Leadership:
    try:
        return Leadership(
            int(data["epoch"]),
            int(data["incarnation"]),
            data.get("holder", ""),
            float(data.get("since", "0")),
            float(data.get("permit", "0")),
            data.get("released") == "true",
        )
    except (KeyError, ValueError):
        return Leadership(0, 0, "", 0.0)
