"""Users' waits, from the records of the API servers: from the write of a change to the write of its effect."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def waits(writes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Name -> (when its ConfigMap was created, seconds until its Secret was), of one cluster. Infinite: no Secret yet."""
    made = {row["name"]: row["time"] for row in writes if row["resource"] == "configmaps" and row["verb"] == "create"}
    done: dict[str, float] = {}
    for row in writes:
        if row["resource"] == "secrets" and row["verb"] == "create":
            done.setdefault(row["name"], row["time"])
    return {name: (at, done.get(name, float("inf")) - at) for name, at in made.items()}


def twice(writes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose Secret was made more than once while their ConfigMap was there. After its deletion, a reconcile that knows of
    the Secret's collection already, and of its owner's deletion not yet, may make one more, to be collected in its turn.
    """
    gone: set[str] = set()
    made: set[str] = set()
    found: set[str] = set()
    for row in writes:
        if row["resource"] == "configmaps" and row["verb"] == "delete":
            gone.add(row["name"])
        elif row["resource"] == "secrets" and row["verb"] == "create" and row["name"] not in gone:
            (found if row["name"] in made else made).add(row["name"])
    return sorted(found)


def percentile(values: Iterable[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed; 0 without values."""
    found = sorted(values)
    return found[min(len(found) - 1, int(share * len(found)))] if found else 0.0
