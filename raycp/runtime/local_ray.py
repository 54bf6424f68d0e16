"""Ray at hand: connect to the one that runs, or start a local one with settings that suit a control plane."""

import contextlib
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError
from ray.util import list_named_actors

from raycp.config.rayenv import RAY_ENV, unfit_python
from raycp.protocol.control.codec import first_line
from raycp.protocol.members import Member
from raycp.protocol.revisions import base_of
from raycp.runtime import ray_token
from raycp.runtime.head import silence

log = logging.getLogger(__name__)

SETTINGS = {**RAY_ENV, "RAY_maximum_gcs_destroyed_actor_cached_count": "5000", "RAY_DEDUP_LOGS": "0"}
"""What raycp sets for a Ray that it starts."""


class RayError(Exception):
    """Ray can't be reached or started; the message has the remedy."""


@dataclass(frozen=True)
class AtHand:
    """The Ray that this process is connected to. ``ours``: started by this process, and ends with it. ``token``: the file of the
    token that raycp gave it."""

    address: str
    ours: bool
    token: Path | None = None


def resolve(address: str) -> str:
    """``HOST:PORT`` of the running head that ``address`` means; empty where a Ray of this process's own is to be started. ``auto``
    means no Ray that another raycp has started for itself: it ends with its fleet.

    Raises ``RayError`` where no head answers there, within seconds.
    """
    if address == "auto":
        address = of_environment()
    if address == "local":
        return ""
    named = address if address != "auto" else ""
    where = named or _only([each for each in running_addresses() if ray_token.token_of(each) is None])
    why = silence(where) if where else ""
    if why and named:
        raise RayError(f"no Ray answers at {where}: {why}. Start one with `ray start --head`, or correct the address")
    return "" if why or not where else where


def of_environment() -> str:
    """``RAY_ADDRESS``, which may be ``auto`` and ``local``, as in Ray; ``auto`` where there is none."""
    return os.environ.get("RAY_ADDRESS", "").strip() or "auto"


def connect(address: str, num_cpus: int | None = None) -> AtHand:
    """``auto``: the running Ray, else a local one; ``local``: always one of its own; else ``HOST:PORT`` of a head.

    Raises ``RayError``.
    """
    if ray.is_initialized():
        return AtHand(ray.get_runtime_context().gcs_address, ours=False)
    if where := resolve(address):
        token = ray_token.token_of(where)
        if token is not None:
            _identity.append(ray_token.adopt(token))
        try:
            ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
        except (ConnectionError, RuntimeError, ValueError, AuthenticationError) as error:
            _put_back()
            why = other_versions(str(error)) or first_line(error)
            raise RayError(f"the Ray at {where} does not let this process join: {why}") from error
        return AtHand(ray.get_runtime_context().gcs_address, ours=False, token=token)
    token = start_local(num_cpus)
    return AtHand(ray.get_runtime_context().gcs_address, ours=True, token=token)


_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


def other_versions(text: str) -> str:
    """What Ray's refusal of a process of other versions says in its many lines, in one; empty for another text."""
    found = _VERSIONS.findall(text)
    if len(found) != 2:
        return ""
    (ray_there, python_there), (ray_here, python_here) = found
    return (
        f"it runs Ray {ray_there} with Python {python_there}, raycp here Ray {ray_here} with Python {python_here}; install the "
        "same versions of both on all nodes and here"
    )


_identity: list[dict[str, str | None]] = []
"""The environment before this process took on the token of the Ray that it is connected to."""
_own: list[Path] = []
"""The token of the Ray of this process."""


def _put_back() -> None:
    while _identity:
        ray_token.put_back(_identity.pop())
    while _own:
        ray_token.forget(_own.pop())


def start_local(num_cpus: int | None = None) -> Path | None:
    """A Ray of this process's own, which ends with it. Returns the file of its token, without which nobody joins it (Ray listens on
    the machine's addresses, whatever it is told); None where the environment says ``RAY_AUTH_MODE=disabled``.

    Raises ``RayError``.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    token = None
    if os.environ.get(ray_token.MODE, "").lower() != "disabled":
        try:
            token = ray_token.new_token()
        except OSError as error:
            remedy = "RAYCP_HOME names the directory in which raycp keeps files"
            raise RayError(f"the token of a local Ray can't be written to {error.filename}: {error.strerror}; {remedy}") from error
        _own.append(token)
        _identity.append(ray_token.adopt(token))
    try:
        _start(num_cpus or max(4, os.cpu_count() or 1))
        if token is not None:
            ray_token.record(ray.get_runtime_context().gcs_address, token)
    except BaseException:
        shut_down()
        raise
    return token


def _start(cpus: int) -> None:
    if why := unfit_python(sys.executable):
        raise RayError(f"a local Ray can't be started: {why}")
    try:
        with _children_apart():
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=128 * 1024 * 1024,
                _node_ip_address="127.0.0.1",
            )
    except Exception as error:
        raise RayError(f"a local Ray could not be started: {first_line(error)}") from error


_apart = False
_hooked: list[bool] = []


@contextlib.contextmanager
def _children_apart() -> Iterator[None]:
    """What is started meanwhile leads a session of its own: a signal to this process's group, which asks it to end, leaves Ray for
    it to take the fleet down with. Ray ends with this process all the same: the kernel signals its parent's death."""
    global _apart
    if not _hooked:
        os.register_at_fork(after_in_child=_leave_session)
        _hooked.append(True)
    _apart = True
    try:
        yield
    finally:
        _apart = False


def _leave_session() -> None:
    # Ray has no setting for it. It starts its processes with a function to run before exec, and with that Python runs fork hooks.
    if _apart:
        os.setsid()


def running_addresses() -> list[str]:
    """The heads of the Rays that have a process on this machine."""
    from ray._private.services import canonicalize_bootstrap_address, find_gcs_addresses

    try:
        found = sorted(find_gcs_addresses())
        if not found and (last := canonicalize_bootstrap_address("auto")):
            found = [str(last)]
    except Exception:  # Ray raises what it likes here, and all of it means none
        return []
    return found


def running_address() -> str:
    """The one Ray that has a process on this machine; empty where none has. Raises ``RayError`` where there are several."""
    return _only(running_addresses())


def _only(found: list[str]) -> str:
    if len(found) > 1:
        raise RayError(f"several Rays run on this machine: {', '.join(found)}; name one with --address HOST:PORT")
    return "".join(found)


def running_namespaces() -> list[str]:
    """Ray namespaces of fleets whose actors live, of either revision; needs a connection to Ray."""
    rows = list_named_actors(all_namespaces=True)
    return sorted({base_of(str(row["namespace"])) for row in rows if Member.parse(str(row["name"])) is not None})


def single_local_node() -> bool:
    """Whether Ray is one node, and that node is this machine: then paths of this machine are good on all nodes."""
    alive = [node for node in ray.nodes() if node.get("Alive")]
    return len(alive) == 1 and alive[0].get("NodeManagerHostname") == socket.gethostname()


def node_labels() -> list[dict[str, str]]:
    """The labels of each node alive; connected already."""
    return [dict(node.get("Labels") or {}) for node in ray.nodes() if node.get("Alive")]


def working_dir_uri() -> str:
    """The working directory of the Ray job that this process runs in; empty outside a job or where it has none."""
    with contextlib.suppress(Exception):
        return str(ray.get_runtime_context().runtime_env.get("working_dir") or "")
    return ""


def shut_down() -> None:
    """Disconnect; a Ray of our own ends."""
    ray.shutdown()
    _put_back()
