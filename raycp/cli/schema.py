"""``raycp schema``: the fleet file's JSON schema for editors, or all its fields for people."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "schema",
        help="print the JSON schema of the fleet file",
        description="Print the JSON schema of the fleet file; with --fields, every field with default and meaning.",
    )
    parser.add_argument("--fields", action="store_true", help="a table of all fields, in Markdown")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from raycp.cli.output import to_json
    from raycp.cli.printer import say

    if args.fields:
        from raycp.config.reference import markdown

        say(markdown())
    else:
        from raycp.config.schema import fleet_json_schema

        say(to_json(fleet_json_schema()))
    return 0
