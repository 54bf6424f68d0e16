"""``raycp submit``: bring a fleet up through Ray's job API."""

import argparse
import asyncio
import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from raycp.cli.fleets import add_file, run_async
from raycp.cli.module_search import search_of
from raycp.cli.printer import say, without_colours
from raycp.cli.prompt import Promptness, end_on_term, prompt
from raycp.config import FleetDoc, load_fleet


def add_parser(subparsers: Any) -> None:
    """``raycp submit -c FLEET.yaml [--address http://HEAD:8265]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("submit", help="bring a fleet up through Ray's job API")
    add_file(parser)
    parser.add_argument("--address", default="", help="Ray's dashboard (default: RAY_ADDRESS, else http://127.0.0.1:8265)")
    parser.add_argument("--working-dir", type=Path, default=None, help="directory with the controllers' modules (default: here)")
    parser.add_argument("--python", default=None, help="Python on the nodes (default: this one on this machine, else `python`)")
    parser.add_argument("--attach", action="store_true", help="keep printing the job's log after the fleet is ready")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the job has succeeded: the fleet is ready."""
    doc = load_fleet(args.config)
    identity = submit_job(args, doc, args.address, ["run", *(["--attach"] if args.attach else [])])
    say(f"job {identity} succeeded: fleet {doc.name} is ready and does not need the job any more")
    return 0


def submit_job(args: argparse.Namespace, doc: FleetDoc, address: str, command: list[str]) -> str:
    """Run ``raycp COMMAND`` for the fleet as a Ray job, which gets the working directory if controllers' modules come from it.
    ``address``: the job server, or where empty the one that the environment names. Returns the job's id once it has succeeded."""
    from raycp.driver.fleet_builder import build_fleet
    from raycp.driver.jobs import entrypoint, job_server, staged, submit

    working_dir = search_of(args)[0].resolve()
    fleet = build_fleet(doc, args.config, [working_dir, args.config.resolve().parent])
    needs_code = "PYTHONPATH" in fleet.runtime

    async def work() -> str:
        server = await asyncio.to_thread(job_server, address, os.environ)
        line = entrypoint(server, args.python, command)
        with contextlib.ExitStack() as stack:
            source = working_dir if needs_code else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raycp-empty-")))
            directory = stack.enter_context(staged(doc.canonical(), source))
            log = lambda line: say(without_colours(line))  # noqa: E731
            return (await submit(server, doc.name, fleet.generation, directory, line, log))[0]

    with prompt(Promptness(None, say)):  # Ray's client blocks
        end_on_term()
        return run_async(work())
