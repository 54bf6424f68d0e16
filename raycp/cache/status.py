"""What a reflector is doing."""

from enum import StrEnum

import msgspec

from raycp.base.keys import GVK


class Phase(StrEnum):
    STARTING = "starting"
    LISTING = "listing"
    WATCHING = "watching"
    BACKING_OFF = "backing-off"
    STOPPED = "stopped"


class FaultOwner(StrEnum):
    """Whose failure it is that a kind cannot be listed or watched (law 11)."""

    NONE = "none"
    KIND = "kind"
    """The server answers, but does not serve this kind, forbids it, or fails to read it: other kinds are not concerned."""
    SERVER = "server"
    """The server as a whole does not answer, or rejects our credentials."""


class ReflectorStatus(msgspec.Struct):
    """For /readyz and operators. Times are ``Clock.now()`` seconds, 0 for never."""

    gvk: GVK
    since: float
    """when the phase began"""
    phase: Phase = Phase.STARTING
    reason: str = "not started"
    """why it is not synced or not watching; empty while it watches"""
    synced: bool = False
    objects: int = 0
    rv: int = 0
    last_contact: float = 0.0
    """when the server last sent anything"""
    retry_at: float = 0.0
    lists: int = 0
    watches: int = 0
    failures: int = 0
    last_error: str = ""
    voids: int = 0
    fault: FaultOwner = FaultOwner.NONE
    """of the last failure, until the kind is watched again"""
    unreadable: int = 0
    """objects that are left out, each alone"""
    left_out: str = ""
    """how many, the first of them, and why; empty for none"""

    def enter(self, phase: Phase, reason: str, now: float) -> None:
        """A phase begins."""
        self.phase, self.reason, self.since, self.retry_at = phase, reason, now, 0.0
