"""Pages, live views and progress on standard output.

On a terminal they are drawn by ``rich``. In a pipe, with ``NO_COLOR``, or with ``TERM=dumb`` all is plain text without a control
character, whose columns stay what they are. Text from outside is made harmless, and is never read as markup. ``rich`` is
imported where it draws.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

from raycp.base.plaintext import harmless
from raycp.cli.errors import CliError
from raycp.cli.output import Page, TextTable, document
from raycp.cli.printer import is_rich, say, writing

Found = TypeVar("Found")

Report = Callable[[str, int], None]
"""Takes the newest state of what a command waits for, in one line, and how much of the total is done."""


def put(page: Page) -> None:
    """Print a page."""
    if not is_rich(sys.stdout):
        say(str(page))
        return
    console = _console()
    with writing():
        for number, block in enumerate(page.blocks):
            if number:
                console.print()
            console.print(_drawn(block), soft_wrap=isinstance(block, str))


def put_found(args: argparse.Namespace, ask: Callable[[], Found], show: Callable[[Found, str], Page]) -> None:
    """Print what ``ask`` returns, as a document or as ``show`` makes it, as the options of ``add_output``, ``add_every`` and
    ``--watch`` say."""

    def draw() -> Page:
        found = ask()
        return document(found, args.output) if args.output in ("json", "yaml") else show(found, args.output)

    if args.watch:
        watch(draw, args.every)
    put(draw())


def watch(draw: Callable[[], Page], every: float) -> NoReturn:
    """Show what ``draw`` returns every ``every`` seconds until Ctrl-C; in a pipe, one page after the other.

    An error of the first call is raised. Later ones are shown, and the view goes on: what it watches may restart.
    """
    page = draw()
    if not is_rich(sys.stdout):
        while True:
            say(f"{page}\n")
            time.sleep(every)
            page = _next(draw)
    from rich.console import Group
    from rich.live import Live

    with Live(console=_console(), screen=True, auto_refresh=False) as live:
        while True:
            drawn = [each for block in page.blocks for each in (_drawn(block), "")]
            live.update(Group(*drawn[:-1]), refresh=True)
            time.sleep(every)
            page = _next(draw)


def _next(draw: Callable[[], Page]) -> Page:
    try:
        return draw()
    except CliError as error:
        return Page(f"{error}; trying again")


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Report]:
    """Progress of a command for the duration of the block.

    On a terminal it is one line that changes, with the time since the start and, with ``total``, a bar. Elsewhere each state is a
    line, printed when it changes.
    """
    if not is_rich(sys.stdout):
        yield _plain_report()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = [BarColumn(bar_width=20)] if total is not None else []
    columns = [SpinnerColumn(), TimeElapsedColumn(), *bar, TextColumn("{task.description}", markup=False)]
    with Progress(*columns, console=_console(), transient=True) as drawn:
        task = drawn.add_task(harmless(what), total=total)

        def report(state: str, done: int) -> None:
            drawn.update(task, description=harmless(state or what), completed=done)

        yield report


def _plain_report() -> Report:
    last = ""

    def report(state: str, done: int) -> None:
        nonlocal last
        if state and state != last:
            say(f"  {state}")
        last = state

    return report


def _console() -> Any:
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def _drawn(block: str | TextTable) -> Any:
    from rich.text import Text

    return block.table() if isinstance(block, TextTable) else Text(harmless(block))
