"""Lists of a command: one set of rows as table, wide table, JSON or YAML."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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


def print_line(line: str) -> None:
    """Print a line of a command's progress at once, also where the output is a pipe."""
    print(line, flush=True)


def render(rows: Sequence[Row], columns: Sequence[Column], format: Format, *, empty: str = "nothing to show") -> str:
    """The rows as text, without a final newline. JSON and YAML carry whole rows, tables their columns."""
    if format == "json":
        return to_json([dict(row) for row in rows])
    if format == "yaml":
        return to_yaml([dict(row) for row in rows])
    if not rows:
        return empty
    shown = [column for column in columns if format == "wide" or not column.wide]
    lines = [[column.title for column in shown], *([column.cell(row) for column in shown] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(shown))]
    return "\n".join(
        "   ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, shown, strict=True)
        ).rstrip()
        for line in lines
    )


def document(content: Any, format: Format) -> str:
    """``content`` as JSON or YAML; the caller prints ``table`` and ``wide``."""
    return to_json(content) if format == "json" else to_yaml(content)


def to_json(content: Any) -> str:
    """Indented JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)


def to_yaml(content: Any) -> str:
    """Block YAML in the order given."""
    import yaml

    plain = json.loads(json.dumps(content, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False).rstrip("\n")


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
