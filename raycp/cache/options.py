"""Settings and status of a reflector."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from raycp.base.keys import GVK


class ReflectorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds. The defaults of watches and backoff are client-go's."""

    watch_list: bool = True
    """stream the initial state where the server can (WatchList, KEP-3157); else, and where it can't, paged lists"""
    page: int = 500
    """objects per page of a list"""
    watch_timeout: tuple[float, float] = (300.0, 600.0)
    """the server is asked to end a watch after a time drawn from this range, so that watches spread over its replicas
    """
    stall: float = 90.0
    """a watch without a byte for so long is taken for dead; a server sends a bookmark about once a minute"""
    initial_patience: float = 15.0
    """silence within a streamed initial state before a list is made instead"""
    list_timeout: float = 60.0
    """deadline of one page"""
    backoff_first: float = 0.8
    backoff_cap: float = 30.0
    backoff_quiet: float = 120.0
    short_watch: float = 1.0
    """a watch that ends sooner and without an event counts as a failure"""
    check_identity: bool = True
    """compare the uid of namespace kube-system at each list and reconnection (law 7)"""
    replay_quiet: float = 2.0
    """silence after which the replay from a watermark counts as complete"""
    on_void: Callable[[str], None] | None = None
    """called with the reason when the cluster turns out to be another or a restored one"""


class Phase(StrEnum):
    STARTING = "starting"
    LISTING = "listing"
    WATCHING = "watching"
    BACKING_OFF = "backing-off"
    STOPPED = "stopped"


class ReflectorStatus(msgspec.Struct):
    """What /readyz and an operator want to know. Times are ``Clock.now()`` seconds, 0 for never."""

    gvk: GVK
    phase: Phase
    synced: bool
    reason: str
    """why it is not synced or not watching; empty when all is well"""
    objects: int
    rv: int
    since: float
    """when the phase began"""
    last_contact: float
    """when the server last sent anything"""
    retry_at: float
    lists: int
    watches: int
    failures: int
    last_error: str
    voids: int
    replaying: bool
