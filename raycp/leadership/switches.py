"""Changes of leadership and of primaries, with their phases, as a table.

Phases, in seconds: ``drain`` (the old holder stops handing out until its work is acknowledged), ``leaderless`` (from the end of
the drain, or the notice of a death, until a successor is promoted), ``ramp_up`` (until it hands out), ``backlog`` (until nothing
is ready and waiting). ``None``: not known yet, or the successor was replaced before.
"""

import msgspec

from raycp.leadership.records import Records

RECORD = "switches"
KEPT = 200
KEPT_TAILS = 20
"""The newest switches keep the tail of the process that died: the record has to fit into a ConfigMap."""



class Switch(msgspec.Struct, rename="camel"):
    """One switch. ``cause``: handover, drain (of a Ray node), placement, death, silence, cold start, start, restart. ``what``:
    ``leader`` or ``shard ID``; ``term``: the epoch's incarnation for the leader. ``at`` in Unix seconds. ``tail``: the last lines
    that the predecessor recorded (``raycp.metrics.recorder``), where its process died."""

    at: float
    cause: str
    what: str
    epoch: int
    term: int
    holder: str
    before: str = ""
    drain: float | None = None
    leaderless: float | None = None
    ramp_up: float | None = None
    backlog: float | None = None
    tail: list[str] = []


def add(history: list[Switch], switch: Switch) -> None:
    """Append a switch, and keep the newest ``KEPT``, with the tails of the newest ``KEPT_TAILS``."""
    history.append(switch)
    del history[:-KEPT]
    for old in history[:-KEPT_TAILS]:
        old.tail = []


async def read_switches(records: Records) -> list[Switch]:
    """The stored history, oldest first. One that can't be decoded counts as empty. Raises ``ApiError``, ``Unreachable``."""
    found = await records.read(RECORD)
    return [] if found is None else _decode(found.data)


async def write_switches(records: Records, history: list[Switch]) -> None:
    """Store it over the stored one. Raises ``Conflict``, ``ApiError``, ``Unreachable``."""
    found = await records.read(RECORD)
    await records.write(RECORD, {"switches": msgspec.json.encode(history).decode()}, found)


def _decode(data: dict[str, str]) -> list[Switch]:
    try:
        return msgspec.json.decode(data.get("switches", "[]"), type=list[Switch])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return []
