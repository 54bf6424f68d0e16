"""``raycp uninstall``: remove from the clusters what a fleet, or one of its controllers, has left there.

It asks the clusters, not Ray: the fleet does not run any more, and its Ray may not exist.
"""

import argparse
import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from raycp.base.clock import Clock, SystemClock
from raycp.cli.confirmation import confirmed, has_terminal
from raycp.cli.errors import FAILED, BadInput, CliError
from raycp.cli.fleets import add_file, add_working_dir
from raycp.cli.printer import say
from raycp.cli.probe import connect_spec
from raycp.config import FleetDoc, load_fleet
from raycp.driver.fleet_builder import build_fleet
from raycp.driver.removal.execution import carry_out
from raycp.driver.removal.findings import ClusterFindings
from raycp.driver.removal.removals import ClusterRemoval, removals
from raycp.driver.removal.survey import RemovalRefused, RemovalScope, check_idle, survey, survey_hub
from raycp.kube import ClusterClient, ConnectError, ConnectSpec, KubeError
from raycp.protocol.plan import Fleet

CHILDREN = (
    "children that controllers have made in the clusters stay: `kubectl delete pods -l raycp.io/owner-uid` removes a job's Pods"
)


def add_parser(subparsers: Any) -> None:
    """``raycp uninstall -c FLEET.yaml [--controller NAME] [--crds] [--dry-run] [--yes]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "uninstall", help="remove from the clusters what a fleet, or one of its controllers, has left there"
    )
    add_file(parser)
    parser.add_argument(
        "--controller", default="", metavar="NAME", help="this controller only, also while the fleet runs without it"
    )
    parser.add_argument("--crds", action="store_true", help="CustomResourceDefinitions too, and all objects of them")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_working_dir(parser)


def run(args: argparse.Namespace) -> int:
    """0 when all of it is removed; 1 when something could not be, or the user says no."""
    doc = load_fleet(args.config)
    search = [args.working_dir] if args.working_dir else [Path.cwd(), args.config.resolve().parent]
    scope = scope_of(build_fleet(doc, args.config, search), args.controller, args.config)
    if not (args.dry_run or args.yes or has_terminal()):
        raise BadInput("there is no terminal to ask on", "look at what --dry-run prints, then repeat with --yes")
    specs = {
        each.name: msgspec.structs.replace(connect_spec(each), user_agent="raycp-uninstall")
        for each in doc.spec.clusters
        if each.embedded is None
    }
    return asyncio.run(_run(scope, specs, SystemClock(), args))


def scope_of(fleet: Fleet, controller: str, file: Path) -> RemovalScope:
    """Raises ``BadInput`` where there is nothing that could be removed: no such controller, or a hub that ends with its fleet."""
    names = [each.name for each in fleet.controllers]
    if controller and controller not in names:
        raise BadInput(f"{file}: spec.controllers has no {controller!r}", f"name one of {', '.join(names)} with --controller")
    if fleet.doc.hub.embedded is not None:
        raise BadInput(
            f"{file}: the hub {fleet.doc.hub.name} is embedded: the fleet's state, and what tells its children, end with it",
            "`raycp down`, before it ends with the fleet: delete the objects whose finalizers hold something in other clusters",
        )
    return RemovalScope(fleet, controller)


async def _run(scope: RemovalScope, specs: Mapping[str, ConnectSpec], clock: Clock, args: argparse.Namespace) -> int:
    async with contextlib.AsyncExitStack() as stack:
        clients: dict[str, ClusterClient] = {}
        found = await look(scope, specs, clock, clients, stack)
        planned = removals(found, controller=scope.controller, crds=args.crds)
        what = f"controller {scope.controller} of fleet {scope.fleet.name}" if scope.controller else f"fleet {scope.fleet.name}"
        say(f"to remove {what}:")
        say("\n".join(line for removal in planned for line in removal.lines()))
        if any(each.owns for each in scope.going):
            say(CHILDREN)
        failed = any(removal.problems for removal in planned)
        if args.dry_run or all(removal.empty for removal in planned):
            say("dry run: nothing was changed" if args.dry_run else "nothing is left to remove")
            return FAILED if failed else 0
        if not (args.yes or confirmed("Do this?")):
            say("nothing was done")
            return FAILED
        with _hub_errors(scope.fleet.doc):
            await check_idle(scope, clients[scope.fleet.doc.hub.name], clock)  # it may have come up while the user was thinking
        failed |= await carried_out(planned, clients, scope.fleet.doc)
    say("done, but for what is named above: repeat the command when that is mended" if failed else "done")
    return FAILED if failed else 0


async def look(
    scope: RemovalScope,
    specs: Mapping[str, ConnectSpec],
    clock: Clock,
    clients: dict[str, ClusterClient],
    stack: contextlib.AsyncExitStack,
) -> list[ClusterFindings]:
    """What every cluster of the file has, the hub first. ``clients`` receives connections, which ``stack`` closes.

    Raises ``CliError`` where the hub does not answer: it says whether the fleet runs, and which children are the fleet's.
    """
    doc = scope.fleet.doc

    async def connect(name: str) -> ClusterClient:
        clients[name] = client = await ClusterClient.connect(specs[name], clock)
        stack.push_async_callback(client.close)
        return client

    with _hub_errors(doc):
        hub, keys = await survey_hub(scope, await connect(doc.hub.name), clock)

    async def one(name: str) -> ClusterFindings:
        try:
            return await survey(scope, doc.cluster(name), await connect(name), keys)
        except ConnectError as error:
            return ClusterFindings(name, unreachable=f"{error.problem}. {error.remedy}")
        except (KubeError, TimeoutError) as error:
            return ClusterFindings(name, unreachable=str(error) or "no answer")

    others = [each.name for each in doc.spec.clusters if each.name != doc.hub.name]
    ends = [ClusterFindings(name, ends=True) for name in others if name not in specs]
    return [hub, *await asyncio.gather(*(one(name) for name in others if name in specs)), *ends]


async def carried_out(planned: list[ClusterRemoval], clients: Mapping[str, ClusterClient], doc: FleetDoc) -> bool:
    """Whether something could not be done, which is said. The hub comes last: it keeps what tells the fleet's children."""
    hub = doc.hub.name
    members = [removal for removal in planned if removal.cluster != hub and not removal.empty]
    problems = await asyncio.gather(*(carry_out(removal, clients[removal.cluster]) for removal in members))
    failed = _reported({removal.cluster: each for removal, each in zip(members, problems, strict=True)})
    (last,) = (removal for removal in planned if removal.cluster == hub)
    if failed and last.keys is not None:
        say(f"cluster {hub}: {last.keys.what} is kept: it tells which children in the others are the fleet's", error=True)
        last = replace(last, keys=None)
    return _reported({hub: await carry_out(last, clients[hub])}) or failed


@contextlib.contextmanager
def _hub_errors(doc: FleetDoc) -> Iterator[None]:
    try:
        yield
    except RemovalRefused as error:
        raise CliError(str(error)) from error
    except ConnectError as error:
        raise CliError(f"hub {doc.hub.name}: {error.problem}; nothing was done", error.remedy) from error
    except (KubeError, TimeoutError) as error:
        raise CliError(f"hub {doc.hub.name}: {str(error) or 'no answer'}; nothing was done") from error


def _reported(problems: Mapping[str, list[str]]) -> bool:
    for cluster, lines in problems.items():
        for line in lines:
            say(f"error: cluster {cluster}: {line}", error=True)
    return any(problems.values())
