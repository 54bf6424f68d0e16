"""The ports of this machine that a fleet file asks for: whether they can be had is found out before anything is started."""

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from raycp.base.hosts import reached_at
from raycp.cli.errors import CliError
from raycp.cli.observer import fetch
from raycp.config import ConfigError, FleetDoc, Problem

Refusal = Callable[[str, int], str]
"""Why no process can listen on a host and port of this machine; empty where one can."""


def refusal(host: str, port: int) -> str:
    """See ``Refusal``. A host that can't be resolved here is left to the process that listens."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        return ""
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)  # two may bind to a port, one may listen
        except OSError as error:
            return "is taken" if error.errno == errno.EADDRINUSE else f"can't be listened on: {error.strerror}"
    return ""


def check_ports(doc: FleetDoc, file: Path, why: Refusal = refusal) -> None:
    """For a fleet that is about to come up on this machine. Raises ``ConfigError`` that names each port that can't be had."""
    if found := list(_problems(doc, str(file), why)):
        raise ConfigError(found)


def _fleet_at(host: str, port: int) -> str:
    """The fleet whose observer listens there; empty where none does, or none that answers to this user."""
    with contextlib.suppress(CliError):
        found = (fetch(f"http://{reached_at(host)}:{port}", "/api/v1/status", timeout=1.0) or {}).get("fleet")
        return found if isinstance(found, str) else ""
    return ""


def _problems(doc: FleetDoc, file: str, why: Refusal) -> Iterator[Problem]:
    spec = doc.spec
    free = "end the process that listens there (`ss -ltnp`), or give another"
    if spec.observer.port and (reason := why(spec.observer.host, spec.observer.port)):
        other = _fleet_at(spec.observer.host, spec.observer.port)
        # A fleet of the same name on the same hub: this one may be a candidate, which takes any port.
        if not other or other != doc.name or doc.hub.embedded is not None:
            text = f"{reason} on {spec.observer.host}" + (f" by the observer of fleet {other}" if other else "")
            runs = "it runs already: `raycp apply` changes it, `raycp down` ends it"
            remedy = runs if other == doc.name else "give another; 0 takes any" if other else f"{free}; 0 takes any"
            yield Problem(file, "spec.observer.port", str(spec.observer.port), text, remedy)
    for index, cluster in enumerate(spec.clusters):
        embedded = cluster.embedded
        if embedded is not None and embedded.port and (reason := why(embedded.host, embedded.port)):
            where = f"spec.clusters[{index}].embedded.port"
            yield Problem(file, where, str(embedded.port), f"{reason} on {embedded.host}", f"{free}; 0 takes any")
    numbers = spec.channels.numbers
    if numbers and all(why("127.0.0.1", number) for number in numbers):
        yield Problem(file, "spec.channels.ports", str(spec.channels.ports), "has no free port", "widen it, or choose another")
