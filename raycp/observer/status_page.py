"""The status page: one HTML file without external assets, put together from its parts."""

from importlib import resources

SCRIPTS = ("actions.js",)
"""Parts of its script, in files of their own; each stands at a line ``// part: NAME`` of the page."""


def status_page() -> bytes:
    """The page as it is served."""
    room = resources.files("raycp.observer")
    page = (room / "status.html").read_text("utf-8")
    for name in SCRIPTS:
        page = page.replace(f"// part: {name}\n", (room / name).read_text("utf-8"))
    return page.encode()
