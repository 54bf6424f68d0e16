"""``raycp version``: versions of raycp and its dependencies."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from raycp.base.release import PACKAGE, code_digest
from raycp.cli.console import put
from raycp.cli.output import Column, add_output, render

_PACKAGES = ("raycp", "ray", "kubernetes", "pydantic", "msgspec", "aiohttp", "uvloop")


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser("version", help="versions of raycp and its dependencies")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print names and versions."""
    rows = [{"name": name, "version": _version(name)} for name in _PACKAGES]
    rows.append({"name": "raycp's code", "version": code_digest(PACKAGE)})
    rows.append({"name": "python", "version": platform.python_version()})
    put(render(rows, [Column("NAME", "name"), Column("VERSION", "version")], args.output))
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
