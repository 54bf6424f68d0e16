"""What a shard has seen and reconciled of its clusters: its successor tells changes made meanwhile from the noise of a start by it.

One ``Watermark`` per cluster and kind. An event that makes a key due is noted before the tick that counts its version as observed;
the key stays an exception until a reconcile that started after the event has succeeded. ``raycp.shard.watermark_store`` keeps it in
the hub.
"""

from collections.abc import Iterable, Mapping

import msgspec

from raycp.base.keys import GVK, RequestKey
from raycp.classify import Watermark
from raycp.protocol.frames import ControllerStart, Due, MarkedKind
from raycp.protocol.plan import ControllerPlan

Place = tuple[str, GVK]
"""Cluster and kind."""


class Begun(msgspec.Struct, array_like=True):
    """That a controller has taken over all that there was of its kind in a cluster, at version ``rv`` of its list.

    ``what`` says which objects: another selector is another beginning.
    """

    what: str
    rv: int


MARGIN = 5.0
"""A write that the API server noted less than this before the watermark's time may have come after it: the way through its watch
cache, and its clock. In seconds."""

RESOLUTION = 1.0
"""Of ``managedFields[].time``, in seconds."""


class ClusterMarks(msgspec.Struct):
    """The stored form of one cluster: ``at`` in Unix seconds, ``kinds`` by ``str(GVK)``, ``begun`` by controller. ``until``: when,
    by its own clock, the API server had told everything up to the kind's version."""

    at: float = 0.0
    kinds: dict[str, str] = {}
    until: dict[str, float] = {}
    begun: dict[str, Begun] = {}


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What is known of an object that a list shows, for ``raycp.classify.Known``."""

    covered: bool
    has_watermark: bool
    first_start: bool
    only_status: bool = False


class Watermarks:
    """One shard's. Plain state; a due key costs a microsecond or two, an event that makes nothing due nothing."""

    def __init__(self) -> None:
        self._marks: dict[Place, Watermark] = {}
        self._recorded: set[Place] = set()
        self._until: dict[Place, float] = {}
        self._begun: dict[tuple[str, str], Begun] = {}
        self._due: dict[RequestKey, list[Watermark]] = {}
        self.changes = 0
        """Rises whenever an exception comes or goes."""
        self.shape = 0
        """Rises whenever what ``told`` tells has changed, but for versions."""
        self._names: dict[int, tuple[str, str]] = {}

    # what is known

    def rv(self, cluster: str, kind: GVK) -> int | None:
        """Up to where a predecessor, or this process, has observed everything; None where nothing is known."""
        mark = self._marks.get((cluster, kind))
        return mark.rv if mark is not None and mark.rv and (cluster, kind) in self._recorded else None

    def seen(self, key: RequestKey, controller: ControllerPlan, cluster: str, kind: GVK, rv: int, written: float = 0.0) -> Seen:
        """What is known of the object of ``kind`` at ``rv`` that concerns ``key``: itself or a child. ``written``: when it was last
        written but for its status, by the API server's clock in Unix seconds; 0 where that is not known."""
        place = (cluster, kind)
        mark = self._marks.get(place)
        recorded = mark is not None and place in self._recorded
        covered = recorded and mark is not None and mark.covers(rv, key)
        begun = self._begun.get((controller.name, cluster))
        known_to = begun.rv if begun is not None and begun.what == _what(controller) else None
        before = written > 0 and written + RESOLUTION + MARGIN < self._until.get(place, 0.0)
        only_status = before and recorded and mark is not None and mark.due(key) is None
        # What was there at the controller's first start and is not reconciled yet goes on being that backlog.
        return Seen(covered, recorded, known_to is None or (rv <= known_to and not covered), only_status)

    def _mark(self, place: Place) -> Watermark:
        mark = self._marks.get(place)
        if mark is None:
            mark = self._marks[place] = Watermark()
            self._names[id(mark)] = (place[0], str(place[1]))
        return mark

    # what is due

    def due(self, key: RequestKey, cluster: str, kind: GVK, rv: int) -> None:
        """The change at ``rv`` of an object of ``kind`` makes ``key`` due, or may: until ``settled`` it is an exception."""
        mark = self._marks.get((cluster, kind))
        if mark is None:
            mark = self._mark((cluster, kind))
        places = self._due.get(key)
        if places is None:
            self._due[key] = [mark]
        elif mark not in places:
            places.append(mark)
        self.changes += 1
        if key in mark.changes:
            mark.pending(key, rv)
        else:
            mark.changes[key] = (rv, rv)

    def settled(self, key: RequestKey) -> None:
        """Nothing is due for ``key``."""
        marks = self._due.pop(key, None)
        if marks is not None:
            for mark in marks:
                mark.changes.pop(key, None)
                mark.restored.discard(key)
            self.changes += 1

    def observe(self, cluster: str, kind: GVK, rv: int) -> None:
        """All up to ``rv`` has been told by list and watch, and what it made due has been noted."""
        place = (cluster, kind)
        self._mark(place).observe(rv)
        if place not in self._recorded:
            self._recorded.add(place)
            self.shape += 1

    def begin(self, controllers: Iterable[ControllerPlan], cluster: str, rv: int) -> None:
        """These controllers have been told all that there is of their kind, at version ``rv``."""
        for controller in controllers:
            what = _what(controller)
            known = self._begun.get((controller.name, cluster))
            if known is None or known.what != what:
                self._begun[controller.name, cluster] = Begun(what, rv)
                self.changes += 1
                self.shape += 1

    def exceptions(self, cluster: str, kind: GVK) -> list[RequestKey]:
        """Keys that are due by changes of this kind."""
        mark = self._marks.get((cluster, kind))
        return list(mark.exceptions()) if mark is not None else []

    # endings

    def void(self, cluster: str, kind: GVK) -> list[RequestKey]:
        """The cluster is another one than before, or an older state of it: nothing of this kind is known. The keys that it
        had made due."""
        mark = self._marks.pop((cluster, kind), None)
        self._recorded.discard((cluster, kind))
        self._until.pop((cluster, kind), None)
        self.changes += 1
        self.shape += 1
        return self._forget(mark) if mark is not None else []

    def restart(self, controller: str, cluster: str) -> None:
        """The controller begins anew there."""
        self._begun.pop((controller, cluster), None)
        self.shape += 1

    def drop_cluster(self, cluster: str) -> None:
        """The cluster is not this shard's any more."""
        for place in [place for place in self._marks if place[0] == cluster]:
            self.void(*place)
        for where in [where for where in self._begun if where[1] == cluster]:
            del self._begun[where]
        self.shape += 1

    def drop_controller(self, controller: str) -> None:
        """The controller has left the fleet."""
        for key in [key for key in self._due if key.controller == controller]:
            self.settled(key)
        for where in [where for where in self._begun if where[0] == controller]:
            del self._begun[where]
        self.shape += 1

    def _forget(self, mark: Watermark) -> list[RequestKey]:
        found = [key for key, marks in self._due.items() if mark in marks]
        for key in found:
            marks = self._due[key]
            marks.remove(mark)
            if not marks:
                del self._due[key]
        return found

    # the form in which a standby is told

    def due_keys(self) -> Iterable[RequestKey]:
        """All that are due."""
        return self._due.keys()

    def due_of(self, key: RequestKey) -> list[Due]:
        """What ``key`` is due for."""
        marks = self._due.get(key)
        if marks is None:
            return []
        return [Due(*self._names[id(mark)], *span) for mark in marks if (span := mark.due(key)) is not None]

    def told(self) -> tuple[list[MarkedKind], list[ControllerStart]]:
        """All that is no key's. It changes rarely, but for the versions, which ``Reached`` tells."""
        marks = [
            MarkedKind(cluster, str(kind), self._marks[cluster, kind].rv, self._until.get((cluster, kind), 0.0))
            for cluster, kind in sorted(self._recorded, key=str)
        ]
        return marks, [ControllerStart(name, cluster, begun.what, begun.rv) for (name, cluster), begun in self._begun.items()]

    def take_over(
        self, marks: Iterable[MarkedKind], begun: Iterable[ControllerStart], due: Mapping[RequestKey, Iterable[Due]]
    ) -> None:
        """Be what a primary's were. What is due is due again when it was told, whether it is queued or waits for something."""
        for each in marks:
            self.observe(each.cluster, GVK.parse(each.kind), each.rv)
            self._until[each.cluster, GVK.parse(each.kind)] = each.until
        for at in begun:
            self._begun[at.controller, at.cluster] = Begun(at.what, at.rv)
        self.shape += 1
        for key, dues in due.items():
            for span in dues:
                for rv in (span.first, span.last):
                    self.due(key, span.cluster, GVK.parse(span.kind), rv)

    # the stored form

    def export(self, cluster: str, max_exceptions: int, until: Mapping[GVK, float] | None = None) -> ClusterMarks:
        """What is to be stored of one cluster, without its time; ``until`` as in ``ClusterMarks``, by kind."""
        found = ClusterMarks()
        for (name, kind), mark in self._marks.items():
            if name != cluster or (name, kind) not in self._recorded:
                continue
            found.kinds[str(kind)] = mark.encode(max_exceptions)
            if until and kind in until and mark.pending_count <= max_exceptions:
                found.until[str(kind)] = round(until[kind], 1)  # with more, what is due is not told key by key
        found.begun = {controller: begun for (controller, name), begun in self._begun.items() if name == cluster}
        return found

    def restore(self, cluster: str, stored: ClusterMarks, controllers: Iterable[str]) -> None:
        """Take over what a predecessor stored. Raises ``ValueError`` for what can't be read."""
        known = set(controllers)
        for text, encoded in stored.kinds.items():
            kind = GVK.parse(text)
            mark = Watermark.decode(encoded)
            for key in mark.exceptions():
                if key.controller not in known:
                    mark.forget(key)
                    continue
                self._due.setdefault(key, []).append(mark)
            self._marks[cluster, kind] = mark
            self._names[id(mark)] = (cluster, text)
            self._recorded.add((cluster, kind))
            self.shape += 1
            self._until[cluster, kind] = stored.until.get(text, 0.0)
        for controller, begun in stored.begun.items():
            if controller in known:
                self._begun[controller, cluster] = begun


def _what(controller: ControllerPlan) -> str:
    return "|".join((controller.kind, controller.selector, controller.fields))
