"""``raycp apply``: change a running fleet to what the file says, after printing the difference."""

import argparse
from pathlib import Path
from typing import Any

from raycp.base.release import UPGRADE
from raycp.cli.drain import add_timeout, vacate
from raycp.cli.errors import FAILED, BadInput, CliError
from raycp.cli.fleets import add_address, add_file, at_ray, client_of, existing, run_async
from raycp.cli.module_search import search_of
from raycp.cli.printer import say
from raycp.cli.run import readiness, summary
from raycp.config import diff, load_fleet


def add_parser(subparsers: Any) -> None:
    """``raycp apply -c FLEET.yaml [--dry-run] [--no-drain] [--drain-timeout SECONDS]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("apply", help="change a running fleet to what the file says")
    add_file(parser)
    add_address(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the difference and change nothing")
    parser.add_argument("--working-dir", type=Path, default=None, help="directory of the controllers' modules")
    parser.add_argument("--no-drain", action="store_true", help="remove clusters at once: what runs there is assumed to go on")
    add_timeout(parser)


def run(args: argparse.Namespace) -> int:
    """0 when the fleet runs what the file says."""
    from raycp.driver.fleet_builder import build_fleet
    from raycp.runtime import local_ray

    doc = load_fleet(args.config)
    search = search_of(args)
    fleet = build_fleet(doc, args.config, search)
    with at_ray(existing(args)):
        client = client_of(doc)
        if why := run_async(client.other_release()):
            raise CliError(why, UPGRADE)
        plan = run_async(client.plan())
        if plan is None:
            raise CliError(f"fleet {doc.name} has no plan yet", "bring it up with `raycp run` or `raycp submit`")
        before = plan.fleet
        if moved := before.doc.moved_lock(doc):
            raise BadInput(f"{args.config}: {moved}")
        uri = local_ray.working_dir_uri()
        if uri:
            fleet = build_fleet(doc, args.config, search, uri)
        elif "working_dir" in before.runtime and "PYTHONPATH" in fleet.runtime and not local_ray.single_local_node():
            raise CliError(
                "the running fleet received its modules with its Ray job", "use `raycp submit`, which sends the new ones"
            )
        changes = [str(change) for change in diff(before.doc, doc)]
        if before.runtime != fleet.runtime and before.controllers and not changes:
            changes.append("~ controllers' code (replaces the workers)")
        if not changes and before.generation == fleet.generation:
            say(f"fleet {doc.name} matches the file: nothing to change in generation {fleet.generation}")
            return 0
        say("\n".join(changes) or "~ controllers' declarations")
        leaving = [each.name for each in before.doc.members if each.name not in {kept.name for kept in doc.spec.clusters}]
        if leaving and not args.no_drain and not vacate(args, client, plan, leaving):
            return FAILED
        if args.dry_run:
            say(f"dry run: nothing was changed; generation {before.generation} would become {fleet.generation}")
            return 0
        run_async(client.apply(fleet))
        with readiness(doc.name) as waits:
            ready = client.wait_ready(fleet.generation, doc.spec.timeouts.ready, lambda now: waits(now.get("reasons") or []))
            status = run_async(ready)
    say(f"fleet {doc.name} runs generation {fleet.generation}")
    say(summary(status))
    return 0

