"""Where the processes of a fleet keep files on their node."""

import os
from pathlib import Path

from raycp.protocol.revisions import base_of


def _home() -> Path:
    home = os.environ.get("RAYCP_HOME")
    return Path(home) if home else Path.home() / ".raycp"


def fleet_home(fleet: str) -> Path:
    """``$RAYCP_HOME`` or ``~/.raycp``, then the fleet's name: kubeconfigs of embedded clusters, flight recordings."""
    return _home() / fleet


def recorder_home(namespace: str) -> Path:
    """The directory of the flight recordings of the fleet in Ray namespace ``namespace``, of both its revisions."""
    return fleet_home(base_of(namespace).removeprefix("raycp-")) / "recorder"


def recorder_homes() -> list[Path]:
    """Those of all fleets that have run on this node."""
    return sorted(_home().glob("*/recorder"))
