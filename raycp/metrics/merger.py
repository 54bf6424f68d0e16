"""The metrics of many actors as one set of families.

Guarantees:

1. An actor is one process, its name is never used again. It sends absolute values, so a repeated snapshot changes nothing.
2. When an actor is forgotten, its last counters and histograms are added to the sums and stay; its gauges vanish, and later
   snapshots of it are ignored.
3. The gauges of a silent actor vanish until it sends again; its counters and histograms stay.
4. Clusters that have left the fleet (``keep_clusters``) are not shown, and leave nothing behind.
5. The sums of the dead never grow beyond ``MAX_DEAD`` series per family, however many actors die: the rest is in one series.
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

import msgspec

from raycp.base.recent_names import RecentNames
from raycp.metrics.cells import OVERFLOW, Spec
from raycp.metrics.registry import FamilySnapshot, TraceRow, decode_snapshot

Key = tuple[str, ...]
Rows = dict[Key, list[float]]

MAX_DEAD = 20_000

CLUSTER = "cluster"


class ActorFamily(msgspec.Struct, frozen=True, gc=False):
    """What one actor counted last in one family."""

    rows: Rows
    traces: list[TraceRow]


class MergedFamily(msgspec.Struct, frozen=True, gc=False):
    """A family of the whole fleet; ``traces`` are the newest exemplars by series and bucket."""

    spec: Spec
    rows: Rows
    traces: Mapping[tuple[Key, int], TraceRow] = MappingProxyType({})


class Merged:
    """What a ``Merger`` held at one moment; it never changes, so another thread may read it."""

    def __init__(
        self,
        specs: dict[str, Spec],
        dead: dict[str, Rows],
        actors: list[dict[str, ActorFamily]],
        clusters: frozenset[str] | None,
    ) -> None:
        self._specs = specs
        self._dead = dead
        self._actors = actors
        self._clusters = clusters

    def specs(self) -> list[Spec]:
        """The shapes of all families, by name."""
        return [self._specs[name] for name in sorted(self._specs)]

    def rows(self, name: str) -> list[tuple[dict[str, str], list[float]]]:
        """See ``Merger.rows``."""
        spec = self._specs.get(name)
        if spec is None:
            return []
        return [(dict(zip(spec.labels, key, strict=True)), values) for key, values in self.family(spec).rows.items()]

    def bounds(self, name: str) -> tuple[float, ...]:
        """The upper bounds of a histogram's buckets; empty where nothing of that name was sent."""
        spec = self._specs.get(name)
        return spec.buckets if spec is not None else ()

    def family(self, spec: Spec) -> MergedFamily:
        """One family."""
        known = [families[spec.name] for families in self._actors if spec.name in families]
        rows: Rows = dict(self._dead.get(spec.name, {}))
        for each in known:
            for key, values in each.rows.items():
                old = rows.get(key)
                if old is None:
                    rows[key] = values
                elif spec.type == "gauge" and spec.merge != "sum":
                    pick = max if spec.merge == "max" else min
                    rows[key] = [pick(old[0], values[0])]
                else:
                    rows[key] = _added(old, values)
        if self._clusters is not None and CLUSTER in spec.labels:
            at, shown = spec.labels.index(CLUSTER), self._clusters
            rows = {key: values for key, values in rows.items() if key[at] in shown}
        traces: dict[tuple[Key, int], TraceRow] = {}
        for each in known:
            for trace in each.traces:
                before = traces.get((trace.key, trace.bucket))
                if trace.key in rows and (before is None or before.at < trace.at):
                    traces[trace.key, trace.bucket] = trace
        return MergedFamily(spec, rows, traces)


class Merger:
    """Adds up what actors report. Single-threaded."""

    def __init__(self) -> None:
        self._specs: dict[str, Spec] = {}
        self._dead: dict[str, Rows] = {}
        self._actors: dict[str, dict[str, ActorFamily]] = {}
        self._forgotten = RecentNames()
        self._clusters: frozenset[str] | None = None
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

    def keep_clusters(self, names: Collection[str]) -> None:
        """The clusters of the fleet. The series of all others are dropped, now and whoever sends them later."""
        self._clusters = frozenset({*names, OVERFLOW})
        for name, rows in self._dead.items():
            labels = self._specs[name].labels
            if CLUSTER in labels:
                at = labels.index(CLUSTER)
                self._dead[name] = {key: values for key, values in rows.items() if key[at] in self._clusters}

    def silence(self, actor: str) -> None:
        """The actor has disconnected: its gauges, which are values of the present, vanish until it sends again."""
        families = self._actors.get(actor, {})
        for name in [name for name in families if self._specs[name].type == "gauge"]:
            del families[name]

    def forget(self, actor: str) -> None:
        """The actor is dead: its sums stay, its gauges and exemplars vanish."""
        families = self._actors.pop(actor, None)
        if families is None:
            return
        for name, family in families.items():
            if self._specs[name].type != "gauge":
                self._bury(self._specs[name], family.rows)
        self._forgotten.add(actor)

    def total(self, name: str, **labels: str) -> float:
        """The merged value of a counter or gauge, summed over all rows that carry ``labels``; 0 if there is none."""
        spec = self._specs.get(name)
        if spec is None:
            return 0.0
        wanted = [(spec.labels.index(label), value) for label, value in labels.items()]
        rows = self.merged().family(spec).rows
        return sum(v[0] for key, v in rows.items() if all(key[i] == value for i, value in wanted))

    def rows(self, name: str) -> list[tuple[dict[str, str], list[float]]]:
        """The merged rows of a family: labels and value, or a histogram's counts per bucket and sum."""
        return self.merged().rows(name)

    def merged(self) -> Merged:
        """Everything as it is now. Costs a few references per actor and family; the sums are made when they are read."""
        return Merged(dict(self._specs), dict(self._dead), [dict(families) for families in self._actors.values()], self._clusters)

    def _accept(self, families: Iterable[FamilySnapshot]) -> dict[str, ActorFamily]:
        accepted: dict[str, ActorFamily] = {}
        for family in families:
            spec = family.spec
            known = self._specs.setdefault(spec.name, spec)
            if (known.type, known.labels, known.buckets) != (spec.type, spec.labels, spec.buckets):
                if any(spec.name in families for families in self._actors.values()):
                    self.rejected += 1  # an older actor still lives under the old shape, which holds until it is dead
                    continue
                self._dead.pop(spec.name, None)  # new code after an upgrade: the old sums don't fit
                self._specs[spec.name] = spec
            accepted[spec.name] = ActorFamily(dict(family.rows), family.traces)
        return accepted

    def _bury(self, spec: Spec, rows: Rows) -> None:
        """Add ``rows`` to the sums of the dead; a new dictionary, since a ``Merged`` may have the old one."""
        sums = dict(self._dead.get(spec.name, {}))
        at = spec.labels.index(CLUSTER) if CLUSTER in spec.labels and self._clusters is not None else -1
        for key, values in rows.items():
            if at >= 0 and self._clusters is not None and key[at] not in self._clusters:
                continue
            if key not in sums and len(sums) >= MAX_DEAD and spec.labels:
                key = (OVERFLOW,) * len(spec.labels)
            old = sums.get(key)
            sums[key] = values if old is None else _added(old, values)
        self._dead[spec.name] = sums


def _added(a: list[float], b: list[float]) -> list[float]:
    return [x + y for x, y in zip(a, b, strict=True)]
