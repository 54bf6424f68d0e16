"""Text for people: made harmless, and laid out as a table. The only place that does either.

What comes from outside (an error of an API server, a name, a log) may hold control characters, which a terminal obeys, and
characters that reorder the line for its reader. ``harmless`` shows them as JSON escapes, which leave a JSON text what it is.
"""

import io
import re
from collections.abc import Collection, Sequence
from typing import Any

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed; DEL; C1
_INVISIBLE = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # line breaks and reordering (Unicode TR 9, section 2)
_LONE = "\ud800-\udfff"  # surrogates: what can't be encoded
_HARMFUL = re.compile(f"[{_CONTROLS}{_INVISIBLE}{_LONE}]")


def harmless(text: str) -> str:
    """``text`` with its harmful characters as ``\\u001b``. Line feeds and tabs stay."""
    return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_harmless(text: str) -> bool:
    """Whether ``harmless`` would leave ``text`` as it is."""
    return _HARMFUL.search(text) is None


def one_line(text: str) -> str:
    """``harmless``, and without line feeds and tabs: a cell of a table, a line of a log."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def grid(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = (), styles: bool = False) -> Any:
    """A ``rich`` table of texts, three spaces between its columns; columns whose index is in ``right`` end at the right.

    Rows may be shorter than ``titles``. ``styles``: for a terminal that shows them.
    """
    from rich.table import Table  # on demand: rich takes 50 ms to import, and `raycp --help` shows no table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold" if styles else "")
    for index, title in enumerate(titles):
        table.add_column(Text(title), justify="right" if index in right else "left", overflow="fold", no_wrap=not styles)
    for row in rows:
        table.add_row(*(Text(one_line(cell), style=STYLES.get(cell, "") if styles else "") for cell in row))
    return table


def grid_text(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """``grid`` as plain text, each line as long as it needs to be, without a final newline."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=1_000_000, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as shown:
        console.print(grid(titles, rows, right), crop=False, no_wrap=True)
    return "\n".join(line.rstrip() for line in shown.get().splitlines())


STYLES = {
    "no": "red",
    "failed": "red",
    "open": "red",
    "BROKEN": "red",
    "starting": "yellow",
    "draining": "yellow",
    "doubted": "yellow",
    "warning": "yellow",
    "half-open": "yellow",
}
"""How a terminal shows a cell that holds just this word."""
