"""What the commands that touch a running fleet share: arguments, the way to its leader, errors for readers."""

import argparse
import asyncio
import contextlib
import os
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from raycp.cli.errors import BadInput, CliError
from raycp.config import FleetDoc, load_fleet
from raycp.driver.fleet_client import FleetClient, FleetError
from raycp.runtime.local_ray import AtHand, RayError, connect, running_address, running_namespaces, shut_down

T = TypeVar("T")


def add_file(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``-c FLEET.yaml``."""
    parser.add_argument("-c", "--config", type=Path, required=required, metavar="FLEET.yaml", help="the fleet file")


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """Which fleet, for commands that only ask: by file or by name, and where its Ray is."""
    parser.add_argument("-c", "--config", type=Path, metavar="FLEET.yaml", help="the fleet file, to know the fleet's name")
    parser.add_argument("--fleet", metavar="NAME", help="the fleet's name; the only one that runs by default")
    add_address(parser)


def add_address(parser: argparse.ArgumentParser) -> None:
    """``--address``."""
    parser.add_argument("--address", default=None, metavar="HOST:PORT", help="head of the Ray cluster (default: the one at hand)")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; what goes wrong with Ray or the fleet becomes one message."""
    try:
        return asyncio.run(work)
    except (FleetError, RayError) as error:
        raise CliError(str(error)) from error


@contextlib.contextmanager
def at_ray(address: str, num_cpus: int | None = None) -> Iterator[AtHand]:
    """Connected to Ray for the time of the block."""
    try:
        at_hand = connect(address, num_cpus)
    except RayError as error:
        raise CliError(str(error)) from error
    try:
        yield at_hand
    finally:
        shut_down()


def existing(address: str | None) -> str:
    """The address for commands that must not start a Ray of their own."""
    if address is not None:
        return address
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    found = running_address()
    if not found:
        raise CliError("no Ray runs on this machine", "name its head with --address HOST:6379, or start a fleet with `raycp run`")
    return found


def namespace_of(args: argparse.Namespace) -> str:
    """Ray namespace of the fleet that ``add_fleet``'s arguments name; connected to Ray already."""
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


def client_of(doc: FleetDoc) -> FleetClient:
    """The client of a fleet file's fleet."""
    return FleetClient(doc.ray_namespace)
