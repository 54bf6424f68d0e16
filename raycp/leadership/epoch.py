"""Epoch and incarnation: numbers that only rise, kept in the hub.

The *epoch* belongs to the fleet's leadership: it rises when a leadership begins that does not continue a living fleet. The
*incarnation* belongs to the leader's process: it rises with every restart. Both are written with compare-and-set before they
are used, so two leaders never hold the same pair (law 6d).
"""

from collections.abc import Mapping

import msgspec

from raycp.leadership.records import Conflict, Record, Records

RECORD = "leader"

HIGHEST = 2**53
"""Of an epoch or incarnation: what JSON and msgpack carry everywhere. A record with a higher one can't be decoded."""

LATEST = 253_402_300_799.0
"""The end of the year 9999, in Unix seconds: a later time can't be written as text. A record with one can't be decoded."""

LONGEST_PERMIT = 86_400.0
"""Seconds: a record with a longer permit can't be decoded, or its successor would wait for ever."""

TRIES = 32
"""Of a write that conflicts with those of other clients."""


class Leadership(msgspec.Struct, frozen=True):
    """Who leads, as recorded. ``since`` is Unix seconds of the epoch's start; ``permit`` the length of the permits that this leader
    grants, in seconds; ``released`` says that all of them have ended, and ``successor`` to whom the lock was given. ``home`` is the
    fleet instance that the holder leads, ``lock`` the kind of its lock (``raycp.leadership.locks``)."""

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


async def read_leadership(records: Records, what: str = RECORD) -> Leadership | None:
    """The last leadership in the record ``what``; None for none. Raises ``ApiError``, ``Unreachable``."""
    return leadership_of(await records.read(what))


def leadership_of(found: Record | None) -> Leadership | None:
    """The last leadership in a record as it was read."""
    return None if found is None or "epoch" not in found.data else decode(found.data)


class Acquisition(msgspec.Struct, frozen=True):
    """``mine`` is recorded. ``wait``: seconds from now for which permits of another epoch may be valid: a new epoch starts after
    that (law 6f). ``longest``: the longest permit that a predecessor may have granted in this epoch, in seconds from the recording.
    ``proved``: when the write that acquired the lock was sent; where ``wait`` is 0, that is the first proof. None where the lock
    was created: the right to create does not imply the right to update."""

    mine: Leadership
    wait: float
    longest: float = 0.0
    proved: float | None = None


class Allocation(msgspec.Struct, frozen=True):
    """An epoch and incarnation that no other leader has or had. ``before``: who led last; ``continues``: a living fleet's epoch
    goes on; ``record``: as it was written."""

    epoch: int
    incarnation: int
    since: float
    before: Leadership | None
    continues: bool
    record: Record


class Recorded(msgspec.Struct, frozen=True):
    """``before``: the leadership that was noted before; ``record``: as it was written."""

    before: Leadership | None
    record: Record


def later(one: Leadership | None, other: Leadership | None) -> Leadership | None:
    """The later of two records."""
    known = [each for each in (one, other) if each is not None]
    return max(known, key=lambda each: each.pair, default=None)


async def allocate(
    records: Records,
    what: str,
    over: Record | None,
    held: Leadership | None,
    home: str,
    living_epoch: int,
    wall: float,
    least: tuple[int, int] = (0, 0),
) -> Allocation:
    """Allocate epoch and incarnation for a leader of ``home``: higher than all that were allocated before, are in the lock
    (``held``), or have led by what is known from elsewhere (``least``). ``over``: the record ``what`` as it was read;
    ``living_epoch``: of the members found alive, 0 for none. The record names them at once, so they are never used again. After a
    conflict the record is read again. Raises ``KubeError``, and ``Conflict`` where other clients write first all the time.
    """
    found = over
    if living_epoch < least[0]:
        living_epoch = 0  # another fleet has led since: that epoch does not go on
    for _ in range(TRIES):
        data = found.data if found is not None else {}
        before = later(decode(data) if "epoch" in data else None, held)
        recorded = _floor(data, before)
        floor = max(recorded[0], least[0]), max(recorded[1], least[1])
        epoch, incarnation, since = next_leadership(before, floor, home, living_epoch, wall)
        continues = epoch == living_epoch and (before is None or before.epoch == epoch)
        floors = {"floor": f"{max(epoch, floor[0])}/{max(incarnation, floor[1])}"}
        try:
            written = await records.write(what, data | floors, found)
        except Conflict:
            found = await records.read(what)
            continue
        return Allocation(epoch, incarnation, since, before, continues, written)
    raise Conflict(f"the record {what} is written by other clients all the time")


async def note(records: Records, what: str, mine: Leadership, over: Record | None = None) -> Recorded:
    """Write the leadership into the record ``what``. ``over``: the record as it was read; None reads it.

    Raises ``Conflict`` where a later one is recorded, or other clients write first all the time; ``KubeError``.
    """
    for _ in range(TRIES):
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
    raise Conflict(f"the record {what} is written by other clients all the time")


def _floor(data: dict[str, str], known: Leadership | None) -> tuple[int, int]:
    """The highest epoch and the highest incarnation that were ever allocated."""
    try:
        epoch, incarnation = (_number(part) for part in data.get("floor", "0/0").split("/"))
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
    """The fields as a lock or record stores them: strings."""
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
    """The inverse of ``encode``; what can't be decoded counts as epoch 0, before all others."""
    try:
        return Leadership(
            _number(data["epoch"]),
            _number(data["incarnation"]),
            data.get("holder", ""),
            _seconds(data.get("since", "0"), LATEST),
            _seconds(data.get("permit", "0"), LONGEST_PERMIT),
            data.get("released") == "true",
            data.get("home", ""),
            data.get("lock", "ray"),
            data.get("successor", ""),
        )
    except (KeyError, ValueError):
        return Leadership(0, 0, "", 0.0)


def _number(text: str) -> int:
    """Raises ``ValueError``."""
    found = int(text)
    if not 0 <= found <= HIGHEST:
        raise ValueError(f"{found} is out of range")
    return found


def _seconds(text: str, most: float) -> float:
    """Raises ``ValueError``, also for infinity and what is no number."""
    found = float(text)
    if not 0.0 <= found <= most:
        raise ValueError(f"{text} is out of range")
    return found
