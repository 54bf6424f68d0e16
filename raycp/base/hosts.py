"""Hosts in addresses: where what listens on one is reached, and how one stands before a port."""

LOOPBACK = "127.0.0.1"


def bracketed(host: str) -> str:
    """As it stands before a port (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def reachable(host: str, node: str = LOOPBACK) -> str:
    """The host at which what listens on ``host`` is reached. A wildcard stands for all addresses of one family: that of its node,
    ``node``, where it is of that family, else for the loopback address."""
    if host == "0.0.0.0":
        return node if node and ":" not in node else LOOPBACK
    if host == "::":  # asyncio takes no IPv4 there
        return node if ":" in node else "::1"
    return host


def reached_at(host: str, node: str = LOOPBACK) -> str:
    """``reachable``, as it stands before a port."""
    return bracketed(reachable(host, node))
