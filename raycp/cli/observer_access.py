"""What commands show the observer to be let in, and by which authority they know it: ``RAYCP_OBSERVER_*``, else the fleet
file's own files where this machine has them."""

import os
import ssl
import urllib.parse
from pathlib import Path

from raycp.cli.errors import BadInput
from raycp.config.observer import ObserverSpec

TOKEN_FILE, CA, CERT, KEY = (f"RAYCP_OBSERVER_{name}" for name in ("TOKEN_FILE", "CA", "CERT", "KEY"))


def is_local(url: str) -> bool:
    """Whether the observer at ``url`` listens on the loopback address, which other machines can't reach."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def use_files_of(spec: ObserverSpec) -> None:
    """Take the fleet file's token and certificate where nothing else was said and this machine has them: its node, as a rule."""
    read = spec.tokens.read if spec.tokens is not None else None
    for name, path in ((TOKEN_FILE, read), (CA, spec.tls.cert if spec.tls is not None else None)):
        if path is not None and os.access(path, os.R_OK):
            os.environ.setdefault(name, path)


def headers() -> dict[str, str]:
    """With the token, if one is to be used. Raises ``BadInput``."""
    path = os.environ.get(TOKEN_FILE)
    if not path:
        return {}
    try:
        token = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{TOKEN_FILE}: {path} can't be read: {error}", "name a file with the observer's token") from error
    if not token.isascii() or not token.isprintable() or " " in token:
        raise BadInput(f"{TOKEN_FILE}: {path} has no token", "it must be one word of printable ASCII")
    return {"Authorization": f"Bearer {token}"}


def context(url: str) -> ssl.SSLContext | None:
    """For HTTPS; None for HTTP. Raises ``BadInput``."""
    if not url.startswith("https://"):
        return None
    try:
        made = ssl.create_default_context(cafile=os.environ.get(CA) or None)
        if certificate := os.environ.get(CERT):
            made.load_cert_chain(certificate, os.environ.get(KEY) or None, password=lambda: "")
    except (OSError, ValueError) as error:
        raise BadInput(f"{CA}, {CERT}, {KEY}: {error}", "name PEM files") from error
    return made
