"""Where raycp keeps files of fleets on a node."""

import os
from pathlib import Path


def home_directory() -> Path:
    """``$RAYCP_HOME`` or ``~/.raycp``."""
    home = os.environ.get("RAYCP_HOME")
    return Path(home) if home else Path.home() / ".raycp"
