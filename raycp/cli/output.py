"""What a command shows: texts, and lists as table, wide table, JSON or YAML. ``console`` prints it."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raycp.base.plaintext import grid, grid_text, harmless, is_harmless, one_line

Format = Literal["table", "wide", "json", "yaml"]
FORMATS: tuple[Format, ...] = ("table", "wide", "json", "yaml")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the table. ``value`` is a key of the row, or a function of it; ``wide`` columns are shown with ``-o wide``."""

    title: str
    value: str | Callable[[Row], Any]
    wide: bool = False
    right: bool = False

    def cell(self, row: Row) -> str:
        """The text of the column's cell in ``row``."""
        return text(row.get(self.value) if isinstance(self.value, str) else self.value(row))


def add_output(parser: argparse.ArgumentParser) -> None:
    """``-o``/``--output``, for all commands that list."""
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="output format (default: table)")


def add_every(parser: argparse.ArgumentParser) -> None:
    """``--every``, for live views."""
    parser.add_argument("--every", type=_seconds, default=1.0, metavar="SECONDS", help="refresh interval (default: 1)")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 3600 seconds")
    return value


@dataclass(frozen=True)
class TextTable:
    """Rows as a table of those columns that its format shows. ``str()`` is the plain text."""

    rows: Sequence[Row]
    columns: Sequence[Column]

    def __str__(self) -> str:
        return grid_text(*self._cells())

    def table(self) -> Any:
        """As a ``rich`` table for a terminal."""
        return grid(*self._cells(), styles=True)

    def _cells(self) -> tuple[list[str], list[list[str]], set[int]]:
        titles = [column.title for column in self.columns]
        right = {index for index, column in enumerate(self.columns) if column.right}
        return titles, [[column.cell(row) for column in self.columns] for row in self.rows], right


class Page:
    """Blocks of text and tables, an empty line between them. ``str()`` is the plain text, without a final newline."""

    def __init__(self, *blocks: str | TextTable) -> None:
        self.blocks = list(blocks)

    def add(self, block: "str | TextTable | Page") -> None:
        """Append a block, or those of another page."""
        self.blocks += block.blocks if isinstance(block, Page) else [block]

    def __str__(self) -> str:
        return "\n\n".join(harmless(str(block)) for block in self.blocks)


def render(rows: Sequence[Row], columns: Sequence[Column], format: Format, *, empty: str = "nothing to show") -> Page:
    """The rows as a page. JSON and YAML carry whole rows, tables their columns."""
    if format in ("json", "yaml"):
        return document([dict(row) for row in rows], format)
    if not rows:
        return Page(empty)
    return Page(TextTable(rows, [column for column in columns if format == "wide" or not column.wide]))


def document(content: Any, format: Format) -> Page:
    """``content`` as JSON or YAML; the caller renders ``table`` and ``wide``."""
    return Page(to_json(content) if format == "json" else to_yaml(content))


def bullets(lines: Iterable[str]) -> str:
    """A list of reasons as text, a line each."""
    return "\n".join(f"  - {one_line(line)}" for line in lines)


def to_json(content: Any) -> str:
    """Indented JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)


def to_yaml(content: Any) -> str:
    """Block YAML in the order given."""
    import yaml

    plain = json.loads(json.dumps(content, default=str))
    shown: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False).rstrip("\n")
    # YAML's own escapes exist in quoted texts only: what print would escape is escaped by the dumper instead.
    return shown if is_harmless(shown) else str(yaml.safe_dump(plain, sort_keys=False, default_flow_style=False)).rstrip("\n")


def text(value: Any) -> str:
    """A value as a cell: ``-`` for nothing, yes and no for booleans, lists joined, three decimal places."""
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return ",".join(f"{key}={text(each)}" for key, each in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(text(each) for each in value)
    return str(value)
