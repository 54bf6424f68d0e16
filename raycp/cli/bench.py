"""``raycp bench``: measure a scenario and print one JSON object."""

import argparse
import asyncio
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from raycp.cli.errors import FAILED, BadInput, CliError

MODULES = ("steady", "storms", "neighbours", "switch")
"""Modules of ``raycp.bench`` whose import registers scenarios."""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        help="measure: latency, storms, switches, embedded clusters",
        description="Measure a scenario, on embedded clusters or on given ones, and print one JSON object. "
        "`raycp bench list` names the scenarios.",
    )
    parser.add_argument("scenario", help="which one; `list` names them")
    parser.add_argument("--runs", type=_positive_int, help="how often to play it (default: the scenario's own)")
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="run on this cluster instead of an embedded one; repeatable; the first is the hub",
    )
    parser.add_argument("--clusters", type=_positive_int, help="how many embedded clusters")
    parser.add_argument(
        "--policy",
        choices=("raycp", "fifo", "both"),
        help="fifo: one queue, everything at once, as before; both: in turns (default: the scenario's own)",
    )
    parser.add_argument("--peer", choices=("kopf",), help="measure this one too, on the same clusters in the same run")
    parser.add_argument("--first", action="store_true", help="init-storm: no earlier fleet has seen the existing objects")
    parser.add_argument("--rate", type=_positive_float, help="changes per second")
    parser.add_argument("--count", type=_positive_int, help="changes per run")
    parser.add_argument("--scale", type=_positive_float, default=1.0, help="shrink or grow all counts (default: 1)")
    parser.add_argument("--address", default="local", help="Ray: local (default), auto, or HOST:PORT of a head")
    parser.add_argument("--plot", type=Path, metavar="FILE.png|svg", help="draw the figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON object there")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bound of bounds.yaml is broken")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another option of the scenario; repeatable"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from raycp.bench.scenario import SCENARIOS

    for module in MODULES:
        if importlib.util.find_spec(f"raycp.bench.{module}"):
            importlib.import_module(f"raycp.bench.{module}")
    if args.scenario == "list":
        width = max(map(len, SCENARIOS))
        print("\n".join(f"{s.name:<{width}}  {s.about}" for s in SCENARIOS.values()))
        print(f"{'embedded':<{width}}  what the embedded API server can do by itself")
        return 0
    if args.scenario == "embedded":
        return _embedded(args)
    wanted = SCENARIOS.get(args.scenario)
    if wanted is None:
        raise BadInput(f"{args.scenario!r} is no scenario", f"there are {', '.join(SCENARIOS)}")
    return _measure(args, wanted)


def _measure(args: argparse.Namespace, wanted: Any) -> int:
    from raycp.bench.bounds import judge
    from raycp.bench.driver import LoadError
    from raycp.bench.ground import GroundError
    from raycp.bench.runner import Request, document
    from raycp.bench.runner import run as play
    from raycp.cli.output import to_json
    from raycp.fleet.launch import FleetError
    from raycp.fleet.rayenv import RayError

    for path in args.kubeconfig:
        if not path.is_file():
            raise BadInput(f"--kubeconfig {path}: there is no such file")
    if args.plot and args.plot.suffix not in (".png", ".svg"):
        raise BadInput(f"--plot {args.plot}: a figure is a .png or a .svg")
    if args.peer and wanted.peer is None:
        raise BadInput(f"--peer {args.peer}: {wanted.name} has no peer", "steady and cold have")
    options = {"rate": args.rate, "count": args.count, "first": args.first or None, **dict(map(_option, args.set))}
    request = Request(
        scenario=wanted,
        runs=args.runs,
        kubeconfigs=[path.resolve() for path in args.kubeconfig],
        policies={"both": ("raycp", "fifo"), None: ()}.get(args.policy, (args.policy,)),
        peer=args.peer,
        clusters=args.clusters,
        scale=args.scale,
        address=args.address,
        options={name: value for name, value in options.items() if value is not None},
        tell=(lambda _: None) if args.quiet else (lambda text: print(text, file=sys.stderr, flush=True)),
    )
    try:
        result = asyncio.run(play(request))
    except (GroundError, LoadError, FleetError, RayError) as error:
        raise CliError(str(error)) from error
    told = document(request, result)
    verdicts = judge(wanted.name, told)
    text = to_json(told)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    if args.plot:
        from raycp.bench.plot import draw

        draw(f"raycp bench {wanted.name}", result, args.plot, wanted.objective)
    return _verdict(args, verdicts)


def _embedded(args: argparse.Namespace) -> int:
    from raycp.bench.bounds import judge
    from raycp.bench.embedded import run as measure
    from raycp.bench.runner import machine
    from raycp.cli.output import to_json

    told = {**asyncio.run(measure(args)), "machine": machine()}
    print(to_json(told))
    if args.json:
        args.json.write_text(to_json(told) + "\n")
    return _verdict(args, judge("embedded", told))


def _verdict(args: argparse.Namespace, verdicts: Any) -> int:
    """With ``--check``: each broken bound on stderr, and the exit code."""
    broken = [(bound, found) for bound, kept, found in verdicts if not kept] if args.check else []
    for bound, found in broken:
        side = "most" if bound.kind == "max" else "least"
        print(f"broken: {bound.figure} is {found}, must be at {side} {bound.value:g} ({bound.why})", file=sys.stderr)
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
