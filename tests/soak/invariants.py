"""The invariants after a soak: pure checks of what was recorded. Each returns its violations as text."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """One reconcile: ``end`` is infinite if none was recorded and the process was not stopped."""

    key: str
    pid: int
    begin: float
    end: float


def spans(entries: Iterable[Mapping[str, Any]], stopped: Mapping[int, float]) -> list[Span]:
    """Reconciles from the lines of the controller's log. ``stopped``: pid -> the time at which it was killed, or frozen for
    longer than its permit, in seconds of ``CLOCK_BOOTTIME``, like the times of the log.
    """
    open_: dict[str, Mapping[str, Any]] = {}
    found = []
    last: dict[int, float] = {}
    for entry in entries:
        last[entry["pid"]] = max(entry["at"], last.get(entry["pid"], 0.0))
        if entry["what"] == "begin":
            open_[entry["id"]] = entry
        elif entry["what"] == "end" and (begun := open_.pop(entry["id"], None)) is not None:
            end = min(entry["at"], stopped.get(entry["pid"], float("inf")))
            found.append(Span(begun["key"], begun["pid"], begun["at"], max(end, begun["at"])))
    # No end: its process died during it, and not before its last line.
    for begun in open_.values():
        end = min(last[begun["pid"]], stopped.get(begun["pid"], float("inf")))
        found.append(Span(begun["key"], begun["pid"], begun["at"], max(end, begun["at"])))
    return found


def overlaps(found: Iterable[Span]) -> list[str]:
    """Law 1: no key in two reconciles at the same time."""
    by_key: dict[str, list[Span]] = defaultdict(list)
    for span in found:
        by_key[span.key].append(span)
    wrong = []
    for key, mine in by_key.items():
        mine.sort(key=lambda span: span.begin)
        latest = mine[0]
        for span in mine[1:]:
            if span.begin < latest.end:
                wrong.append(
                    f"{key}: process {span.pid} began at {span.begin:.3f}, process {latest.pid} ran from {latest.begin:.3f} "
                    f"to {latest.end:.3f}"
                )
            if span.end > latest.end:
                latest = span
    return wrong


def made_twice(writes: Mapping[str, Sequence[Mapping[str, Any]]], resource: str = "pods") -> list[str]:
    """No Pod was created twice, in one cluster or in two. ``writes``: cluster -> the records of its API server."""
    made: Counter[str] = Counter()
    where: dict[str, list[str]] = defaultdict(list)
    for cluster, rows in writes.items():
        for row in rows:
            if row["resource"] == resource and row["verb"] == "create":
                name = f"{row['namespace']}/{row['name']}"
                made[name] += 1
                where[name].append(f"{cluster} (term {row['term']}, {row['time']:.3f})")
    return [f"{name} was made {count} times: {', '.join(where[name])}" for name, count in made.items() if count > 1]


def late_writes(writes: Mapping[str, Sequence[Mapping[str, Any]]], same_object: bool = False) -> list[str]:
    """Law 6: no write of an old epoch or term took effect after the first of a newer one of the same shard.

    ``same_object``: only if both wrote the same object.
    """
    ours = ((row["time"], number, cluster, row) for cluster, found in writes.items() for number, row in enumerate(found))
    rows = sorted((each for each in ours if each[3]["term"]), key=lambda each: each[:2])
    newest: dict[str, tuple[int, int]] = {}
    first: dict[tuple[str, int, int], float] = {}
    wrong = []
    for time, _, cluster, row in rows:
        place = f"{cluster} {row['resource']} {row['namespace']}/{row['name']}"
        scope = f"{row['shard']} {place}" if same_object else row["shard"]
        mine = (int(row["epoch"]), int(row["term"]))
        known = newest.get(scope, mine)
        if mine < known:
            since = time - first[scope, *known]
            wrong.append(
                f"{row['verb']} of {place} by epoch {mine[0]}, term {mine[1]} of shard {row['shard']} took effect "
                f"{since * 1000:.1f} ms after the first write of epoch {known[0]}, term {known[1]}"
            )
        elif mine > known or scope not in newest:
            newest[scope] = mine
            first[scope, *mine] = time
    return wrong


def slope(values: Sequence[tuple[float, float]]) -> float:
    """The Theil-Sen estimator: the median of all slopes between two points, robust against outliers."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(values, 2) if b[0] > a[0]]
    return statistics.median(slopes) if slopes else 0.0


def growing(samples: Mapping[str, Sequence[tuple[float, float]]], per_minute: float) -> list[str]:
    """Memory is flat: ``samples`` are role -> (seconds, bytes) of its processes after each round; the first third warms up."""
    wrong = []
    for role, found in samples.items():
        late = sorted(found)[len(found) // 3 :]
        grows = slope(late) * 60.0
        if len(late) >= 6 and grows > per_minute:
            sizes = [round(value / 2**20) for _, value in sorted(found)]
            wrong.append(f"{role} grows by {grows / 2**20:.1f} MiB a minute: {sizes} MiB")
    return wrong
