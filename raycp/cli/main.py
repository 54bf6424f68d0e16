"""``raycp``: finds the command, imports it, runs it."""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

from raycp.cli.errors import BAD_INPUT, BadInput, report
from raycp.cli.printer import OutputError, end_errors, flush, give_up, open_closed, print_logs, say

COMMANDS: dict[str, str] = {
    "demo": "bring up an embedded fleet, submit jobs, report, take it down",
    "run": "bring a fleet up on a running Ray, or on one of its own",
    "submit": "bring a fleet up through Ray's job API",
    "apply": "change a running fleet to what the file says",
    "drain": "move a cluster's BatchJobs to others, and place none there",
    "pause": "begin no reconcile of a cluster or a controller",
    "resume": "reconcile what a pause has left waiting",
    "reconcile": "reconcile an object now, although it has not changed",
    "sweep": "Pods of dead jobs that the fleet keeps until confirmed",
    "down": "take a fleet down and leave no actor behind",
    "uninstall": "remove from the clusters what a fleet or a controller has left",
    "status": "leader, shards, workers, clusters and lanes of a fleet",
    "kubeconfig": "print the kubeconfig of an embedded cluster",
    "check": "validate a fleet file, its controllers, clusters and rights",
    "schema": "print the JSON schema of the fleet file, or every field of it",
    "embedded": "run embedded clusters alone and write their kubeconfigs",
    "queues": "the queues: usage, jobs that wait and that are admitted",
    "simulate": "play jobs through the scheduler in virtual time",
    "explain": "why a job waits, and what each cluster says to it",
    "why": "what happened to an object, and what it waits for",
    "errors": "the objects that fail, of all clusters, and why",
    "changes": "what changed in the fleet: switches, applies, deaths, clusters",
    "logs": "what all processes have logged, on all nodes",
    "debug": "what each process did last, the dead ones too",
    "slo": "objectives, budgets and burn rates; Prometheus rules",
    "top": "a live view of lanes, clusters and latency",
    "handover": "hand shards to their warm standbys",
    "upgrade": "bring up a new fleet beside the old one and hand over",
    "leader": "who leads, the history of switches; free a lock",
    "bench": "measure: latency, storms, switches, embedded clusters",
    "version": "versions of raycp and its dependencies",
}
"""Every command and what it does, in the order of the help. A command is its module's name, apart from ``MODULES``."""

MODULES = {"errors": "failures"}
"""Of commands whose name another module has."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``argv`` (without the program's name) and return the exit code."""
    code = _settled(list(sys.argv[1:] if argv is None else argv))
    end_errors()
    return code


def _settled(arguments: list[str]) -> int:
    try:
        open_closed()
        code = _run(arguments)
        flush()
        return code
    except KeyboardInterrupt:
        say("interrupted", error=True)
        return 130
    except BrokenPipeError:  # the reader (head, less) has closed the pipe: no failure
        give_up(sys.stdout)
        return 0
    except OutputError as error:
        give_up(sys.stdout)
        return report(error)
    except Exception as error:
        return report(error)


def _run(arguments: list[str]) -> int:
    try:
        return _main(arguments)
    except SystemExit as end:  # argparse: --help is 0, wrong usage 2
        return end.code if isinstance(end.code, int) else BAD_INPUT


def available() -> dict[str, str]:
    """The commands whose modules are installed."""
    return {name: what for name, what in COMMANDS.items() if importlib.util.find_spec(_module(name))}


def parser_of(name: str) -> argparse.ArgumentParser:
    """A parser of this one command; ``parse_args`` expects its name first."""
    parser = argparse.ArgumentParser(prog="raycp", add_help=False)
    subparsers: Any = parser.add_subparsers(dest="command", required=True)
    importlib.import_module(_module(name)).add_parser(subparsers)
    return parser


def _main(arguments: list[str]) -> int:
    commands = available()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if len(arguments) > 1 and arguments[0] == "help":
            return _main([arguments[1], "--help"])
        say(_help(commands))
        return 0 if arguments else BAD_INPUT
    if strange := next((each for each in arguments if "\0" in each), None):
        raise BadInput(f"{strange!r} has a NUL character, which no name and no path can have", "remove it")
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        name = "version"
    if name not in commands:
        raise BadInput(f"{name!r} is not a command of raycp", _suggestion(name, commands))
    module = importlib.import_module(_module(name))
    print_logs()
    parsed, unknown = parser_of(name).parse_known_args([name, *rest])
    if unknown:
        raise BadInput(f"raycp {name} does not take {' '.join(unknown)}", f"`raycp {name} --help` says what it takes")
    _find_place()
    code: int = module.run(parsed)
    return code


def _module(command: str) -> str:
    return f"raycp.cli.{MODULES.get(command, command)}"


def _find_place() -> None:
    """Ray and relative paths need a working directory. Raises ``BadInput`` where it has been removed."""
    try:
        os.getcwd()
    except OSError as error:
        raise BadInput(f"the working directory can't be used: {error.strerror}", "change to one that exists") from error


def _help(commands: dict[str, str]) -> str:
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {what}" for name, what in commands.items()]
    return "\n".join(
        [
            "usage: raycp COMMAND [options]",
            "",
            "A Kubernetes control plane on Ray that reconciles many clusters at once.",
            "",
            *lines,
            "",
            "`raycp COMMAND --help` says more. Exit codes: 0 done, 1 failed, 2 bad input.",
        ]
    )


def _suggestion(name: str, commands: dict[str, str]) -> str:
    import difflib

    found = difflib.get_close_matches(name, commands, n=1)
    return f"did you mean {found[0]!r}?" if found else "`raycp --help` lists them"


if __name__ == "__main__":
    sys.exit(main())
