"""``raycp submit``: bring a fleet up through Ray's job API."""

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from raycp.cli.fleets import add_file, run_async
from raycp.cli.output import print_line
from raycp.config import load_fleet


def add_parser(subparsers: Any) -> None:
    """``raycp submit -c FLEET.yaml [--address http://HEAD:8265]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("submit", help="bring a fleet up through Ray's job API")
    add_file(parser)
    parser.add_argument("--address", default="http://127.0.0.1:8265", help="Ray's dashboard (default: http://127.0.0.1:8265)")
    parser.add_argument("--working-dir", type=Path, default=None, help="directory with the controllers' modules (default: here)")
    parser.add_argument("--python", default=None, help="Python on the nodes (default: this one on this machine, else `python`)")
    parser.add_argument("--attach", action="store_true", help="keep printing the job's log after the fleet is ready")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the job has succeeded: the fleet is ready."""
    from raycp.driver.fleet_builder import build_fleet
    from raycp.driver.jobs import entrypoint, staged, submit

    doc = load_fleet(args.config)
    working_dir = (args.working_dir or Path.cwd()).resolve()
    fleet = build_fleet(doc, args.config, [working_dir, args.config.resolve().parent])
    needs_code = "PYTHONPATH" in fleet.runtime

    async def work() -> tuple[str, str]:
        command = entrypoint(args.address, args.python, ["run", *(["--attach"] if args.attach else [])])
        with contextlib.ExitStack() as stack:
            source = working_dir if needs_code else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raycp-empty-")))
            directory = stack.enter_context(staged(doc.canonical(), source))
            return await submit(args.address, doc.name, fleet.generation, directory, command, print_line)

    identity, _ = run_async(work())
    print(f"job {identity} succeeded: fleet {doc.name} is ready and does not need the job any more")
    return 0
