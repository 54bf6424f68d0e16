"""Where the processes of a fleet keep files on their node."""

import errno
import os
from pathlib import Path

from raycp.protocol.revisions import base_of

RAY = "ray"
"""The file in a fleet's home that names its Ray."""


def home_directory() -> Path:
    """``$RAYCP_HOME`` or ``~/.raycp``. Raises ``OSError`` where neither is known: a user without a name may have no home."""
    if home := os.environ.get("RAYCP_HOME"):
        return Path(home)
    try:
        return Path.home() / ".raycp"
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "this user has no home directory: set RAYCP_HOME", "~/.raycp") from None


def fleet_home(fleet: str) -> Path:
    """``$RAYCP_HOME`` or ``~/.raycp``, then the fleet's name: kubeconfigs of embedded clusters, flight recordings."""
    return home_directory() / fleet


def record_ray(fleet: str, address: str) -> None:
    """The fleet runs on the Ray at ``HOST:PORT``: commands on it go there. Raises ``OSError``."""
    fleet_home(fleet).mkdir(mode=0o700, parents=True, exist_ok=True)
    (fleet_home(fleet) / RAY).write_text(f"{address}\n")


def recorded_ray(fleet: str) -> str:
    """The Ray on which ``raycp run`` has brought the fleet up, by an account that may be out of date; empty where there is none."""
    try:
        return (fleet_home(fleet) / RAY).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def forget_ray(fleet: str, address: str) -> None:
    """The fleet does not run on that Ray any more."""
    if recorded_ray(fleet) == address:
        (fleet_home(fleet) / RAY).unlink(missing_ok=True)


def recorder_home(namespace: str) -> Path:
    """The directory of the flight recordings of the fleet in Ray namespace ``namespace``, of both its revisions."""
    return fleet_home(base_of(namespace).removeprefix("raycp-")) / "recorder"


def recorder_homes() -> list[Path]:
    """Those of all fleets that have run on this node."""
    return sorted(home_directory().glob("*/recorder"))
