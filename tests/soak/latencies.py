"""How long users waited, by the API servers' own records: from the change's write to that of its effect."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def waits(writes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Name -> (when its ConfigMap was made, seconds until its Secret was), of one cluster. Infinite: no Secret yet."""
    made = {row["name"]: row["time"] for row in writes if row["resource"] == "configmaps" and row["verb"] == "create"}
    done = {row["name"]: row["time"] for row in writes if row["resource"] == "secrets" and row["verb"] == "create"}
    return {name: (at, done.get(name, float("inf")) - at) for name, at in made.items()}


def twice(writes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose Secret was made more than once."""
    names = [row["name"] for row in writes if row["resource"] == "secrets" and row["verb"] == "create"]
    return sorted({name for name in names if names.count(name) > 1}) if len(names) != len(set(names)) else []


def percentile(values: Iterable[float], share: float) -> float:
    """The value that ``share`` of them don't exceed; 0 for none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(share * len(found)))] if found else 0.0
