"""``raycp upgrade``: bring up new code or config as a standby fleet, and hand over to it when it is warm."""

import argparse
import contextlib
from pathlib import Path
from typing import Any

from raycp.cli.errors import BadInput, CliError
from raycp.cli.fleets import add_address, at_ray, existing, namespace_of, run_async
from raycp.cli.module_search import add_working_dir, search_of
from raycp.cli.printer import say
from raycp.cli.run import readiness, summary
from raycp.cli.submit import submit_job
from raycp.config import FleetDoc, load_fleet
from raycp.driver.fleet_client import FleetClient, FleetError, OtherRelease
from raycp.protocol.control import FleetHandoverResult
from raycp.protocol.plan import Plan


def add_parser(subparsers: Any) -> None:
    """``raycp upgrade -c FLEET.yaml [--working-dir DIR] [--standby] [--submit] [--force]``; ``... --switch | --abort``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "upgrade", help="bring up a new fleet beside the old one and hand over when it is warm"
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FLEET.yaml", help="the fleet file of the new fleet")
    parser.add_argument("--fleet", metavar="NAME", help="the fleet's name, for --switch and --abort (default: the only one)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--standby", action="store_true", help="bring the new fleet up as a standby, and do not hand over")
    what.add_argument("--switch", action="store_true", help="hand over to the standby fleet")
    what.add_argument("--abort", action="store_true", help="take the standby fleet down")
    parser.add_argument(
        "--force", action="store_true", help="replace the fleet's processes even where it runs this generation already"
    )
    add_working_dir(parser, "new modules")
    parser.add_argument("--submit", action="store_true", help="as a Ray job, which sends the modules (--address: dashboard)")
    parser.add_argument("--python", default=None, help="Python on the nodes, with --submit")
    add_address(parser)


def run(args: argparse.Namespace) -> int:
    """0 when the new fleet leads (--standby: is warm; --abort: is down); 1 when the old one goes on, with the reason."""
    if args.switch or args.abort:
        return _finish(args)
    if args.config is None:
        raise BadInput("no fleet file is named", "raycp upgrade -c FLEET.yaml")
    doc = load_fleet(args.config)
    if args.submit:
        return _submit(args, doc)
    from raycp.driver import upgrade
    from raycp.driver.fleet_builder import build_fleet
    from raycp.runtime import local_ray

    search = search_of(args)
    build_fleet(doc, args.config, search)
    with at_ray(existing(args)):
        fleet = build_fleet(doc, args.config, search, local_ray.working_dir_uri())
        if "PYTHONPATH" in fleet.runtime and not local_ray.single_local_node():
            raise CliError(
                "the controllers' modules are on this machine only, and Ray has other nodes",
                "add --submit, which sends them, or install them on all nodes",
            )
        client = FleetClient(doc.ray_namespace)
        plan = _running_plan(client)
        if plan is not None:
            if moved := plan.fleet.doc.moved_lock(doc):
                raise BadInput(f"{args.config}: {moved}")
            if plan.fleet.generation == fleet.generation and not args.force and not run_async(client.other_release()):
                say(f"fleet {doc.name} runs this generation already; --force replaces its processes")
                return 0
        with readiness(f"{doc.name}, generation {fleet.generation}") as waits:
            run_async(upgrade.stand_by(client, fleet, lambda standby: waits(standby.reasons)))
        if args.standby:
            say(f"fleet {doc.name}: generation {fleet.generation} stands by; hand over to it with `raycp upgrade --switch`")
            return 0
        say("warm; handing over")
        _print_result(run_async(upgrade.switch(client)), doc.name, client)
    return 0


def _running_plan(client: FleetClient) -> Plan | None:
    """Raises ``CliError`` where the fleet's release is too far from this one to be followed."""
    too_far = "take the fleet down with its own release (`raycp down`), then bring it up with this one (`raycp run`)"
    try:
        plan = run_async(client.plan())
    except CliError as error:
        if isinstance(error.__cause__, OtherRelease):
            raise CliError(f"this fleet can't be upgraded while it runs: {error.__cause__.problem}", too_far) from error
        raise
    try:
        if plan is not None:
            _ = plan.fleet.doc
    except ValueError as error:  # pydantic's
        raise CliError(
            f"this fleet can't be upgraded while it runs: its file is not read by this release: {error}", too_far
        ) from error
    return plan


def _finish(args: argparse.Namespace) -> int:
    from raycp.driver import upgrade

    with at_ray(existing(args)):
        client = FleetClient(namespace_of(args))
        name = client.namespace.removeprefix("raycp-")
        if args.abort:
            ended = run_async(upgrade.abandon(client))
            say(f"fleet {name}: " + ("the standby fleet is down" if ended else "there is no standby fleet"))
        else:
            _print_result(run_async(upgrade.switch(client)), name, client)
    return 0


def _print_result(yielded: FleetHandoverResult, name: str, client: FleetClient) -> None:
    say(
        f"fleet {name} leads in epoch {yielded.epoch}: drained in {1000 * yielded.drain:.0f} ms, handed over in "
        f"{1000 * yielded.took:.0f} ms; {yielded.revoked} reconciles interrupted, {len(yielded.shards)} shards warm"
        + (f", cold: {', '.join(yielded.cold)}" if yielded.cold else "")
    )
    with contextlib.suppress(FleetError, CliError):
        say(summary(run_async(client.status())))


def _submit(args: argparse.Namespace, doc: FleetDoc) -> int:
    flags = [flag for flag, given in (("--standby", args.standby), ("--force", args.force)) if given]
    say(f"job {submit_job(args, doc, args.address or '', ['upgrade', *flags])} succeeded")
    return 0
