"""The status page: one HTML file without external assets, put together from its parts."""

import re
from importlib import resources

_SCRIPT = re.compile(rb"/\* page/([a-z_]+\.js) \*/")
"""Where a part of its script stands that has a file of its own."""


def status_page() -> bytes:
    """The page as it is served: one request shows it, and its policy lets in no file."""
    room = resources.files("raycp.observer")
    return _SCRIPT.sub(lambda found: (room / "page" / found[1].decode()).read_bytes(), (room / "status.html").read_bytes())
