"""``raycp bench all`` and ``raycp bench report``."""

import argparse
import asyncio
import shutil
from collections.abc import Coroutine
from typing import Any, TypeVar

from raycp.base.plaintext import grid_text
from raycp.cli.errors import FAILED, BadInput, CliError
from raycp.cli.printer import say

T = TypeVar("T")


async def until_done(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``. Raises ``CliError`` where SIGTERM ended it (``raycp.bench.child.end_on_term``)."""
    try:
        return await work
    except asyncio.CancelledError:
        raise CliError("interrupted") from None


def play_all(args: argparse.Namespace) -> int:
    """Play every step; 1 when one failed or, with ``--check``, a bound was broken."""
    from raycp.bench.report import VERDICT_TITLES, causes_table, verdict_rows
    from raycp.bench.suite import STEPS, play_steps, read_out

    if args.out is None:
        raise BadInput("raycp bench all needs a directory for its files", "name it with --out DIR")
    names = {step.name for step in STEPS}
    if unknown := [name for name in args.only if name not in names]:
        raise BadInput(f"--only {unknown[0]}: there is no such step", f"there are {', '.join(step.name for step in STEPS)}")
    steps = [step for step in STEPS if not args.only or step.name in args.only]
    args.out.mkdir(parents=True, exist_ok=True)
    extra = [f"--{name}={value}" for name in ("runs", "count", "repetitions") if (value := getattr(args, name)) is not None]
    extra += [f"--scale={args.scale}"] if args.scale != 1.0 else []
    extra += [f"--set={each}" for each in args.set]

    def report(text: str) -> None:
        if not args.quiet:
            say(text, error=True)

    report(f"{len(steps)} steps, about {sum(step.minutes for step in steps):g} min")
    played = asyncio.run(until_done(play_steps(steps, args.out, extra, "svg", report)))
    found = {name: result for name, result in read_out(args.out).items() if name in {step.name for step in steps}}
    for result in found.values():
        if result.get("causes"):
            say(causes_table(result), end="\n\n")
    verdicts = verdict_rows(found)
    say(grid_text(VERDICT_TITLES, verdicts), end="\n\n")
    say(grid_text(("step", "ended", "minutes"), [[each.step.name, each.word, f"{each.seconds / 60:.1f}"] for each in played]))
    for each in played:
        if each.code != 0:
            say(f"\n{each.step.name} {each.word}; the end of {args.out / each.step.name}.log:\n{each.said}", error=True)
    broken = args.check and any(row[-1] != "kept" for row in verdicts)
    return FAILED if broken or any(each.code != 0 for each in played) else 0


def report(args: argparse.Namespace) -> int:
    """Tables as Markdown, on stdout or into a document."""
    from raycp.bench.report import replace_marked, tables
    from raycp.bench.suite import read_out

    if args.out is None or not args.out.is_dir():
        raise BadInput(
            f"--out {args.out}: no such directory" if args.out else "raycp bench report needs the directory of `raycp bench all`",
            "name it with --out DIR",
        )
    found = read_out(args.out)
    if not found:
        raise BadInput(f"{args.out} holds no results", f"measure first: raycp bench all --out {args.out}")
    made = tables(found)
    if args.figures is not None:
        args.figures.mkdir(parents=True, exist_ok=True)
        for figure in sorted(args.out.glob("*.svg")):
            if figure.stem in found:
                shutil.copyfile(figure, args.figures / figure.name)
    if args.into is None:
        say("\n\n".join(f"## {name}\n\n{table}" for name, table in made.items()))
        return 0
    if not args.into.is_file():
        raise BadInput(f"--into {args.into}: there is no such file")
    try:
        document, empty = replace_marked(args.into.read_text(), made)
    except ValueError as error:
        raise BadInput(f"--into {args.into}: {error}") from error
    args.into.write_text(document)
    for name in empty:
        say(f"{args.into}: no figures for the mark {name}; it stays as it is", error=True)
    return 0
