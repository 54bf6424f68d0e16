"""``raycp sweep``: Pods whose job is dead and which the fleet keeps until somebody confirms that they may go.

The fleet sweeps, not this command: it shows what the sweeper has found on the hub, and confirms exactly that.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import msgspec

from raycp.base.clock import Clock, SystemClock
from raycp.cli.confirmation import confirmed, has_terminal
from raycp.cli.errors import FAILED, BadInput, CliError
from raycp.cli.fleets import add_file
from raycp.cli.hub_access import connected, hub_of_file
from raycp.cli.printer import say
from raycp.config import load_fleet
from raycp.controllers.batchjob.dead_jobs import SweepRecord
from raycp.controllers.batchjob.sweeper import CONFIRMED, EVERY, NAME, RECORD, read_record
from raycp.kube import MERGE_PATCH, ApiError, ClusterClient, ConnectSpec, decode_answer

WITHIN = 2 * EVERY
"""Seconds in which a running fleet has swept what was confirmed."""

_PATH = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}"


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] = {}


class _Definition(msgspec.Struct):
    metadata: _Meta


def add_parser(subparsers: Any) -> None:
    """``raycp sweep -c FLEET.yaml [--confirm] [--yes] [--kubeconfig FILE]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "sweep",
        help="Pods of dead jobs that the fleet keeps until it is confirmed that they may go",
        description="Show the Pods whose job is dead and which the fleet does not remove by itself: more than a fifth of a "
        "cluster's, or found after the hub was restored or replaced. --confirm lets them go.",
    )
    add_file(parser)
    parser.add_argument("--confirm", action="store_true", help="let the fleet remove what is shown")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="kubeconfig of an embedded hub")


def run(args: argparse.Namespace) -> int:
    """0 when nothing is held, or what was is swept; 1 where it is not, or the user says no."""
    doc = load_fleet(args.config)
    if args.confirm and not (args.yes or has_terminal()):
        raise BadInput("there is no terminal to ask on", "look at what `raycp sweep` prints, then repeat with --confirm --yes")
    spec, clock = hub_of_file(doc, args.kubeconfig), SystemClock()
    record = asyncio.run(held_in(spec, clock))
    say("\n".join(lines(record)))
    if not record.held or not args.confirm:
        return FAILED if record.held else 0
    if not (args.yes or confirmed("Remove these Pods?")):  # outside of any loop: Ctrl-C ends it at once
        say("nothing was done")
        return FAILED
    left = asyncio.run(confirm(spec, record.digest, clock))
    if left.held:
        say("there is more, or something else, by now:")
        say("\n".join(lines(left)))
        return FAILED
    say("these Pods are being deleted, some have not ended yet" if left.approved else "swept")
    return 0


def lines(record: SweepRecord) -> list[str]:
    """What is held, for people."""
    if not record.held:
        return ["no Pods of dead jobs are held" if record.hub else "no sweep has run yet, or none has found this hub in order"]
    found = []
    for held in record.held:
        more = ", ..." if len(held.jobs) > 5 else ""
        found.append(f"cluster {held.cluster}: {held.pods} of {held.of} Pods, of jobs {', '.join(held.jobs[:5])}{more}: {held.why}")
    return found


async def held_in(spec: ConnectSpec, clock: Clock) -> SweepRecord:
    """What the sweeper has noted on the hub. Raises ``CliError``."""
    async with connected(spec, "raycp-sweep", clock) as hub:
        return read_record((await _read(hub)).annotations.get(RECORD, ""))


async def confirm(spec: ConnectSpec, digest: str, clock: Clock) -> SweepRecord:
    """Confirm what is named by ``digest``, and wait until the fleet has acted on it; what is held then. Raises ``CliError`` also
    where no running fleet does."""
    async with connected(spec, "raycp-sweep", clock) as hub:
        body = msgspec.json.encode({"metadata": {"annotations": {CONFIRMED: digest}}})
        await hub.request("PATCH", _PATH, body=body, content_type=MERGE_PATCH)
        deadline, taken_up, record = clock.now() + WITHIN, False, SweepRecord()
        while clock.now() < deadline:
            meta = await _read(hub)
            record = read_record(meta.annotations.get(RECORD, ""))
            taken_up = CONFIRMED not in meta.annotations
            if taken_up and (record.held or not record.approved):
                return record
            await clock.sleep(0.2)
    if taken_up:
        return record
    raise CliError(f"no fleet has swept within {WITHIN:g} s", "`raycp status` says whether it runs; what is confirmed stays so")


async def _read(hub: ClusterClient) -> _Meta:
    try:
        answer = await hub.request("GET", _PATH)
    except ApiError as error:
        if error.not_found:
            raise CliError(f"the hub has no CustomResourceDefinition {NAME}", "no fleet with batchjob has run here") from error
        raise
    return decode_answer(answer.body, _Definition, f"GET {_PATH}").metadata
