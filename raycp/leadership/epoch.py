"""Epoch and incarnation: numbers that only rise, kept in the hub.

The *epoch* belongs to the fleet's leadership: it rises when a leadership begins that does not continue a living fleet. The
*incarnation* belongs to the leader's process: it rises with every restart. Both are written with compare-and-set before they
are used, so two leaders never hold the same pair (law 6d).
"""

from collections.abc import Mapping

import msgspec

from raycp.leadership.records import Conflict, Record, Records

RECORD = "leader"


class Leadership(msgspec.Struct, frozen=True):
    """Who leads, as recorded. ``since`` is Unix seconds of the epoch's start; ``permit`` how long leave to write lasts that this
    leader grants, in seconds; ``released`` says that all who held it are gone, and ``successor`` to whom. ``home`` is the fleet
    instance that the holder leads, ``lock`` the kind of its lock (``raycp.leadership.locks``)."""

    epoch: int
    incarnation: int
    holder: str
    since: float
    permit: float = 0.0
    released: bool = False
    home: str = ""
    lock: str = "ray"
    successor: str = ""

    @property
    def pair(self) -> tuple[int, int]:
        """Epoch and incarnation: of two leaderships the higher pair is the later one."""
        return self.epoch, self.incarnation


async def read_leadership(records: Records) -> Leadership | None:
    """The recorded leadership; None where none was ever recorded."""
    return await read_source(records, RECORD)


async def read_source(records: Records, what: str) -> Leadership | None:
    """Who led last by the record ``what``; None where nobody did. Raises ``ApiError``, ``Unreachable``."""
    return told_by(await records.read(what))


def told_by(found: Record | None) -> Leadership | None:
    """Who led last by a record as it was read."""
    return None if found is None or "epoch" not in found.data else decode(found.data)


class Acquisition(msgspec.Struct, frozen=True):
    """``mine`` is recorded; ``wait`` is how long, in seconds from now, holders of another epoch may still be permitted to write:
    a new epoch starts after that (law 6f). ``longest``: for how long holders of this epoch may be, in seconds from its recording:
    a leader before granted them that. ``proved``: when the write that took the lock over was sent; where there is nothing
    to wait for, that is the first proof. None where the lock was made: who may create may not be allowed to go on."""

    mine: Leadership
    wait: float
    longest: float = 0.0
    proved: float | None = None


class Allocation(msgspec.Struct, frozen=True):
    """Numbers that nobody else has or had. ``before``: who led last; ``going_on``: a living fleet in its epoch; ``record``: as
    it was written."""

    epoch: int
    incarnation: int
    since: float
    before: Leadership | None
    going_on: bool
    record: Record


class Recorded(msgspec.Struct, frozen=True):
    """``before``: the tenure that was noted before; ``record``: as it was written."""

    before: Leadership | None
    record: Record


def later(one: Leadership | None, other: Leadership | None) -> Leadership | None:
    """The later of two records."""
    known = [each for each in (one, other) if each is not None]
    return max(known, key=lambda each: each.pair, default=None)


async def allocate(
    records: Records, what: str, over: Record | None, held: Leadership | None, home: str, living_epoch: int, wall: float
) -> Allocation:
    """Epoch and incarnation for a leader of ``home``, higher than all that were allotted before, or held (``held`` is what
    its lock says). ``over``: how the record ``what`` was found to be; ``living_epoch``: of its members found alive, 0 for none.
    They are noted in the record at once, so that they are never used again. Raises ``ApiError``, ``Unreachable``; on conflict the
    record is read again.
    """
    found = over
    while True:
        data = found.data if found is not None else {}
        before = later(decode(data) if "epoch" in data else None, held)
        floor = _floor(data, before)
        epoch, incarnation, since = next_leadership(before, floor, home, living_epoch, wall)
        going_on = epoch == living_epoch and (before is None or before.epoch == epoch)
        floors = {"floor": f"{max(epoch, floor[0])}/{max(incarnation, floor[1])}"}
        try:
            written = await records.write(what, data | floors, found)
        except Conflict:
            found = await records.read(what)
            continue
        return Allocation(epoch, incarnation, since, before, going_on, written)


async def note(records: Records, what: str, mine: Leadership, over: Record | None = None) -> Recorded:
    """Note the tenure in the record ``what``. ``over``: how the record was found to be, if it was.

    Raises ``Conflict`` where a later one is noted, ``ApiError``, ``Unreachable``.
    """
    while True:
        found = over or await records.read(what)
        over = None
        data = found.data if found is not None else {}
        known = decode(data) if "epoch" in data else None
        if known is not None and known.pair > mine.pair:
            raise Conflict(f"{known.holder} leads in epoch {known.epoch}")
        floor = _floor(data, mine)
        try:
            written = await records.write(what, data | encode(mine) | {"floor": f"{floor[0]}/{floor[1]}"}, found)
        except Conflict:
            continue
        return Recorded(known, written)


def _floor(data: dict[str, str], known: Leadership | None) -> tuple[int, int]:
    """The highest epoch and the highest incarnation that were ever allotted."""
    try:
        epoch, incarnation = (int(part) for part in data.get("floor", "0/0").split("/"))
    except ValueError:
        epoch, incarnation = 0, 0
    return max(epoch, known.epoch if known else 0), max(incarnation, known.incarnation if known else 0)


def next_leadership(
    before: Leadership | None, floor: tuple[int, int], home: str, living_epoch: int, wall: float
) -> tuple[int, int, float]:
    """(epoch, incarnation, since) that follow ``before`` and all numbers up to ``floor``; never a pair that was used."""
    incarnation = floor[1] + 1
    if before is None:
        return max(floor[0] + 1, living_epoch), incarnation, wall
    if living_epoch and living_epoch >= before.epoch and before.home in ("", home):
        return living_epoch, incarnation, before.since if living_epoch == before.epoch else wall
    return max(floor[0], before.epoch, living_epoch) + 1, incarnation, wall


def encode(leadership: Leadership) -> dict[str, str]:
    """As kept in a lock or record: text by text."""
    return {
        "epoch": str(leadership.epoch),
        "incarnation": str(leadership.incarnation),
        "holder": leadership.holder,
        "since": f"{leadership.since:.3f}",
        "permit": f"{leadership.permit:g}",
        "released": "true" if leadership.released else "false",
        "home": leadership.home,
        "lock": leadership.lock,
        "successor": leadership.successor,
    }


def decode(data: Mapping[str, str]) -> Leadership:
    """What ``encode`` wrote; what somebody spoilt counts as epoch 0, before all others."""
    try:
        return Leadership(
            int(data["epoch"]),
            int(data["incarnation"]),
            data.get("holder", ""),
            float(data.get("since", "0")),
            float(data.get("permit", "0")),
            data.get("released") == "true",
            data.get("home", ""),
            data.get("lock", "ray"),
            data.get("successor", ""),
        )
    except (KeyError, ValueError):
        return Leadership(0, 0, "", 0.0)
