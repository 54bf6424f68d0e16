"""What all commands on a running fleet share: arguments, the connection to Ray, the fleet's namespace, errors as messages."""

import argparse
import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from raycp.base.release import UPGRADE, difference
from raycp.cli.errors import BadInput, CliError
from raycp.cli.printer import say
from raycp.cli.prompt import WITHIN, Promptness, end_on_term, prompt, unhurried
from raycp.config import FleetDoc, load_fleet
from raycp.driver.fleet_client import FleetClient, FleetError
from raycp.protocol.substrate import MemberUnavailable
from raycp.runtime.fleet_home import fleet_home, record_ray, recorded_ray
from raycp.runtime.head import silence
from raycp.runtime.local_ray import (
    AtHand,
    RayError,
    connect,
    of_environment,
    resolve,
    running_address,
    running_namespaces,
    shut_down,
)

T = TypeVar("T")


def add_file(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``-c FLEET.yaml``."""
    parser.add_argument("-c", "--config", type=Path, required=required, metavar="FLEET.yaml", help="the fleet file")


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """Arguments that name the fleet, by file or by name, and its Ray."""
    parser.add_argument("-c", "--config", type=Path, metavar="FLEET.yaml", help="the fleet file, for the fleet's name")
    parser.add_argument("--fleet", metavar="NAME", help="the fleet's name (default: the only one that runs)")
    add_address(parser)


def add_address(parser: argparse.ArgumentParser) -> None:
    """``--address``."""
    parser.add_argument(
        "--address", default=None, metavar="HOST:PORT", help="head of the Ray cluster (default: the one on this machine)"
    )


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. Errors of Ray or the fleet become ``CliError``."""
    try:
        return asyncio.run(work)
    except (FleetError, RayError, MemberUnavailable) as error:
        raise CliError(str(error)) from error


@contextlib.contextmanager
def at_ray(address: str, num_cpus: int | None = None) -> Iterator[AtHand]:
    """A connection to Ray for the duration of the block, which ends where the head no longer answers, and within a second of
    Ctrl-C or SIGTERM, unless the Ray is this process's own (or up to ``unhurried``)."""
    try:
        where = resolve(address)
        with prompt(Promptness((lambda: silence(where, WITHIN)) if where else None, lambda why: _lost(where, why))):
            at_hand = connect(where or "local", num_cpus)
            if at_hand.ours:
                unhurried()
            else:
                end_on_term()
            try:
                yield at_hand
            finally:
                shut_down()
    except RayError as error:
        raise CliError(str(error)) from error


def to_join(address: str) -> str:
    """The Ray on which ``run`` brings a fleet up; empty for one of its own. One that nobody has named is said on stderr.

    Raises ``CliError``.
    """
    try:
        where = resolve(address)
    except RayError as error:
        raise CliError(str(error)) from error
    if where and address == "auto":
        say(f"on the Ray at {where}", error=True)
    return where


def _lost(where: str, why: str) -> None:
    message = f"error: the Ray at {where} does not answer any more: {why}"
    remedy = "a fleet on it goes on where its nodes live: repeat the command when its head is back"
    say(f"{message}; {remedy}", error=True)


def existing(args: argparse.Namespace) -> str:
    """The running Ray that a command asks; never a random one of several. In this order: ``--address``, the fleet file's
    ``spec.ray.address``, ``RAY_ADDRESS``, where ``raycp run`` brought the named fleet up, the only Ray of this machine. The latter
    two are said on stderr. ``auto`` as ``--address`` leaves the file out; ``local``, a Ray that ``run`` has started, leaves out the
    environment.

    Raises ``CliError`` where none runs, ``BadInput`` where it could be one of several.
    """
    file = getattr(args, "config", None)
    doc = load_fleet(file) if file is not None else None
    address = str(args.address or (doc.spec.ray.address if doc is not None else "auto"))
    if address == "auto":
        address = of_environment()
    if address not in ("auto", "local"):
        return address
    fleet = doc.name if doc is not None else str(getattr(args, "fleet", None) or "")
    found = recorded_ray(fleet) if fleet else ""
    if not found or silence(found):
        try:
            found = running_address()
        except RayError as error:
            raise BadInput(str(error)) from error
        if not found:
            remedy = "name its head with --address HOST:6379, or start a fleet with `raycp run`"
            raise CliError("no Ray runs on this machine", remedy)
    say(f"on the Ray at {found}", error=True)
    return found


def namespace_of(args: argparse.Namespace) -> str:
    """Ray namespace of the fleet that ``add_fleet``'s arguments name. Needs a connection to Ray."""
    if args.config is not None:
        return load_fleet(args.config).ray_namespace
    if args.fleet:
        return f"raycp-{args.fleet}"
    fleets = running_namespaces()
    if not fleets:
        raise CliError("no fleet runs on this Ray", "bring one up with `raycp run -c FLEET.yaml`")
    if len(fleets) > 1:
        raise BadInput(
            f"several fleets run here: {', '.join(name.removeprefix('raycp-') for name in fleets)}", "name one with --fleet"
        )
    return fleets[0]


def claim(doc: FleetDoc, at_hand: AtHand) -> None:
    """Record the Ray of the fleet that is about to come up there, by which commands find it.

    Raises ``CliError`` where another Ray runs a fleet of that name whose files on this machine it would overwrite.
    """
    other = recorded_ray(doc.name)
    embedded = any(cluster.embedded is not None for cluster in doc.spec.clusters)
    if embedded and other not in ("", at_hand.address) and not silence(other):
        raise CliError(
            f"a fleet {doc.name} runs on the Ray at {other}, and the kubeconfigs of both would be in {fleet_home(doc.name)}",
            f"end it with `raycp down --fleet {doc.name} --address {other}`, or give this one another metadata.name or RAYCP_HOME",
        )
    try:
        record_ray(doc.name, at_hand.address)
    except OSError as error:
        raise CliError(
            f"{error.filename} can't be written: {error.strerror}", "RAYCP_HOME names the directory in which raycp keeps files"
        ) from error


def note_release(status: Mapping[str, Any]) -> None:
    """Say it where the fleet of ``status`` runs another release of raycp than this: what is shown may be incomplete."""
    if status.get("fleet") and (why := difference(str(status.get("release") or ""), "this fleet")):
        say(f"note: {why}: {UPGRADE}", error=True)


def client_of(doc: FleetDoc) -> FleetClient:
    """The client of a fleet file's fleet."""
    return FleetClient(doc.ray_namespace)
