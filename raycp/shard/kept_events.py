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

_FEW = 256


class _KindEvents:
    """Those of one kind in one cluster, by uid."""

    def __init__(self) -> None:
        self.events: OrderedDict[str, tuple[int, Event]] = OrderedDict()
        self.apart: OrderedDict[str, Event] = OrderedDict()
        """Without a version that can be compared: no report says that one was judged, so it is kept until the promotion."""
        self.many = _FEW
        """With so many, a report checks all of them."""

    def __len__(self) -> int:
        return len(self.events) + len(self.apart)

    def all(self) -> list[Event]:
        """Each, in the order in which it was announced; those without a version last."""
        return [*(event for _, event in self.events.values()), *self.apart.values()]


class KeptEvents:
    """One standby's."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, GVK], _KindEvents] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))

    def add(self, cluster: str, kind: GVK, version: int, event: Event) -> None:
        """Keep a change as of ``version``, 0 where it can't be compared, merged with what is kept of its object."""
        kept, uid = self._kinds.setdefault((cluster, kind), _KindEvents()), event.obj.meta.uid
        _, before = kept.events.pop(uid, (0, None))
        if before is None:
            before = kept.apart.pop(uid, None)
        if before is not None:
            event = _merged(before, event)
        if version:
            kept.events[uid] = version, event
        else:
            kept.apart[uid] = event

    def judged(self, cluster: str, kind: GVK, version: int) -> None:
        """Forget those up to ``version``."""
        kept = self._kinds.get((cluster, kind))
        if kept is None:
            return
        while kept.events:
            uid, (at, _) = next(iter(kept.events.items()))
            if at > version:
                break
            del kept.events[uid]
        if len(kept.events) >= kept.many:
            kept.events = OrderedDict((uid, known) for uid, known in kept.events.items() if known[0] > version)
            kept.many = max(_FEW, 2 * len(kept.events))

    def drop_cluster(self, cluster: str) -> None:
        """Forget those of a cluster."""
        self._kinds = {where: kept for where, kept in self._kinds.items() if where[0] != cluster}

    def oldest(self) -> float | None:
        """When the first of those that are kept was observed, in seconds of the clock; None where none is."""
        first = [next(iter(kept.events.values()))[1] for kept in self._kinds.values() if kept.events]
        first += [next(iter(kept.apart.values())) for kept in self._kinds.values() if kept.apart]
        return min((event.observed for event in first), default=None)

    def take(self) -> list[tuple[str, GVK, Event]]:
        """All of them, with cluster and kind; none is kept afterwards."""
        found = [(*where, event) for where, kept in self._kinds.items() for event in kept.all()]
        self._kinds = {}
        return found


def _merged(before: Event, event: Event) -> Event:
    """Two changes of one object merged into one, as a slower watch would have announced them."""
    if before.type is EventType.ADDED:
        if event.type is EventType.DELETED:
            return event
        return Event(EventType.ADDED, before.source, None, event.new, before.observed)
    return Event(event.type, event.source, before.old, event.new, before.observed)
