"""``raycp debug recorder``: what each process of a fleet did last, the dead ones too, in the order of time."""

import argparse
import time
from typing import Any

from raycp.cli.errors import BadInput, CliError
from raycp.cli.fleets import add_fleet, at_ray, existing, namespace_of, run_async
from raycp.cli.output import to_json
from raycp.cli.printer import say
from raycp.cli.why import parse_object
from raycp.config.strict import InvalidValue
from raycp.config.units import DURATION_REMEDY, parse_duration
from raycp.driver.fleet_client import FleetClient, FleetError
from raycp.driver.flight_recordings import Flight, FlightRecordings, Wanted
from raycp.metrics.recorder import FlightRecord, Origin
from raycp.metrics.recorder.record_text import as_json, line_of
from raycp.protocol.control import PlanOf
from raycp.protocol.members import Member
from raycp.protocol.revisions import other_of
from raycp.protocol.substrate import MemberUnavailable


def add_parser(subparsers: Any) -> None:
    """``raycp debug recorder [--object O] [--cluster C] [--since 5m] [-c FLEET.yaml | --fleet NAME] [--address ...] [-o ...]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "debug",
        help="what each process did last, the dead ones too",
        description="recorder: merge the flight recorders of all processes of the fleet, living and dead, by time.",
    )
    parser.add_argument("what", choices=("recorder",), help="recorder: the flight recorders of all processes")
    parser.add_argument(
        "--object",
        metavar="CLUSTER/KIND/NAMESPACE/NAME",
        help="records about this object only; KIND and NAMESPACE as for `raycp why`",
    )
    parser.add_argument("--cluster", metavar="NAME", help="records about this cluster, or an object in it, only")
    parser.add_argument("--since", default="5m", metavar="DURATION", help="how far back (default: 5m)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format (default: text)")
    add_fleet(parser)


def run(args: argparse.Namespace) -> int:
    """Print the records; 1 where no process could be asked."""
    try:
        seconds = parse_duration(args.since)
    except InvalidValue as error:
        raise BadInput(f"--since: {args.since!r} {error}", DURATION_REMEDY) from error
    named = parse_object(args.object) if args.object else None
    with at_ray(existing(args)):
        client = FleetClient(namespace_of(args))
        flight = run_async(_collect(client, time.time() - seconds, named, args.cluster or ""))
    if not flight.recordings:
        raise CliError(
            f"nothing was recorded in the last {args.since}" + "".join(f"\n{problem}" for problem in flight.problems),
            "`raycp status` shows which processes live; a longer --since goes back further",
        )
    say(to_json(document_of(flight)) if args.output == "json" else show(flight))
    return 0


async def _collect(client: FleetClient, since: float, named: tuple[str, str, str, str] | None, cluster: str) -> Flight:
    controllers = await controllers_of(client, named[1]) if named is not None else None
    revisions = [client.revision(name) for name in (client.namespace, other_of(client.namespace))]
    try:
        return await FlightRecordings(revisions).collect(since, wanted(named, cluster, controllers))
    except MemberUnavailable as error:
        raise FleetError(str(error)) from error


async def controllers_of(client: FleetClient, kind: str) -> set[str] | None:
    """The controllers of a kind; None, for all, where the leader can't say: a fleet without one is worth looking at."""
    try:
        plan = await client.ask(PlanOf(), timeout=3.0, patience=0.0)
    except FleetError:
        return None
    if plan is None:
        return None
    found = {each.name for each in plan.fleet.controllers if kind in (each.kind, each.kind.rpartition("/")[2])}
    if not found:
        kinds = sorted({each.kind for each in plan.fleet.controllers})
        raise FleetError(f"no controller of this fleet reconciles {kind!r}; they reconcile {', '.join(kinds)}")
    return found


def wanted(named: tuple[str, str, str, str] | None, cluster: str, controllers: set[str] | None) -> Wanted:
    """Whether a record is about the object (its kind told by ``controllers``, None: any) and the cluster; empty means any."""

    def fits(record: FlightRecord) -> bool:
        if cluster and record.cluster != cluster:
            return False
        if named is None:
            return True
        key = record.subject
        if isinstance(key, str):
            return False
        place = (named[0], "" if named[2] == "-" else named[2], named[3])
        return (key.cluster, key.namespace, key.name) == place and (controllers is None or key.controller in controllers)

    return fits


def document_of(flight: Flight) -> dict[str, Any]:
    """For ``-o json``."""
    return {
        "records": [
            {"actor": origin.actor, "node": origin.node, "pid": origin.pid, **as_json(record)} for record, origin in flight.records
        ],
        "recordings": [
            {
                "name": report.name,
                "actor": report.origin.actor if report.origin is not None else "",
                "namespace": report.origin.namespace if report.origin is not None else "",
                "node": report.origin.node if report.origin is not None else "",
                "host": report.origin.host if report.origin is not None else "",
                "pid": report.origin.pid if report.origin is not None else 0,
                "started": report.origin.started if report.origin is not None else 0.0,
                "living": report.living,
                "records": report.records,
                "problem": report.problem,
            }
            for report in flight.recordings
        ],
        "problems": flight.problems,
    }


def show(flight: Flight) -> str:
    """A line per record, then what is to be said about the recordings."""
    names = [_short(origin) for _, origin in flight.records]
    width = max(map(len, names), default=0)
    lines = []
    for (record, _), name in zip(flight.records, names, strict=True):
        at, _, rest = line_of(record).partition("  ")
        lines.append(f"{at}  {name:<{width}}  {rest}")
    dead = [report for report in flight.recordings if not report.living]
    lines.append(f"{len(flight.records)} records of {len(flight.recordings)} processes, {len(dead)} of them dead; times are UTC")
    lines += [f"note: {report.name}: {report.problem}" for report in flight.recordings if report.problem]
    lines += [f"note: {problem}" for problem in flight.problems]
    return "\n".join(lines)


def _short(origin: Origin) -> str:
    """``shard 0 g3``, and the pid: a leader's processes share a name."""
    member = Member.parse(origin.actor)
    name = f"{member.slot} g{member.generation}" if member is not None else origin.actor
    return f"{name} ({origin.pid})"
