"""``raycp drain``: move the Pods of ``BatchJob``s out of a cluster of a running fleet, and place no new ones there."""

import argparse
from collections.abc import Sequence
from typing import Any

from raycp.base.clock import SystemClock
from raycp.base.release import UPGRADE
from raycp.cli.confirmation import confirmed, has_terminal
from raycp.cli.errors import FAILED, BadInput, CliError
from raycp.cli.fleets import add_address, add_file, at_ray, client_of, existing, run_async
from raycp.cli.hub_access import connected, hub_of_plan
from raycp.cli.operator_name import operator
from raycp.cli.printer import say
from raycp.cli.seconds import seconds
from raycp.config import load_fleet
from raycp.driver.drains import ChangesFleet, JobPresence, drain, jobs_in
from raycp.protocol.control import SetDrain
from raycp.protocol.plan import Plan

SHOWN = 20
"""Jobs that are named one by one."""


def add_parser(subparsers: Any) -> None:
    """``raycp drain CLUSTER -c FLEET.yaml [--undo] [--dry-run] [--yes] [--timeout SECONDS]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "drain",
        help="move a cluster's BatchJobs to others, and place none there",
        description="Move the Pods of BatchJobs out of a cluster: each job gives up some at a time (placement.maxMoving), and "
        "only where another cluster takes them; none counts as failed. The fleet keeps the cluster drained until --undo, or "
        "until a file without `drain: true` is applied.",
    )
    parser.add_argument("cluster", help="the cluster's name in the fleet")
    add_file(parser)
    add_address(parser)
    parser.add_argument("--undo", action="store_true", help="place Pods there again")
    parser.add_argument("--dry-run", action="store_true", help="print what would move, and change nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_timeout(parser)


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """``--drain-timeout``."""
    parser.add_argument(
        "--drain-timeout", type=seconds, default=600.0, metavar="SECONDS", help="how long Pods may take to leave (default: 600)"
    )


def run(args: argparse.Namespace) -> int:
    """0 when no job has Pods there any more; 1 when some stay, or the user says no."""
    doc = load_fleet(args.config)
    if not (args.undo or args.dry_run or args.yes or has_terminal()):
        raise BadInput("there is no terminal to ask on", "look at what --dry-run prints, then repeat with --yes")
    with at_ray(existing(args)):
        client, clock = client_of(doc), SystemClock()
        if why := run_async(client.other_release()):
            raise CliError(why, UPGRADE)
        plan = run_async(client.plan())
        if plan is None:
            raise CliError(f"fleet {doc.name} has no plan yet", "bring it up with `raycp run` or `raycp submit`")
        running = plan.fleet.doc
        names = [each.name for each in running.members]
        if args.cluster not in names:
            raise BadInput(f"fleet {doc.name} has no member {args.cluster!r}", f"name one of {', '.join(names)}")
        if args.undo:
            run_async(client.ask(SetDrain(False, [args.cluster], operator())))
            say(f"cluster {args.cluster} gets Pods again, if the fleet file does not say otherwise")
            return 0
        spec = hub_of_plan(plan)

        async def look() -> list[JobPresence]:
            async with connected(spec, "raycp-drain", clock) as hub:
                return await jobs_in(hub, [args.cluster])

        announce(run_async(look()), [args.cluster])
        if args.dry_run:
            say("dry run: nothing was changed")
            return 0
        if not (args.yes or confirmed("Do this?")):
            say("nothing was done")
            return FAILED

        async def work() -> list[JobPresence]:
            async with connected(spec, "raycp-drain", clock) as hub:
                return await drain(client, hub, [args.cluster], clock, args.drain_timeout, progress, operator())

        left = run_async(work())
    if not left:
        say(f"cluster {args.cluster} is drained; put `drain: true` into the fleet file, or remove it there")
    return stayed(left)


def announce(found: Sequence[JobPresence], clusters: Sequence[str]) -> None:
    """Say what will move."""
    if not found:
        say(f"no job has Pods in {', '.join(clusters)}")
        return
    say(f"to move: {_counted(found)}, of each job some at a time (placement.maxMoving):")
    say("\n".join(f"  {each}" for each in found[:SHOWN]))
    if len(found) > SHOWN:
        say(f"  and {len(found) - SHOWN} more")


def _counted(found: Sequence[JobPresence]) -> str:
    pods, jobs = sum(each.pods for each in found), len({each.job for each in found})
    return f"{pods} Pod{'' if pods == 1 else 's'} of {jobs} job{'' if jobs == 1 else 's'}"


def progress(left: Sequence[JobPresence]) -> None:
    """Say how many are left."""
    if left:
        say(f"still to leave: {_counted(left)}")


def stayed(left: Sequence[JobPresence]) -> int:
    """The exit code; what has stayed is said."""
    for each in left[:SHOWN]:
        say(f"error: {each}: stays, since no other cluster takes it or it has not ended yet", error=True)
    return FAILED if left else 0


def vacate(args: argparse.Namespace, fleet: ChangesFleet, plan: Plan, leaving: list[str]) -> bool:
    """For ``apply``: whether no job has Pods in the clusters that its file no longer has. They are moved out of them first, while
    the fleet still reaches these; with ``--dry-run`` it is only said what would move."""
    spec, clock = hub_of_plan(plan), SystemClock()

    async def work() -> list[JobPresence]:
        async with connected(spec, "raycp-apply", clock) as hub:
            found = await jobs_in(hub, leaving)
            announce(found, leaving)
            if args.dry_run or not found:
                return []
            return await drain(fleet, hub, leaving, clock, args.drain_timeout, progress, operator())

    left = run_async(work())
    if stayed(left):
        say(f"the fleet keeps {', '.join(leaving)}, drained: repeat the command, or remove at once with --no-drain", error=True)
    return not left
