"""``raycp uninstall``: remove from the clusters what a fleet, or one of its controllers, has left there.

It asks the clusters, not Ray: the fleet does not run any more, and its Ray may not exist.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from raycp.base.clock import Clock, SystemClock
from raycp.cli.confirmation import confirmed, has_terminal
from raycp.cli.errors import FAILED, BadInput, CliError
from raycp.cli.fleets import add_file
from raycp.cli.module_search import add_working_dir, search_of
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
    scope = scope_of(build_fleet(doc, args.config, search_of(args)), args.controller, args.config)
    if not (args.dry_run or args.yes or has_terminal()):
        raise BadInput("there is no terminal to ask on", "look at what --dry-run prints, then repeat with --yes")
    specs = {
        each.name: msgspec.structs.replace(connect_spec(each), user_agent="raycp-uninstall")
        for each in doc.spec.clusters
        if each.embedded is None
    }
    clock = SystemClock()
    planned = removals(asyncio.run(look(scope, specs, clock)), controller=scope.controller, crds=args.crds)
    what = f"controller {scope.controller} of fleet {scope.fleet.name}" if scope.controller else f"fleet {scope.fleet.name}"
    say(f"to remove {what}:")
    say("\n".join(line for removal in planned for line in removal.lines()))
    if any(each.owns for each in scope.going):
        say(CHILDREN)
    failed = any(removal.problems for removal in planned)
    if args.dry_run or all(removal.empty for removal in planned):
        say("dry run: nothing was changed" if args.dry_run else "nothing is left to remove")
        return FAILED if failed else 0
    if not (args.yes or confirmed("Do this?")):  # outside of any loop: Ctrl-C ends it at once
        say("nothing was done")
        return FAILED
    failed |= asyncio.run(carried_out(planned, scope, specs, clock))
    say("done, but for what is named above: repeat the command when that is mended" if failed else "done")
    return FAILED if failed else 0


def scope_of(fleet: Fleet, controller: str, file: Path) -> RemovalScope:
    """Raises ``BadInput`` where there is nothing that could be removed: no such controller, or a hub that ends with its fleet."""
    names = [each.name for each in fleet.controllers]
    if controller and controller not in names:
        raise BadInput(f"{file}: spec.controllers has no {controller!r}", f"name one of {', '.join(names)} with --controller")
    if fleet.doc.hub.embedded is not None:
        raise BadInput(
            f"{file}: the hub {fleet.doc.hub.name} is embedded: the fleet's state, and what tells its children, end with it",
            "delete its jobs first and wait until they are gone, then `raycp down`",
        )
    return RemovalScope(fleet, controller)


async def look(scope: RemovalScope, specs: Mapping[str, ConnectSpec], clock: Clock) -> list[ClusterFindings]:
    """What every cluster of the file has, the hub first.

    Raises ``CliError`` where the hub does not answer: it says whether the fleet runs, and which children are the fleet's.
    """
    doc = scope.fleet.doc
    with _hub_errors(doc):
        async with _connected(specs[doc.hub.name], clock) as client:
            hub, keys = await survey_hub(scope, client, clock)

    async def one(name: str) -> ClusterFindings:
        try:
            async with _connected(specs[name], clock) as client:
                return await survey(scope, doc.cluster(name), client, keys)
        except ConnectError as error:
            return ClusterFindings(name, unreachable=f"{error.problem}. {error.remedy}")
        except (KubeError, TimeoutError) as error:
            return ClusterFindings(name, unreachable=str(error) or "no answer")

    others = [each.name for each in doc.spec.clusters if each.name != doc.hub.name]
    ends = [ClusterFindings(name, ends=True) for name in others if name not in specs]
    return [hub, *await asyncio.gather(*(one(name) for name in others if name in specs)), *ends]


async def carried_out(
    planned: Sequence[ClusterRemoval], scope: RemovalScope, specs: Mapping[str, ConnectSpec], clock: Clock
) -> bool:
    """Whether something could not be done, which is said. The hub comes last: it keeps what tells the fleet's children.

    Raises ``CliError`` where the fleet has come up since, or the hub does not answer.
    """
    doc = scope.fleet.doc
    (last,) = (removal for removal in planned if removal.cluster == doc.hub.name)
    with _hub_errors(doc):
        async with _connected(specs[doc.hub.name], clock) as client:
            await check_idle(scope, client, clock)

    async def one(removal: ClusterRemoval) -> list[str]:
        try:
            async with _connected(specs[removal.cluster], clock) as client:
                return await carry_out(removal, client)
        except KubeError as error:
            return [str(error)]

    others = [removal for removal in planned if removal is not last and not removal.empty]
    problems = await asyncio.gather(*(one(removal) for removal in others))
    failed = _reported({removal.cluster: each for removal, each in zip(others, problems, strict=True)})
    if failed and last.keys is not None:
        say(f"cluster {doc.hub.name}: {last.keys.what} is kept: it tells which children in the others are the fleet's", error=True)
        last = replace(last, keys=None)
    return _reported({doc.hub.name: await one(last)}) or failed


@contextlib.asynccontextmanager
async def _connected(spec: ConnectSpec, clock: Clock) -> AsyncIterator[ClusterClient]:
    client = await ClusterClient.connect(spec, clock)
    try:
        yield client
    finally:
        await client.close()


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
