"""A member's report of its own state, to the leader and the observer."""

import msgspec

from raycp.base.problems import FleetProblem
from raycp.base.protocol_version import PROTOCOL, check_protocol


class ClusterReport(msgspec.Struct):
    """A cluster as its shard sees it. ``lag`` is the age in seconds of the newest sign of life of its oldest watch."""

    name: str
    reachable: bool = False
    synced: bool = False
    reason: str = ""
    objects: int = 0
    lag: float = 0.0
    version: str = ""
    breaker: str = "closed"


class LaneReport(msgspec.Struct):
    """A lane of a shard's queue. Waits in seconds; ``delay`` is the p99 of hand-outs of the last seconds."""

    tier: str
    ready: int = 0
    delayed: int = 0
    in_flight: int = 0
    oldest: float = 0.0
    delay: float = 0.0


class SuspectReport(msgspec.Struct):
    """An object whose reconcile has ended worker processes, or may have: it runs alone (law 11). ``object`` as ``raycp why`` takes
    it; ``deaths``: of workers with it in flight; ``since`` in Unix seconds."""

    object: str
    controller: str
    convicted: bool
    deaths: int
    reason: str
    since: float


class FailureReport(msgspec.Struct, rename="camel"):
    """An object whose last reconcile failed. ``object`` as ``raycp why`` takes it; ``frame`` is the author's innermost line
    (``website.py:40``), empty where there is none; ``attempts``: failures in a row. ``since`` and ``next_try`` in Unix seconds;
    ``next_try`` is None where the controller gave up until the object changes."""

    cluster: str
    object: str
    controller: str
    cause: str
    frame: str
    attempts: int
    next_try: float | None
    since: float


class Report(msgspec.Struct):
    """A member's state, the answer to ``ReportAfter``. ``plan`` is the version of the plan that it runs; ``dead`` a
    primary whose port refuses its standby's connection. ``node`` is the host's name, ``node_id`` Ray's id of the node."""

    pid: int
    node: str
    node_id: str = ""
    host: str = ""
    port: int = 0
    plan: int = 0
    state: str = "starting"
    ready: bool = False
    reasons: list[str] = []
    clusters: list[ClusterReport] = []
    lanes: list[LaneReport] = []
    slots: int = 0
    busy: int = 0
    cached_bytes: int = 0
    lag: float = 0.0
    phases: dict[str, float] = {}
    dead: str = ""
    extra: dict[str, str] = {}
    suspects: list[SuspectReport] = []
    """A primary's, the convicted first; ``suspected`` counts all, also those beyond the list."""
    suspected: int = 0
    failures: list[FailureReport] = []
    """A primary's, at least one of each kind of failure; ``failing`` counts all, also those beyond the list."""
    failing: int = 0
    quarantine: bool = False
    """Whether a suspect is due: the shard needs a quarantine worker."""
    problems: list[FleetProblem] = []
    """What is wrong with it or its clusters, or with single objects (a bounded number); absent in reports of version 1."""
    release: str = ""
    """Of raycp, that the member runs (``base.release``); empty in reports of releases that do not tell."""
    number: int = 0
    """Rises when the report has changed in a way that matters; a watch names the last one seen."""
    protocol: int = PROTOCOL
    """Absent in reports of version 1, which are read the same."""

    def __post_init__(self) -> None:
        check_protocol(self.protocol, "a member's report")
