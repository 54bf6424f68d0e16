"""Who gives an order by a command, as far as a machine knows: for timelines and logs, and no proof."""

import getpass
import socket


def operator() -> str:
    """``ann@build-7``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
