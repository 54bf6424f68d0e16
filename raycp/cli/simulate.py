"""``raycp simulate``: what the scheduler would do with these jobs, in virtual time."""

import argparse
from pathlib import Path
from typing import Any

from raycp.base.regular_files import read_regular
from raycp.cli.console import put
from raycp.cli.errors import BadInput
from raycp.cli.output import Column, Page, add_output, document, render
from raycp.cli.printer import say
from raycp.config import FleetDoc
from raycp.config.yamltree import MAX_BYTES
from raycp.scheduling.baselines import Clusters
from raycp.scheduling.simulation import SimulationReport

_COLUMNS = [
    Column("POLICY", "policy"),
    Column("PRIORITY", "priority", right=True),
    Column("JOBS", "jobs", right=True),
    Column("NEVER RAN", "unfinished", right=True),
    Column("WAIT P50 S", lambda row: f"{row['wait_p50_s']:.0f}", right=True),
    Column("WAIT P99 S", lambda row: f"{row['wait_p99_s']:.0f}", right=True),
    Column("WAIT MEAN S", lambda row: f"{row['wait_mean_s']:.0f}", right=True, wide=True),
    Column("WAIT MAX S", lambda row: f"{row['wait_max_s']:.0f}", right=True, wide=True),
    Column("PREEMPTIONS", "preemptions", right=True),
]
_FORMAT = "it is what the observer answers to /api/v1/capacity"
POLICIES = ("fifo", "per-cluster")


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "simulate",
        help="play jobs through the scheduler in virtual time",
        description="Play the jobs of a file through the scheduler's own code in virtual time, on the clusters of the fleet file, "
        "and print waits, utilisation and preemptions. Nothing is started or changed.",
    )
    parser.add_argument(
        "-f", "--file", type=Path, required=True, metavar="JOBS.yaml", help="queues, jobs, a trace (kind: Simulation)"
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FLEET.yaml", help="the fleet file")
    parser.add_argument(
        "--capacity",
        metavar="live|FILE",
        help="what the clusters have: as the running fleet reports it, or a file of it (default: as the fleet file declares)",
    )
    parser.add_argument("--url", help="with --capacity live, the observer's address (default: as the leader reports it)")
    parser.add_argument("--fleet", help=argparse.SUPPRESS)
    parser.add_argument("--address", metavar="HOST:PORT", help="with --capacity live, head of the Ray cluster")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        choices=POLICIES,
        help="also without: one line for all, or a queue for each cluster",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png|svg", help="draw utilisation, waiting jobs, waits and preemptions")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Play, print, draw."""
    from raycp.cli.simulation_file import load_simulation
    from raycp.config.load import load_fleet
    from raycp.scheduling.baselines import by_cluster, in_one_line
    from raycp.scheduling.simulation import SimulationError, simulate

    if args.plot and args.plot.suffix not in (".png", ".svg"):
        raise BadInput(f"--plot {args.plot}: a figure is a .png or a .svg")
    doc = load_fleet(args.config)
    play = load_simulation(args.file)
    clusters = _clusters(args, doc)
    jobs = play.jobs(sum(capacity.allocatable().get("cpu", 0) for _, capacity in clusters))
    runs = {"raycp": (jobs, play.queues)}
    if "fifo" in args.compare:
        runs["fifo"] = in_one_line(jobs)
    if "per-cluster" in args.compare:
        runs["per-cluster"] = by_cluster(jobs, clusters)
    try:
        reports = [simulate(name, each, clusters, queues, play.spec.grace) for name, (each, queues) in runs.items()]
    except SimulationError as error:
        raise BadInput(f"nothing to simulate: {error}") from None
    put(_page(reports, args.output))
    if args.plot:
        from raycp.bench.simulation_plot import draw_simulation

        draw_simulation(reports, args.plot)
        say(f"figure: {args.plot}", error=True)
    return 0


def _page(reports: "list[SimulationReport]", format: Any) -> Page:
    import msgspec

    if format in ("json", "yaml"):
        return document([msgspec.to_builtins(each) for each in reports], format)
    rows = [{"policy": report.name, **msgspec.to_builtins(each)} for report in reports for each in report.classes]
    page = render(rows, _COLUMNS, format)
    for report in reports:
        used = ", ".join(f"{name} {100 * share:.0f} %" for name, share in report.utilisation.items() if name != "pods")
        lost = f"{report.preemptions} preemptions, {100 * report.lost_share:.1f} % of the work lost by them"
        end = f"all done after {report.makespan_s / 3600:.1f} h"
        page.add(f"{report.name}: used {used}; {lost}; {report.decisions} decisions; {end}")
    return page


def _clusters(args: argparse.Namespace, doc: FleetDoc) -> Clusters:
    """The members with their capacity. Raises ``BadInput``."""
    from raycp.base.quantities import QuantityError
    from raycp.driver.declared_clusters import candidate_of_spec, capacity_of_spec

    found = _summaries(args) if args.capacity else {}
    made = []
    for cluster in doc.members:
        try:
            capacity = found.get(cluster.name) if args.capacity else capacity_of_spec(cluster)
        except QuantityError as error:
            raise BadInput(f"{args.config}: cluster {cluster.name}: {error}") from None
        if capacity is not None:
            made.append((candidate_of_spec(cluster), capacity))
    if not made:
        where = args.capacity or args.config
        remedy = "declare `capacity:` of the members, or take it from the running fleet with --capacity live"
        raise BadInput(f"{where} tells the capacity of no member cluster", remedy)
    return made


def _summaries(args: argparse.Namespace) -> dict[str, Any]:
    import msgspec

    from raycp.cli.observer import fetch, observer_url
    from raycp.scheduling.capacity import CapacitySummary

    if args.capacity == "live":
        content: Any = (fetch(observer_url(args), "/api/v1/capacity") or {}).get("capacity", [])
        where = "the observer's answer"
    else:
        where = args.capacity
        try:
            content = msgspec.json.decode(read_regular(where, MAX_BYTES))
        except OSError as error:
            raise BadInput(f"{where} can't be read: {error.strerror or error}", "give `live` or a file") from None
        except msgspec.DecodeError as error:
            raise BadInput(f"{where} is no JSON: {error}", _FORMAT) from None
        content = content.get("capacity", []) if isinstance(content, dict) else content
    try:
        return {each.cluster: each for each in msgspec.convert(content, list[CapacitySummary])}
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{where} is no list of capacities: {error}", "write the answer of the observer's /api/v1/capacity"
        ) from None
