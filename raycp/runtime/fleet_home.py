"""Where the processes of a fleet keep files on their node."""

import os
from pathlib import Path

from raycp.protocol.revisions import base_of


def home_directory() -> Path:
    """``$RAYCP_HOME`` or ``~/.raycp``."""
    home = os.environ.get("RAYCP_HOME")
    return Path(home) if home else Path.home() / ".raycp"


def fleet_home(fleet: str) -> Path:
    """``$RAYCP_HOME`` or ``~/.raycp``, then the fleet's name: kubeconfigs of embedded clusters, flight recordings."""
    return home_directory() / fleet


def recorder_home(namespace: str) -> Path:
    """The directory of the flight recordings of the fleet in Ray namespace ``namespace``, of both its revisions."""
    return fleet_home(base_of(namespace).removeprefix("raycp-")) / "recorder"


def recorder_homes() -> list[Path]:
    """Those of all fleets that have run on this node."""
    return sorted(home_directory().glob("*/recorder"))
