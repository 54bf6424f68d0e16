"""``raycp bench``: measure a scenario and print one JSON object; or all of them, with a table at the end."""

import argparse
import asyncio
import contextlib
import importlib
import os
from pathlib import Path
from typing import Any

from raycp.cli.benchall import play_all, report, until_done
from raycp.cli.errors import FAILED, BadInput, CliError
from raycp.cli.printer import say

MODULES = ("steady", "jobs", "admission_fleet", "storms", "neighbours", "poison", "hostile", "switch")
"""Modules of ``raycp.bench`` whose import registers scenarios."""

ALONE = {"embedded": "the embedded API server by itself", "admission": "the scheduler's decisions by themselves"}
"""Scenarios that need no fleet: modules of ``raycp.bench`` with a coroutine ``run``."""

POLICIES: dict[str, tuple[str, ...]] = {
    "raycp": ("raycp",),
    "fifo": ("raycp", "fifo"),
    "both": ("raycp", "fifo"),
    "seed": ("raycp", "seed"),
}
"""What ``--policy`` plays, in turns in one run."""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        help="measure: latency, storms, switches, embedded clusters",
        description="Measure a scenario, on embedded clusters or on given ones, and print one JSON object. "
        "`raycp bench list` names the scenarios; `raycp bench all --out DIR` plays them all; "
        "`raycp bench report --out DIR` makes tables of what `all` has written.",
    )
    parser.add_argument("scenario", help="the scenario (`list` names them), `all`, or `report`")
    parser.add_argument("--runs", type=_positive_int, help="number of runs (default: the scenario's own)")
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="run on this cluster instead of an embedded one; repeatable; the first is the hub",
    )
    parser.add_argument("--clusters", type=_positive_int, help="number of embedded clusters")
    parser.add_argument(
        "--policy",
        choices=tuple(POLICIES),
        help="fifo (or both): beside raycp, its fleet with one queue and everything at once, as before; seed: switch beside an "
        "operator with leader-for-life; raycp: by itself (default: the scenario's own)",
    )
    parser.add_argument("--alone", action="store_true", help="play the --policy without raycp beside it")
    parser.add_argument(
        "--cause",
        action="append",
        default=[],
        metavar="CAUSE",
        help="switch: its cause; repeatable, or `all` (default: graceful)",
    )
    parser.add_argument("--peer", choices=("kopf",), help="measure this operator too, on the same clusters in the same run")
    parser.add_argument("--first", action="store_true", help="init-storm: no earlier fleet has seen the existing objects")
    parser.add_argument("--rate", type=_positive_float, help="changes per second")
    parser.add_argument("--count", type=_positive_int, help="changes per run")
    parser.add_argument("--repetitions", type=_positive_int, help="switch: number of repetitions (default: the cause's own)")
    parser.add_argument("--scale", type=_positive_float, default=1.0, help="shrink or grow all counts (default: 1)")
    parser.add_argument("--address", default="local", help="Ray: local (default), auto, or HOST:PORT of a head")
    parser.add_argument("--plot", type=Path, metavar="FILE.png|svg", help="draw the figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON object there")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bound of bounds.yaml is broken")
    parser.add_argument("--out", type=Path, metavar="DIR", help="all, report: the directory of JSON files and figures")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="all: this step only; repeatable")
    parser.add_argument("--into", type=Path, metavar="FILE.md", help="report: replace the tables between the marks of this file")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="report: copy the figures there")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another option of the scenario; repeatable"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if args.scenario in ("all", "report"):
        return play_all(args) if args.scenario == "all" else report(args)
    from raycp.bench.scenario import SCENARIOS

    for module in MODULES:
        importlib.import_module(f"raycp.bench.{module}")
    if args.scenario == "list":
        return _list(SCENARIOS)
    if args.scenario in ALONE:
        return _alone(args)
    wanted = SCENARIOS.get(args.scenario)
    if wanted is None:
        raise BadInput(f"{args.scenario!r} is not a scenario", f"there are {', '.join([*SCENARIOS, *ALONE])}, and all")
    return _measure(args, wanted)


def _list(scenarios: Any) -> int:
    width = max(map(len, scenarios))
    say("\n".join(f"{s.name:<{width}}  {s.about}" for s in scenarios.values()))
    for name, about in ALONE.items():
        say(f"{name:<{width}}  {about}")
    for each in scenarios.values():
        option, values = each.variants
        if option:
            say(f"{each.name} --{option} all, or {', '.join(values)}")
    return 0


def _measure(args: argparse.Namespace, wanted: Any) -> int:
    from raycp.bench.bounds import judge
    from raycp.bench.driver import LoadError
    from raycp.bench.ground import GroundError
    from raycp.bench.runner import document, run_variants, variants_document
    from raycp.bench.runner import run as play
    from raycp.cli.output import to_json
    from raycp.driver.fleet_client import FleetError
    from raycp.runtime.local_ray import RayError

    if args.plot and args.plot.suffix not in (".png", ".svg"):
        raise BadInput(f"--plot {args.plot}: a figure is a .png or a .svg")
    variants = _variants(args, wanted)
    request = _request(args, wanted, variants)
    try:
        # Ray prints each lost process and node on standard output, which is for the JSON object alone.
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            if len(variants) > 1:
                found = asyncio.run(until_done(run_variants(request, variants)))
                summary = variants_document(request, found)
                results = {name: result for name, result in found.items() if not isinstance(result, str)}
            else:
                result = asyncio.run(until_done(play(request)))
                default = (*wanted.variants[1], "")[0]
                summary, results = document(request, result), {str(request.options.get("cause", default)): result}
    except (GroundError, LoadError, FleetError, RayError) as error:
        raise CliError(str(error)) from error
    text = to_json(summary)
    say(text)
    if args.json:
        args.json.write_text(text + "\n")
    if args.plot and results:
        _draw(args, wanted, results)
    if len(variants) > 1 and not args.quiet:
        from raycp.bench.report import causes_table

        say(causes_table(summary), error=True)
    failed = len(variants) > len(results) if variants else False
    return _verdict(args, judge(wanted.name, summary)) or (FAILED if failed else 0)


def _draw(args: argparse.Namespace, wanted: Any, results: Any) -> None:
    from raycp.bench.plot import draw, draw_phases

    if wanted.variants[0]:
        draw_phases(f"raycp bench {wanted.name}", results, args.plot)
    else:
        draw(f"raycp bench {wanted.name}", next(iter(results.values())), args.plot, wanted.objective)


def _variants(args: argparse.Namespace, wanted: Any) -> list[str]:
    """The causes of ``--cause``, each once; `all` in the scenario's order."""
    option, values = wanted.variants
    if not args.cause:
        return []
    if not option:
        raise BadInput(f"--cause {args.cause[0]}: {wanted.name} has no causes", "switch has")
    for cause in args.cause:
        if cause != "all" and cause not in values:
            raise BadInput(f"--cause {cause}: there is no such cause", f"there are {', '.join(values)}, and all")
    return list(values) if "all" in args.cause else list(dict.fromkeys(args.cause))


def _request(args: argparse.Namespace, wanted: Any, variants: list[str]) -> Any:
    from raycp.bench.runner import Request

    for path in args.kubeconfig:
        if not path.is_file():
            raise BadInput(f"--kubeconfig {path}: there is no such file")
    if args.peer and wanted.peer is None:
        raise BadInput(f"--peer {args.peer}: {wanted.name} has no peer", "steady and cold have")
    policies = POLICIES[args.policy] if args.policy else wanted.policies
    beside = [policy for policy in policies if policy != "raycp"]
    if wrong := [policy for policy in beside if args.policy and policy not in wanted.offers]:
        remedy = "seed goes with switch, fifo with all others" if wanted.offers else "it plays by itself"
        raise BadInput(f"--policy {args.policy}: {wanted.name} has no policy {wrong[0]}", remedy)
    if args.alone:
        policies = tuple(beside) or policies
    if len(variants) == 1 and (wrong := [policy for policy in policies if not wanted.suits(policy, variants[0])]):
        suited = ", ".join(wanted.only[wrong[0]])
        raise BadInput(f"--policy {wrong[0]}: it can't play --cause {variants[0]}", f"it can play {suited}")
    options = {
        "rate": args.rate,
        "count": args.count,
        "repetitions": args.repetitions,
        "first": args.first or None,
        "cause": variants[0] if len(variants) == 1 else None,
        **dict(map(_option, args.set)),
    }
    return Request(
        scenario=wanted,
        runs=args.runs,
        kubeconfigs=[path.resolve() for path in args.kubeconfig],
        policies=policies,
        peer=args.peer,
        clusters=args.clusters,
        scale=args.scale,
        address=args.address,
        options={name: value for name, value in options.items() if value is not None},
        progress=(lambda _: None) if args.quiet else (lambda text: say(text, error=True)),
    )


def _alone(args: argparse.Namespace) -> int:
    from raycp.bench.bounds import judge
    from raycp.bench.runner import machine
    from raycp.cli.output import to_json

    measure = importlib.import_module(f"raycp.bench.{args.scenario}").run
    summary = {**asyncio.run(measure(args)), "machine": machine()}
    say(to_json(summary))
    if args.json:
        args.json.write_text(to_json(summary) + "\n")
    return _verdict(args, judge(args.scenario, summary))


def _verdict(args: argparse.Namespace, verdicts: Any) -> int:
    """With ``--check``: each broken bound on stderr, and the exit code."""
    broken = [(bound, found) for bound, kept, found in verdicts if not kept] if args.check else []
    for bound, found in broken:
        side = "most" if bound.kind == "max" else "least"
        where = f"{bound.scenario}: " if " " in bound.scenario else ""
        say(f"broken: {where}{bound.figure} is {found}, must be at {side} {bound.value:g} ({bound.why})", error=True)
    return FAILED if broken else 0


def _option(text: str) -> tuple[str, Any]:
    import json

    name, _, value = text.partition("=")
    if not name or not value:
        raise BadInput(f"--set {text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value
