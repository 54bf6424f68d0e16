"""``raycp slo``: are the promises kept? And ``raycp slo rules``: the same objectives as Prometheus rules."""

import argparse
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from raycp.cli.errors import BadInput, CliError
from raycp.cli.output import Column, Row, add_output, document, render


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
    """The largest parts first."""
    large = sorted(((s, name) for name, s in shares.items() if s >= 0.05), reverse=True)
    return " ".join(f"{name} {100 * s:.0f} %" for s, name in large)


def add_parser(subparsers: Any) -> None:
    """``raycp slo [report] [-c FLEET.yaml | --fleet NAME | --url URL]`` and ``raycp slo rules -c FLEET.yaml``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "slo",
        help="objectives, budgets and burn rates; Prometheus rules",
        description="Print each objective with its windows, latencies, error budget and firing alerts. "
        "`raycp slo rules -c FLEET.yaml` prints the fleet's objectives as a Prometheus rules file.",
    )
    parser.add_argument("what", nargs="?", choices=("report", "rules"), default="report")
    parser.add_argument("-c", "--config", type=Path, metavar="FLEET.yaml", help="the fleet file")
    parser.add_argument("--fleet", metavar="NAME", help="the fleet's name; the only one that runs by default")
    parser.add_argument("--address", metavar="HOST:PORT", help="head of the Ray cluster (default: the one at hand)")
    parser.add_argument("--url", help="the observer's address, such as http://HOST:9464; asks Ray for it by default")
    parser.add_argument("--operator", action="store_true", help="rules as a PrometheusRule of the Prometheus operator")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print the report (exit code 1 while a page fires) or the rules."""
    if args.what == "rules":
        print(_rules(args), end="")
        return 0
    rows = fetch(args.url or _observer(args), "/api/v1/slo")["slo"]
    print(show(rows, args.output))
    return 1 if any(a["severity"] == "page" for row in rows for a in row["alerts"]) else 0


def show(rows: list[Row], format: Any) -> str:
    """The report as text."""
    if format in ("json", "yaml"):
        return document(rows, format)
    return render(rows, REPORT, format, empty="the fleet file states no objective (spec.slo)")


def fetch(url: str, path: str) -> dict[str, Any]:
    """A JSON answer of the observer. Raises ``CliError``."""
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{url!r} is no http:// or https:// address")
    try:
        with urllib.request.urlopen(url.rstrip("/") + path, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise CliError(f"the observer at {url} does not answer: {reason}", "name it with --url") from error


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
    return as_prometheus_rule(objectives, doc.name) if args.operator else rules_yaml(objectives)


def _observer(args: argparse.Namespace) -> str:
    from raycp.cli.fleets import at_ray, existing, namespace_of, run_async
    from raycp.fleet.launch import FleetClient

    with at_ray(existing(args.address)):
        status = run_async(FleetClient(namespace_of(args)).status())
    url = (status.get("observer") or {}).get("url")
    if not url:
        raise CliError("the fleet has no observer at the moment", "try again, or see `raycp status`")
    return str(url)
