"""What a failed first request to a cluster means, and what the user can do about it."""

from raycp.kube.errors import ApiError, ConnectError, Unreachable


def probe_error(cluster: str, where: str, error: ApiError | Unreachable) -> ConnectError | None:
    """The problem that a failed ``GET /version`` at ``where`` shows; None if the server is usable all the same."""
    if isinstance(error, Unreachable):
        text = str(error).removeprefix("GET /version: ")
        return ConnectError(cluster, text, _remedy(text))
    if error.status in (403, 404):  # reachable; /version itself may be forbidden
        return None
    if error.status == 401:
        return ConnectError(
            cluster,
            f"{where} rejects the credentials (401)",
            "The token or client certificate has expired or belongs to another cluster: renew it",
        )
    return ConnectError(cluster, f"{where} answers {error.status} {error.reason}", "Is it a Kubernetes API server, and healthy?")


def _remedy(text: str) -> str:
    if "not trusted" in text:
        return (
            "The CA in the config did not sign the server's certificate: configure the CA that did "
            "(or, for a test, insecureSkipTlsVerify)"
        )
    if "refused" in text:
        return "Nothing listens there: is the server up, and is the port correct?"
    if "no API server answers so" in text or "redirected" in text or "cannot be read" in text:
        return "Does a proxy or a login page answer there? The address must be the API server's"
    if "connection lost" in text:
        return "Does the server there speak this scheme (https or http), and does it accept the client certificate?"
    if "TLS" in text:
        return "Is this an https port?"
    if "HTTP" in text:
        return "Is this a Kubernetes API server's port, and https?"
    if "Name or service" in text or "resolution" in text or "nodename" in text:
        return "The host name does not resolve on this node"
    return "Check address, firewall and routes from this node"
