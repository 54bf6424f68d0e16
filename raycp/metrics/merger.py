"""The metrics of many actors as one page.

Guarantees:

1. An actor is one process, its name is never used again. It sends absolute values, so a repeated snapshot changes nothing.
2. When an actor is forgotten, its last counters and histograms are added to the sums and stay; its gauges vanish, and later
   snapshots of it are ignored.
3. The gauges of a silent actor vanish until it sends again; its counters and histograms stay.
"""

import math
from collections.abc import Iterable

from raycp.base.recent_names import RecentNames
from raycp.metrics.registry import FamilySnapshot, Spec, decode_snapshot

Rows = dict[tuple[str, ...], list[float]]


class Merger:
    """Adds up what actors report. Single-threaded; ``render`` costs about 1 µs per line."""

    def __init__(self) -> None:
        self._specs: dict[str, Spec] = {}
        self._dead: dict[str, Rows] = {}
        self._actors: dict[str, dict[str, Rows]] = {}
        self._forgotten = RecentNames()
        self.rejected = 0
        """Families refused because an actor sent another shape under a known name."""

    def feed(self, actor: str, snapshot: bytes) -> bool:
        """Take in one actor's absolute values. False if it was forgotten.

        Raises ``msgspec.DecodeError`` for bytes that are not a snapshot; nothing has changed then.
        """
        families = decode_snapshot(snapshot)
        if actor in self._forgotten:
            return False
        self._actors[actor] = self._accept(families)
        return True

    def actors(self) -> list[str]:
        """Actors that have sent a snapshot and were not forgotten."""
        return list(self._actors)

    def silence(self, actor: str) -> None:
        """The actor has disconnected: its gauges, which are values of the present, vanish until it sends again."""
        families = self._actors.get(actor, {})
        for name in [name for name in families if self._specs[name].type == "gauge"]:
            del families[name]

    def forget(self, actor: str) -> None:
        """The actor is dead: its sums stay, its gauges vanish."""
        families = self._actors.pop(actor, None)
        if families is None:
            return
        for name, rows in families.items():
            if self._specs[name].type == "gauge":
                continue
            sums = self._dead.setdefault(name, {})
            for key, values in rows.items():
                old = sums.get(key)
                sums[key] = values if old is None else [a + b for a, b in zip(old, values, strict=True)]
        self._forgotten.add(actor)

    def total(self, name: str, **labels: str) -> float:
        """The merged value of a counter or gauge, summed over all rows that carry ``labels``; 0 if there is none."""
        spec = self._specs.get(name)
        if spec is None:
            return 0.0
        wanted = [(spec.labels.index(label), value) for label, value in labels.items()]
        rows = self._merged(spec)
        return sum(v[0] for key, v in rows.items() if all(key[i] == value for i, value in wanted))

    def rows(self, name: str) -> list[tuple[dict[str, str], list[float]]]:
        """The merged rows of a family: labels and value, or a histogram's counts per bucket and sum."""
        spec = self._specs.get(name)
        if spec is None:
            return []
        return [(dict(zip(spec.labels, key, strict=True)), v) for key, v in self._merged(spec).items()]

    def render(self) -> bytes:
        """The Prometheus text format 0.0.4, families and rows in a stable order."""
        out: list[str] = []
        for name in sorted(self._specs):
            spec = self._specs[name]
            out.append(f"# HELP {name} {_escape_help(spec.help)}")
            out.append(f"# TYPE {name} {spec.type}")
            merged = self._merged(spec)
            for key in sorted(merged):
                pairs = ",".join(f'{n}="{_escape(v)}"' for n, v in zip(spec.labels, key, strict=True))
                if spec.type == "histogram":
                    _render_histogram(out, name, pairs, spec.buckets, merged[key])
                else:
                    out.append(f"{name}{{{pairs}}} {_number(merged[key][0])}" if pairs else f"{name} {_number(merged[key][0])}")
        out.append("")
        return "\n".join(out).encode()

    def _accept(self, families: Iterable[FamilySnapshot]) -> dict[str, Rows]:
        accepted: dict[str, Rows] = {}
        for family in families:
            spec = family.spec
            known = self._specs.setdefault(spec.name, spec)
            if (known.type, known.labels, known.buckets) != (spec.type, spec.labels, spec.buckets):
                if any(spec.name in families for families in self._actors.values()):
                    self.rejected += 1  # an older actor still lives under the old shape, which holds until it is dead
                    continue
                self._dead.pop(spec.name, None)  # new code after an upgrade: the old sums don't fit
                self._specs[spec.name] = spec
            accepted[spec.name] = dict(family.rows)
        return accepted

    def _merged(self, spec: Spec) -> Rows:
        merged: Rows = dict(self._dead.get(spec.name, {}))
        for families in self._actors.values():
            for key, values in families.get(spec.name, {}).items():
                old = merged.get(key)
                if old is None:
                    merged[key] = values
                elif spec.type == "gauge" and spec.merge != "sum":
                    pick = max if spec.merge == "max" else min
                    merged[key] = [pick(old[0], values[0])]
                else:
                    merged[key] = [a + b for a, b in zip(old, values, strict=True)]
        return merged


def _render_histogram(out: list[str], name: str, pairs: str, buckets: tuple[float, ...], values: list[float]) -> None:
    comma = "," if pairs else ""
    running = 0.0
    for bound, count in zip(buckets, values, strict=False):
        running += count
        out.append(f'{name}_bucket{{{pairs}{comma}le="{_number(bound)}"}} {_number(running)}')
    running += values[len(buckets)]
    out.append(f'{name}_bucket{{{pairs}{comma}le="+Inf"}} {_number(running)}')
    braces = f"{{{pairs}}}" if pairs else ""
    out.append(f"{name}_sum{braces} {_number(values[-1])}")
    out.append(f"{name}_count{braces} {_number(running)}")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
