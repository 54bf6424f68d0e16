"""``raycp logs``: what all processes of a fleet have logged, on all nodes, the dead ones too."""

import argparse
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from raycp.base.clock import Clock, SystemClock
from raycp.base.plaintext import harmless, one_line
from raycp.cli.debug import controllers_of
from raycp.cli.errors import BadInput, CliError
from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.printer import say
from raycp.cli.why import parse_object
from raycp.config import load_fleet
from raycp.config.strict import InvalidValue
from raycp.config.units import DURATION_REMEDY, parse_duration
from raycp.driver.fleet_client import FleetClient, FleetError
from raycp.driver.fleet_logs import LEVELS, FleetLogs, LogAnswer, LogQuery, Row, logs_here
from raycp.metrics.recorder.log_files import stamp_of
from raycp.protocol.control import PlanOf
from raycp.protocol.revisions import other_of
from raycp.protocol.substrate import MemberUnavailable
from raycp.runtime.fleet_home import recorder_home, recorder_homes

EVERY = 1.0
"""Seconds between two looks of ``-f``."""

OVERLAP = 10.0
"""Seconds that a look of ``-f`` goes back behind the begin of the one before: what was not written yet, and nodes whose clocks are
late."""

MISSED = 120.0
"""Seconds that it goes back at most where the looks before had not all nodes: one of them may only have been slow."""

_PLACE = ("ts", "level", "logger", "msg", "process", "pid", "node", "controller", "cluster", "namespace", "name")
_SHOWN = frozenset({*_PLACE, "traceback", "offset"})
"""Fields that a line of text shows otherwise than as ``name=value``, or not."""


def add_parser(subparsers: Any) -> None:
    """``raycp logs [-f] [--controller C] [--object O] [--cluster C] [--level L] [--since 5m] [-o text|json]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "logs",
        help="what all processes have logged, on all nodes, the dead ones too",
        description="Merge the logs of all processes of the fleet by time. Where no process of it lives, read what those of this "
        "machine have left.",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is logged, until Ctrl-C")
    parser.add_argument("--controller", metavar="NAME", help="lines about this controller only")
    parser.add_argument(
        "--object",
        metavar="CLUSTER/KIND/NAMESPACE/NAME",
        help="lines about this object only; KIND and NAMESPACE as for `raycp why`",
    )
    parser.add_argument("--cluster", metavar="NAME", help="lines about this cluster, or an object in it, only")
    parser.add_argument("--level", choices=LEVELS, default="", help="this level and worse (default: all that was printed)")
    parser.add_argument("--since", default="5m", metavar="DURATION", help="how far back (default: 5m)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="json: an object per line (default: text)")
    add_fleet(parser)


def run(args: argparse.Namespace) -> int:
    """Print the lines; until interrupted with ``-f``."""
    try:
        since = time.time() - parse_duration(args.since)
    except InvalidValue as error:
        raise BadInput(f"--since: {args.since!r} {error}", DURATION_REMEDY) from error
    named = parse_object(args.object) if args.object else None
    local = query_of(args, named, None)
    printed = LogPrinter(args.output)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(at_ray(existing(args)))
            namespace = namespace_of(args)
        except BadInput:
            raise
        except CliError as error:
            return _left_behind(args, local, since, printed, str(error))
        if run_async(_read(args, namespace, named, since, printed)):
            return 0
    return _left_behind(args, local, since, printed, f"no process of fleet {namespace} lives")


def query_of(args: argparse.Namespace, named: tuple[str, str, str, str] | None, controllers: set[str] | None) -> LogQuery:
    """What the arguments ask for; ``controllers``: those of the object's kind, None where that is not known."""
    of = {"controller": args.controller or "", "cluster": args.cluster or ""}
    if named is not None:
        if of["cluster"] not in ("", named[0]):
            raise BadInput(f"--object is in cluster {named[0]}, and --cluster is {of['cluster']}", "name one of them")
        of |= {"cluster": named[0], "namespace": "" if named[2] == "-" else named[2], "name": named[3]}
    wanted = tuple((name, value) for name, value in of.items() if value)
    return LogQuery(args.level, wanted, frozenset(controllers) if controllers is not None else None)


async def _read(
    args: argparse.Namespace, namespace: str, named: tuple[str, str, str, str] | None, since: float, printed: "LogPrinter"
) -> bool:
    """Print what is logged; whether the fleet has any process."""
    client = FleetClient(namespace)
    query = query_of(args, named, await controllers_of(client, named[1]) if named is not None else None)
    logs = FleetLogs([client.revision(name) for name in (client.namespace, other_of(client.namespace))])
    began = time.time()
    answer = await logs.read(since, query)
    if answer is None:
        return False
    printed.add(answer)
    if not answer.rows:
        for doubt in await _doubts(client, args):
            say(f"note: {doubt}", error=True)
    if args.follow:
        await follow(lambda since: logs.read(since, query), since if answer.missed else began - OVERLAP, printed, SystemClock())
    return True


async def follow(
    read: Callable[[float], Awaitable[LogAnswer | None]], since: float, printed: "LogPrinter", clock: Clock
) -> None:
    """Print what is logged from ``since`` (Unix seconds) on, for ever. ``read``: as ``FleetLogs.read``. A look takes as long as a
    silent process is waited for, so the next goes on from its begin."""
    began = clock.wall()
    while True:
        await clock.sleep(EVERY)
        since = max(since, began - MISSED)
        began = clock.wall()
        try:
            answer = await read(since)
        except MemberUnavailable:  # Ray is busy; where its head is gone, the command ends
            continue
        if answer is not None:
            printed.add(answer, since)
        if answer is None or not answer.missed:
            since = began - OVERLAP


async def _doubts(client: FleetClient, args: argparse.Namespace) -> list[str]:
    """Why nothing may have been found: a name that the fleet does not have, else the time that was looked at."""
    try:
        plan = await client.ask(PlanOf(), timeout=3.0, patience=0.0)
    except FleetError:
        plan = None
    found = []
    if plan is not None:
        found = doubts_of(args, {each.name for each in plan.fleet.controllers}, {each.name for each in plan.clusters})
    return found or [f"nothing of that was logged within {args.since}; --since looks further back"]


def doubts_of(args: argparse.Namespace, controllers: set[str], clusters: set[str]) -> list[str]:
    """The names among the arguments that the fleet does not have."""
    cluster = args.cluster or (parse_object(args.object)[0] if args.object else "")
    asked = (("controller", args.controller, controllers), ("cluster", cluster, clusters))
    return [
        f"the fleet has no {what} {name!r}; it has {', '.join(sorted(known))}"
        for what, name, known in asked
        if name and name not in known
    ]


def _left_behind(args: argparse.Namespace, query: LogQuery, since: float, printed: "LogPrinter", why: str) -> int:
    """The logs of a fleet that does not run, from this machine's files."""
    directory = _directory(args, why)
    say(f"note: {why}: these are the logs that its processes have left on this machine, in {directory}", error=True)
    printed.add(logs_here(directory, since, query))
    return 0


def _directory(args: argparse.Namespace, why: str) -> Path:
    if args.config is not None:
        return recorder_home(load_fleet(args.config).ray_namespace)
    if args.fleet:
        return recorder_home(f"raycp-{args.fleet}")
    homes = recorder_homes()
    if len(homes) == 1:
        return homes[0]
    if not homes:
        raise CliError(why, "no fleet has left logs on this machine either")
    names = ", ".join(home.parent.name for home in homes)
    raise BadInput(f"{why}; several fleets have left logs: {names}", "name one with --fleet")


class LogPrinter:
    """What one command has printed: each record once, each problem once."""

    def __init__(self, output: str) -> None:
        self._show = line_of if output == "text" else as_json
        self._problems: set[str] = set()
        self._known: dict[str, str] = {}
        """Records, and when they were logged; those of standard error, whose time moves with its file, once and for all."""

    def add(self, answer: LogAnswer, since: float = 0.0) -> None:
        """Print what is new in an answer. What was logged before ``since`` (Unix seconds) is not asked for again."""
        earliest = stamp_of(since).decode()
        self._known = {record: at for record, at in self._known.items() if not at or at >= earliest}
        for row in answer.rows:
            moves = "offset" in row
            record = f"{row['process']} {row['pid']} {row['offset']}" if moves else json.dumps(row, sort_keys=True)
            if record not in self._known:
                say(self._show(row))
            self._known[record] = "" if moves else str(row["ts"])
        for problem in answer.problems:
            if problem not in self._problems:
                self._problems.add(problem)
                say(f"note: {problem}", error=True)


def as_json(row: Row) -> str:
    """A record as it was logged, with its process and node."""
    return harmless(json.dumps({name: value for name, value in row.items() if name != "offset"}, ensure_ascii=False))


def line_of(row: Row) -> str:
    """``13:38:04.123  ERROR    worker standard/0 g0 (4711)  website:east-1/default/web  failed: ...  attempt=3``, then the
    traceback."""
    at = str(row["ts"])[11:23]
    key = "/".join(str(row[name]) for name in ("cluster", "namespace", "name") if row.get(name))
    if controller := row.get("controller"):
        key = f"{controller}:{key}"
    fields = " ".join(f"{name}={value}" for name, value in row.items() if name not in _SHOWN)
    level = str(row.get("level", "")).upper()
    parts = [at, f"{level:<8}", f"{row['process']} ({row['pid']})", key, str(row.get("msg", "")), fields]
    line = one_line("  ".join(part for part in parts if part))
    trace = "".join(f"\n    {each}" for each in harmless(str(row.get("traceback", ""))).splitlines())
    return line + trace
