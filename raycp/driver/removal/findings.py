"""What raycp has left in the clusters of a fleet. ``path`` is that of the API, without the server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldObject:
    """An object with finalizers that a controller of the fleet has put there. ``all`` are all that it has."""

    what: str
    path: str
    uid: str
    version: str
    all: tuple[str, ...]
    ours: tuple[str, ...]


@dataclass(frozen=True)
class LeftObject:
    """An object that raycp has made for itself: a record, a lock, the keys for owner marks."""

    what: str
    path: str
    uid: str


@dataclass(frozen=True)
class LeftDefinition:
    """A CustomResourceDefinition that the fleet has installed. ``objects`` go with it; ``users`` are the controllers of the fleet
    file, other than those to be removed, that need it."""

    stored: LeftObject
    objects: int
    users: tuple[str, ...] = ()


@dataclass(frozen=True)
class FloorMark:
    """The fleet's annotation on the definition that keeps the floor of the epochs; ``others`` counts those of other fleets."""

    stored: LeftObject
    annotation: str
    others: int


@dataclass(frozen=True)
class ClusterFindings:
    """One cluster. ``unreachable`` says why nothing is known of it, ``unread`` what could not be looked at; ``ends`` is set for an
    embedded cluster, which ends with its fleet."""

    cluster: str
    ends: bool = False
    unreachable: str = ""
    unread: tuple[str, ...] = ()
    held: tuple[HeldObject, ...] = ()
    records: tuple[LeftObject, ...] = ()
    keys: LeftObject | None = None
    definitions: tuple[LeftDefinition, ...] = ()
    floor: FloorMark | None = None
