"""Questions to the members: shards, workers, the observer and embedded clusters."""

from typing import Any

import msgspec

from raycp.kube import ConnectSpec
from raycp.protocol.control.question import Question
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.status import FleetStatus


class Pong(msgspec.Struct, array_like=True, frozen=True):
    """The member's process id, the seconds since its core's loop last turned, and the release of raycp that it runs
    (``base.release``; empty where it does not tell)."""

    pid: int
    silence: float
    release: str = ""


class Ping(Question[Pong], frozen=True):
    """Of any process; answered while its core's loop is busy, too."""


class ReportAfter(Question[Report], frozen=True):
    """The member's report: at once if its ``number`` is not ``seen``, else when it changes in a way that matters, else after
    ``members.WATCH_SECONDS``."""

    seen: int = 0


class Configure(Question[None], frozen=True):
    """Take over this plan; an older one than known is ignored."""

    plan: Plan


class PlanOf(Question[Plan | None], frozen=True):
    """The newest plan that the member or leader knows."""


class Drain(Question[None], frozen=True):
    """Take no more work and finish what is under way, within ``timeout`` seconds: the process is about to be ended."""

    timeout: float


class Drained(msgspec.Struct, array_like=True, frozen=True):
    """``seq`` of the last frame to the standbys, and how many reconciles had to be revoked."""

    seq: int
    revoked: int


class Release(Question[Drained], frozen=True):
    """To a primary: stop handing out, revoke what runs after ``grace`` seconds, send the standbys everything.

    ``limit``: after so many seconds without a successor it resumes by itself. ``final``: the successor is of another epoch, so
    the permit is given up too. Errors: ``NOT_PRIMARY``, ``BUSY``.
    """

    grace: float
    limit: float
    final: bool = False


class FollowTo(Question[None], frozen=True):
    """To a standby: answered once the primary's frame ``seq`` has arrived. Error: ``TIMED_OUT``."""

    seq: int


class Resume(Question[None], frozen=True):
    """To a shard or worker: the hand-over was given up; go on."""


class Rest(Question[None], frozen=True):
    """To a worker before the whole fleet is handed over: give the permit up. Error: ``BUSY`` while reconciles run."""


class CacheContent(msgspec.Struct, array_like=True, frozen=True):
    """``rv``: the version that the cache has reached; ``objects`` as they are kept, without managedFields. ``selector``: it holds
    only what this label selector matches. Empty while ``synced`` is false."""

    synced: bool
    rv: int = 0
    selector: str = ""
    objects: list[bytes] = []


class ReadCache(Question[CacheContent], frozen=True):
    """All that a shard's cache holds of one kind (``str(GVK)``), to compare it with the cluster."""

    cluster: str
    kind: str


class RequestedKey(msgspec.Struct, rename="camel", frozen=True):
    """Where a key is that was asked for: its controller, its place in the queue (``ready``, ``delayed``, ``held``, ``running``;
    ``done`` where it is not there), and what it waits for there."""

    controller: str
    state: str
    waits_for: str = ""


class MakeDue(Question[list[RequestedKey]], frozen=True):
    """To a primary: queue this object, for ``controller`` or all of its controllers. ``kind`` as ``raycp why`` takes it; ``by``:
    who asks, for the object's timeline. Errors: ``NOT_FOUND``, ``BUSY``, ``NOT_PRIMARY``."""

    cluster: str
    kind: str
    namespace: str
    name: str
    controller: str
    by: str


class EndpointOf(Question[ConnectSpec | None], frozen=True):
    """How an embedded cluster is reached; None while it is not up. Holds a secret."""


class KubeconfigOf(Question[str], frozen=True):
    """Of an embedded cluster, from its own actor or by name from the leader. Holds a secret. Error: ``NOT_FOUND``."""

    cluster: str


class Slo(Question[list[dict[str, Any]]], frozen=True):
    """Of the observer: one row per objective (``SloBook.report``)."""


class Series(Question[list[dict[str, Any]]], frozen=True):
    """Of the observer: counts since the fleet began per controller, cluster, tier and kind (``SloBook.series``)."""


class StatusUpdate(Question[None], frozen=True):
    """To the observer: serve this status from now on. One of an earlier leader, or about an earlier plan, is ignored."""

    status: FleetStatus
