"""``KeptEvents``: the changes that a standby has observed and its primary has not reported as judged.

A primary reports, by cluster and kind, the version up to which it has judged everything. What is kept stands in the order in which
it was announced, which is that of versions, so a report looks only at what it ends: a flood of changes costs each of them one
look. Where the order differs (a list; a cluster that was replaced by one whose versions are lower), a change may stay until the
one before it is judged, or until there are twice as many, when all are looked at. Whatever stays too long is judged once more
after a promotion, which changes nothing.
"""

from collections import OrderedDict

from raycp.base.events import Event, EventType
from raycp.base.keys import GVK

_Kind = tuple[str, GVK]

_FEW = 256


class KeptEvents:
    """One standby's."""

    def __init__(self) -> None:
        self._kinds: dict[_Kind, OrderedDict[str, tuple[int, Event]]] = {}
        self._many: dict[_Kind, int] = {}
        """How many of a kind are looked at, all of them."""
        self._apart: dict[_Kind, OrderedDict[str, Event]] = {}
        """Those without a version that can be compared: no report says that one was judged, so it is kept until the promotion."""

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values())) + sum(map(len, self._apart.values()))

    def add(self, cluster: str, kind: GVK, version: int, event: Event) -> None:
        """Keep a change as of ``version``, 0 where it can't be compared, merged with what is kept of its object."""
        where, uid = (cluster, kind), event.obj.meta.uid
        kept, apart = self._kinds.get(where), self._apart.get(where)
        if kept is not None and (known := kept.pop(uid, None)) is not None:
            event = _merged(known[1], event)
        elif apart is not None and (before := apart.pop(uid, None)) is not None:
            event = _merged(before, event)
        if version:
            self._kinds.setdefault(where, OrderedDict())[uid] = version, event
        else:
            self._apart.setdefault(where, OrderedDict())[uid] = event

    def judged(self, cluster: str, kind: GVK, version: int) -> None:
        """Forget those up to ``version``."""
        where = (cluster, kind)
        kept = self._kinds.get(where)
        while kept:
            uid, (at, _) = next(iter(kept.items()))
            if at > version:
                break
            del kept[uid]
        if kept and len(kept) >= self._many.get(where, _FEW):
            left = OrderedDict((uid, known) for uid, known in kept.items() if known[0] > version)
            self._kinds[where], self._many[where] = left, max(_FEW, 2 * len(left))

    def drop_cluster(self, cluster: str) -> None:
        """Forget those of a cluster."""
        self._kinds = {where: kept for where, kept in self._kinds.items() if where[0] != cluster}
        self._apart = {where: kept for where, kept in self._apart.items() if where[0] != cluster}

    def oldest(self) -> float | None:
        """When the first of those that are kept was observed, in seconds of the clock; None where none is."""
        first = [next(iter(kept.values()))[1] for kept in self._kinds.values() if kept]
        first += [next(iter(apart.values())) for apart in self._apart.values() if apart]
        return min((event.observed for event in first), default=None)

    def take(self) -> list[tuple[str, GVK, Event]]:
        """All of them, with cluster and kind; none is kept any more."""
        found = [(*where, event) for where, kept in self._kinds.items() for _, event in kept.values()]
        found += [(*where, event) for where, apart in self._apart.items() for event in apart.values()]
        self._kinds, self._apart = {}, {}
        return found


def _merged(before: Event, event: Event) -> Event:
    """Two changes of one object merged into one, as a slower watch would have announced them."""
    if before.type is EventType.ADDED:
        if event.type is EventType.DELETED:
            return event
        return Event(EventType.ADDED, before.source, None, event.new, before.observed)
    return Event(event.type, event.source, before.old, event.new, before.observed)
