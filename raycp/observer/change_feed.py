"""The newest changes of a fleet, in bounded memory.

What happens again within ``REPEATED_WITHIN`` (a cluster that flaps, workers that crash) is counted at its entry, which becomes the
newest: one subject does not push the others out. Switches, hand-overs, applies and actions are each an entry of its own. Where
there are too many, the oldest of the most frequent kind is dropped: 200 clusters that go do not push out why.
"""

from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from raycp.observer.changes import ChangeKind, FleetChange

KEPT = 200

LONGEST = 300
"""Characters of a change's text, wherever it comes from: from the fleet's state, from an action, from what was stored."""

_LONGEST_NAME = 200

REPEATED_WITHIN = 600.0
"""Seconds."""

_SINGLE = frozenset({ChangeKind.SWITCH, ChangeKind.HAND_OVER, ChangeKind.APPLY, ChangeKind.ACTION})


class ChangeFeed:
    """One per observer. Single-threaded."""

    def __init__(self) -> None:
        self._rows: list[FleetChange] = []
        self.seq = 0
        """Rises with each change."""

    def add(self, changes: Iterable[FleetChange]) -> None:
        """Append changes, and keep ``KEPT``."""
        for change in changes:
            self.seq += 1
            change = _bounded(change)
            last = next((row for row in reversed(self._rows) if _repeats(row, change)), None)
            if last is not None:
                self._rows.remove(last)
                known = {"id": last.id, "count": last.count + 1, "first_at": last.first_at}
            else:
                known = {"id": self.seq, "count": 1, "first_at": change.at}
            self._rows.append(msgspec.structs.replace(change, seq=self.seq, **known))
        self._drop()

    def since(self, seq: int = 0) -> list[FleetChange]:
        """The entries that are new or were counted on since ``seq``, by their time, the oldest first."""
        return sorted((row for row in self._rows if row.seq > seq), key=lambda row: (row.at, row.seq))

    def load(self, saved: Iterable[FleetChange]) -> None:
        """Put what a predecessor kept before the own entries; all are numbered anew. Of more than it can have kept, the last."""
        own, self._rows = self._rows, []
        for change in [*deque(saved, KEPT), *own]:
            self.seq += 1
            self._rows.append(msgspec.structs.replace(_bounded(change), id=self.seq, seq=self.seq))
        self._drop()

    def rows(self) -> list[FleetChange]:
        """All entries, as ``load`` takes them."""
        return list(self._rows)

    def _drop(self) -> None:
        kinds = Counter(row.kind for row in self._rows)
        while len(self._rows) > KEPT:
            kind, _ = kinds.most_common(1)[0]
            del self._rows[next(at for at, row in enumerate(self._rows) if row.kind == kind)]
            kinds[kind] -= 1


def _bounded(change: FleetChange) -> FleetChange:
    cut = {"subject": _LONGEST_NAME, "text": LONGEST}
    fields = {name: f"{value[: most - 1]}…" for name, most in cut.items() if len(value := getattr(change, name)) > most}
    return msgspec.structs.replace(change, **fields) if fields else change


def _repeats(row: FleetChange, change: FleetChange) -> bool:
    return (
        change.kind not in _SINGLE
        and (row.kind, row.subject, row.what) == (change.kind, change.subject, change.what)
        and abs(change.at - row.at) <= REPEATED_WITHIN
    )
