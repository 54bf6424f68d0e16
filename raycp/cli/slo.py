"""``raycp slo``: objectives and how well they are met; ``raycp slo rules``: the same objectives as Prometheus rules."""

import argparse
from pathlib import Path
from typing import Any

from raycp.cli.console import put
from raycp.cli.errors import BadInput
from raycp.cli.observer import add_observer, fetch_list, observer_url
from raycp.cli.output import Column, Page, Row, add_output, render
from raycp.cli.printer import say


def _share(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{100 * value:.{places}f} %"


def _time(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def _window(name: str, places: int = 2) -> Any:
    return lambda row: _share(row["windows"][name]["ratio"], places)


REPORT = [
    Column("OBJECTIVE", "name"),
    Column("TARGET", lambda row: f"{_share(row['objective'], 3)} in {_time(row['within_seconds'])}"),
    Column("NOW", _window("instant"), right=True),
    Column("5M", _window("5m"), right=True),
    Column("1H", _window("1h"), right=True),
    Column("6H", _window("6h"), wide=True, right=True),
    Column("3D", _window("3d", 3), wide=True, right=True),
    Column("30D", _window("30d", 3), right=True),
    Column("P50", lambda row: _time(row["latency"]["p50"]), right=True),
    Column("P99", lambda row: _time(row["latency"]["p99"]), right=True),
    Column("P99.9", lambda row: _time(row["latency"]["p999"]), right=True),
    Column("BUDGET LEFT", lambda row: _share(row["budget"]["remaining"], 1), right=True),
    Column("BURN 1H", lambda row: f"{row['windows']['1h']['burn']:.1f}x", right=True),
    Column("ALERTS", lambda row: ", ".join(f"{a['severity']} ({a['long']})" for a in row["alerts"])),
    Column("SPENT IN", lambda row: _spent(row["attribution"]), wide=True),
    Column("MISSED BY", lambda row: _spent(row["attribution_missed"]), wide=True),
]


def _spent(shares: dict[str, float]) -> str:
    """Shares of at least 5 %, the largest first."""
    large = sorted(((s, name) for name, s in shares.items() if s >= 0.05), reverse=True)
    return " ".join(f"{name} {100 * s:.0f} %" for s, name in large)


def add_parser(subparsers: Any) -> None:
    """``raycp slo [report] [-c FLEET.yaml | --fleet NAME | --url URL]`` and ``raycp slo rules -c FLEET.yaml``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "slo",
        help="objectives, budgets and burn rates; Prometheus rules",
        description="Print each objective with its windows, latencies, error budget and firing alerts. "
        "`raycp slo rules -c FLEET.yaml` prints the fleet's objectives as a Prometheus rules file, `raycp slo dashboards` writes "
        "Grafana dashboards.",
    )
    parser.add_argument("what", nargs="?", choices=("report", "rules", "dashboards"), default="report")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where `dashboards` writes (default: the working directory)")
    add_observer(parser)
    parser.add_argument("--operator", action="store_true", help="rules as a PrometheusRule of the Prometheus operator")
    parser.add_argument(
        "--runbooks", metavar="URL", help="where you publish this project's docs/, for the rules' links to the runbook"
    )
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print the report (exit code 1 while a page fires) or the rules."""
    if args.what == "rules":
        say(_rules(args), end="")
        return 0
    if args.what == "dashboards":
        _write_dashboards(args.dir or Path.cwd(), _base(args))
        return 0
    rows = fetch_list(observer_url(args), "/api/v1/slo", "slo")["slo"]
    put(show(rows, args.output))
    return 1 if any(a["severity"] == "page" for row in rows for a in row["alerts"]) else 0


def show(rows: list[Row], format: Any) -> Page:
    """The report."""
    return render(rows, REPORT, format, empty="the fleet file has no objectives (spec.slo)")


def _base(args: argparse.Namespace) -> str:
    return f"{args.runbooks.rstrip('/')}/" if args.runbooks else ""


def _write_dashboards(directory: Path, base: str) -> None:
    from raycp.metrics.dashboards import DASHBOARDS, dashboard_json

    directory.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        file = directory / f"raycp-{name}.json"
        file.write_text(dashboard_json(name, base))
        say(str(file))


def _rules(args: argparse.Namespace) -> str:
    if args.config is None:
        raise BadInput("raycp slo rules needs the fleet file", "name it with -c")
    from raycp.config.load import load_fleet
    from raycp.slo.objectives import Objectives
    from raycp.slo.rules import as_prometheus_rule, rules_yaml

    doc = load_fleet(args.config)
    try:
        objectives = Objectives.compile(doc.spec.slo)
    except ValueError as error:
        raise BadInput(f"{args.config}: spec.slo: {error}") from error
    base = _base(args)
    return as_prometheus_rule(objectives, doc.name, base=base) if args.operator else rules_yaml(objectives, base)
