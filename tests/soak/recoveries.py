"""How soon a cluster is in use again after a fault: a pure reckoning of the faults that were played and of users' changes.

Faults of one cluster whose time of recovery overlaps are one episode. In use again: a change that a user has made after the last
end is served, and so is every other one that had to wait longer than ``PATIENCE`` for it. Seconds, of one clock, throughout.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE = 5.0
"""A change that waits longer was not served by a cluster in use."""


@dataclass(frozen=True, slots=True)
class Played:
    """A fault from ``begin`` to ``end``; ``allowed``: seconds after it until its cluster has to be in use again; ``named``: status
    has to name it while it lasts.
    """

    kind: str
    cluster: str
    begin: float
    end: float
    allowed: float
    named: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A user's change, and when its effect was written; infinite: not yet."""

    cluster: str
    made: float
    served: float


@dataclass(frozen=True, slots=True)
class Episode:
    """Faults of one cluster, or of the hub, that were not recovered from before the next one began."""

    cluster: str
    kinds: tuple[str, ...]
    begin: float
    end: float
    due: float
    """when the cluster has to be in use again"""
    last: str
    """the kind that allows the latest ``due``"""


@dataclass(frozen=True, slots=True)
class Recovery:
    """``took`` seconds after the end of the episode, None if no user has changed anything before the next one."""

    episode: Episode
    took: float | None

    @property
    def late(self) -> bool:
        return self.took is not None and self.took > self.episode.due - self.episode.end

    def __str__(self) -> str:
        it = self.episode
        took = "not judged" if self.took is None else f"in use again after {self.took:.1f} s"
        return f"{it.cluster}: {' + '.join(it.kinds)}, {it.end - it.begin:.1f} s: {took}, {it.due - it.end:.1f} s allowed"


def episodes(played: Iterable[Played], cluster: str, hub: str) -> list[Episode]:
    """Those that concern a cluster, in order: its own faults, and the hub's, where the permits to write come from."""
    found: list[Episode] = []
    for fault in sorted(played, key=lambda fault: fault.begin):
        if fault.cluster not in (cluster, hub):
            continue
        kind = fault.kind if fault.cluster == cluster else f"{fault.kind} of {hub}"
        due = fault.end + fault.allowed
        if found and fault.begin <= found[-1].due:
            last = found[-1]
            latest = fault.kind if due > last.due else last.last
            found[-1] = Episode(cluster, (*last.kinds, kind), last.begin, max(last.end, fault.end), max(last.due, due), latest)
        else:
            found.append(Episode(cluster, (kind,), fault.begin, fault.end, due, fault.kind))
    return found


def recoveries(played: Sequence[Played], changes: Sequence[Change], clusters: Iterable[str], hub: str) -> list[Recovery]:
    """One for each episode of each cluster."""
    found = []
    for cluster in clusters:
        mine = episodes(played, cluster, hub)
        ends = [*(each.begin for each in mine[1:]), float("inf")]
        for episode, next_one in zip(mine, ends, strict=True):
            seen = [c for c in changes if c.cluster == cluster and episode.end <= c.made < next_one - PATIENCE]
            late = [change.served for change in seen if change.served - change.made > PATIENCE]
            took = max([min(change.served for change in seen), *late]) - episode.end if seen else None
            found.append(Recovery(episode, took))
    return found


def worst(found: Iterable[Recovery]) -> dict[str, float]:
    """The longest recovery by kind of fault; one of an episode counts for the kind that allows the longest."""
    longest: dict[str, float] = {}
    for recovery in found:
        if recovery.took is not None:
            longest[recovery.episode.last] = max(longest.get(recovery.episode.last, 0.0), recovery.took)
    return longest


def changes_of(cluster: str, writes: Sequence[Mapping[str, Any]], made: str, effects: tuple[str, ...]) -> list[Change]:
    """Users' changes of resource ``made`` and raycp's next write with the same name of one of ``effects``, from the records of an
    API server. A write of raycp names its term.
    """
    found: list[Change] = []
    served: dict[str, float] = {}
    for row in reversed(writes):
        if row["term"] and row["resource"] in effects:
            served[row["name"]] = row["time"]
        elif not row["term"] and row["resource"] == made and row["verb"] != "delete":
            found.append(Change(cluster, row["time"], served.get(row["name"], float("inf"))))
    return found[::-1]
