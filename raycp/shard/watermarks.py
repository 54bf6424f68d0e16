"""What a shard has observed and reconciled in its clusters, by which its successor distinguishes changes from the noise of a start.

One ``Watermark`` per cluster and kind. An event that makes a key due is recorded before the tick that counts its version as
observed; the key stays an exception until a reconcile that started after the event has succeeded. ``watermark_store`` keeps it in
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


class FirstStart(msgspec.Struct, array_like=True):
    """A controller's first start in a cluster: the list at version ``rv`` showed it every object of its kind.

    ``selection`` names kind and selectors: with another selector the controller starts anew.
    """

    selection: str
    rv: int


MARGIN = 5.0
"""A write that the API server recorded less than this before the watermark's time may have come after it, because of the delay of
its watch cache and the error of its clock. In seconds."""

RESOLUTION = 1.0
"""Of ``managedFields[].time``, in seconds."""


class ClusterMarks(msgspec.Struct, rename={"starts": "begun"}):
    """The stored form of one cluster: ``at`` in Unix seconds, ``kinds`` by ``str(GVK)``, ``starts`` by controller (stored as
    ``begun``). ``until``: by the API server's clock, when everything up to the kind's version had been received."""

    at: float = 0.0
    kinds: dict[str, str] = {}
    until: dict[str, float] = {}
    starts: dict[str, FirstStart] = {}


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What is known of a listed object, for ``raycp.classify.Known``."""

    covered: bool
    has_watermark: bool
    first_start: bool
    only_status: bool = False


class Watermarks:
    """One shard's. Plain state; a due key costs one or two microseconds, an event that makes no key due costs nothing."""

    def __init__(self) -> None:
        self._marks: dict[Place, Watermark] = {}
        self._recorded: set[Place] = set()
        self._until: dict[Place, float] = {}
        self._starts: dict[tuple[str, str], FirstStart] = {}
        self._due: dict[RequestKey, list[Watermark]] = {}
        self.changes = 0
        """Rises whenever an exception is added or removed."""
        self.shape = 0
        """Rises whenever ``shared_state`` changes, except for its versions."""
        self._names: dict[int, tuple[str, str]] = {}

    # queries

    def rv(self, cluster: str, kind: GVK) -> int | None:
        """The version up to which a predecessor or this process has observed everything; None where nothing is known."""
        mark = self._marks.get((cluster, kind))
        return mark.rv if mark is not None and mark.rv and (cluster, kind) in self._recorded else None

    def seen(self, key: RequestKey, controller: ControllerPlan, cluster: str, kind: GVK, rv: int, written: float = 0.0) -> Seen:
        """What is known of the object of ``kind`` at ``rv`` that concerns ``key``: itself or a child. ``written``: when it was last
        written, status writes excluded, by the API server's clock in Unix seconds; 0 where that is not known."""
        place = (cluster, kind)
        mark = self._marks.get(place)
        recorded = rv > 0 and mark is not None and place in self._recorded
        covered = recorded and mark is not None and mark.covers(rv, key)
        start = self._starts.get((controller.name, cluster))
        known_to = start.rv if start is not None and start.selection == _selection(controller) else None
        before = written > 0 and written + RESOLUTION + MARGIN < self._until.get(place, 0.0)
        only_status = before and recorded and mark is not None and mark.due(key) is None
        # Objects of the controller's first start that are not reconciled yet remain its backlog.
        return Seen(covered, recorded, known_to is None or (rv <= known_to and not covered), only_status)

    def _mark(self, place: Place) -> Watermark:
        mark = self._marks.get(place)
        if mark is None:
            mark = self._marks[place] = Watermark()
            self._names[id(mark)] = (place[0], str(place[1]))
        return mark

    # due keys

    def due(self, key: RequestKey, cluster: str, kind: GVK, rv: int) -> None:
        """The change at ``rv`` of an object of ``kind`` makes ``key`` due, or may: it is an exception until ``settled``."""
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
        """List and watch have delivered every change up to ``rv``, and the keys that these made due are recorded."""
        place = (cluster, kind)
        self._mark(place).observe(rv)
        if place not in self._recorded:
            self._recorded.add(place)
            self.shape += 1

    def begin(self, controllers: Iterable[ControllerPlan], cluster: str, rv: int) -> None:
        """These controllers have been shown every object of their kind, at version ``rv``."""
        for controller in controllers:
            selection = _selection(controller)
            known = self._starts.get((controller.name, cluster))
            if known is None or known.selection != selection:
                self._starts[controller.name, cluster] = FirstStart(selection, rv)
                self.changes += 1
                self.shape += 1

    def exceptions(self, cluster: str, kind: GVK) -> list[RequestKey]:
        """Keys that are due by changes of this kind."""
        mark = self._marks.get((cluster, kind))
        return list(mark.exceptions()) if mark is not None else []

    # endings

    def void(self, cluster: str, kind: GVK) -> list[RequestKey]:
        """The cluster was replaced or restored to an older state: forget everything about this kind. Returns the keys that it
        had made due."""
        mark = self._marks.pop((cluster, kind), None)
        self._recorded.discard((cluster, kind))
        self._until.pop((cluster, kind), None)
        self.changes += 1
        self.shape += 1
        return self._forget(mark) if mark is not None else []

    def restart(self, controller: str, cluster: str) -> None:
        """The next start of the controller there counts as its first."""
        self._starts.pop((controller, cluster), None)
        self.shape += 1

    def drop_cluster(self, cluster: str) -> None:
        """The cluster has left this shard."""
        for place in [place for place in self._marks if place[0] == cluster]:
            self.void(*place)
        for where in [where for where in self._starts if where[1] == cluster]:
            del self._starts[where]
        self.shape += 1

    def drop_controller(self, controller: str) -> None:
        """The controller has left the fleet."""
        for key in [key for key in self._due if key.controller == controller]:
            self.settled(key)
        for where in [where for where in self._starts if where[0] == controller]:
            del self._starts[where]
        self.shape += 1

    def _forget(self, mark: Watermark) -> list[RequestKey]:
        found = [key for key, marks in self._due.items() if mark in marks]
        for key in found:
            marks = self._due[key]
            marks.remove(mark)
            if not marks:
                del self._due[key]
        return found

    # the form that a standby receives

    def due_keys(self) -> Iterable[RequestKey]:
        """Every key that is due."""
        return self._due.keys()

    def due_of(self, key: RequestKey) -> list[Due]:
        """The changes that make ``key`` due."""
        marks = self._due.get(key)
        if marks is None:
            return []
        return [Due(*self._names[id(mark)], *span) for mark in marks if (span := mark.due(key)) is not None]

    def shared_state(self) -> tuple[list[MarkedKind], list[ControllerStart]]:
        """The state that belongs to no key. It changes rarely, except for the versions, which ``Reached`` carries too."""
        marks = [
            MarkedKind(cluster, str(kind), self._marks[cluster, kind].rv, self._until.get((cluster, kind), 0.0))
            for cluster, kind in sorted(self._recorded, key=str)
        ]
        return marks, [ControllerStart(name, cluster, start.selection, start.rv) for (name, cluster), start in self._starts.items()]

    def take_over(
        self, marks: Iterable[MarkedKind], starts: Iterable[ControllerStart], due: Mapping[RequestKey, Iterable[Due]]
    ) -> None:
        """Take over a primary's watermarks. Reported due keys are due again, whether queued or waiting."""
        for each in marks:
            self.observe(each.cluster, GVK.parse(each.kind), each.rv)
            self._until[each.cluster, GVK.parse(each.kind)] = each.until
        for at in starts:
            self._starts[at.controller, at.cluster] = FirstStart(at.selection, at.rv)
        self.shape += 1
        for key, dues in due.items():
            for span in dues:
                for rv in (span.first, span.last):
                    self.due(key, span.cluster, GVK.parse(span.kind), rv)

    # the stored form

    def export(self, cluster: str, max_exceptions: int, until: Mapping[GVK, float] | None = None) -> ClusterMarks:
        """The stored form of one cluster, without its time; ``until`` as in ``ClusterMarks``, by kind."""
        found = ClusterMarks()
        for (name, kind), mark in self._marks.items():
            if name != cluster or (name, kind) not in self._recorded:
                continue
            found.kinds[str(kind)] = mark.encode(max_exceptions)
            if until and kind in until and mark.pending_count <= max_exceptions:
                found.until[str(kind)] = round(until[kind], 1)  # with more exceptions, due keys are not stored one by one
        found.starts = {controller: start for (controller, name), start in self._starts.items() if name == cluster}
        return found

    def restore(self, cluster: str, stored: ClusterMarks, controllers: Iterable[str]) -> None:
        """Take over a predecessor's stored form. Raises ``ValueError`` if it can't be read."""
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
        for controller, start in stored.starts.items():
            if controller in known:
                self._starts[controller, cluster] = start


def _selection(controller: ControllerPlan) -> str:
    return "|".join((controller.kind, controller.selector, controller.fields))
