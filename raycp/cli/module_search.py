"""Where a command looks for the controllers' modules."""

import argparse
from pathlib import Path

from raycp.cli.errors import BadInput


def add_working_dir(parser: argparse.ArgumentParser, what: str = "modules") -> None:
    """``--working-dir``, where the controllers' modules are looked for before the fleet file's directory."""
    parser.add_argument(
        "--working-dir",
        type=Path,
        default=None,
        help=f"directory of the controllers' {what} (default: the working directory, then the file's)",
    )


def search_of(args: argparse.Namespace) -> list[Path]:
    """Where the controllers' modules are looked for: ``--working-dir``, else the working directory, then the fleet file's.

    Raises ``BadInput``.
    """
    if args.working_dir is None:
        return [Path.cwd(), args.config.resolve().parent]
    if not args.working_dir.is_dir():
        raise BadInput(f"--working-dir: {args.working_dir} is not a directory", "name the one that has the controllers' modules")
    return [args.working_dir]
