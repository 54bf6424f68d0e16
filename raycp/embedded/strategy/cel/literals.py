"""Checks of literals in a checked tree: of lists and maps with mixed types, and of text that a function will not take.

As cel-go's ``ValidateHomogeneousAggregateLiterals``, ``ValidateDurationLiterals``, ``ValidateTimestampLiterals`` and
``ValidateRegexLiterals`` (``cel/validator.go``).
"""

from collections.abc import Callable, Iterator
from typing import Any

from raycp.embedded.strategy.cel.parser import CelNode
from raycp.embedded.strategy.cel.types import DYN, Type
from raycp.embedded.strategy.patterns import Pattern, PatternRefused
from raycp.embedded.strategy.scalars import Malformed, parse_duration, unix_time

Found = tuple[int, str]
_TAKEN: dict[str, tuple[Callable[[str], Any], type[Exception]]] = {
    "duration": (parse_duration, Malformed),
    "timestamp": (unix_time, Malformed),
    "matches": (Pattern, PatternRefused),
}


def literal_errors(node: CelNode, types: dict[int, Type], mixed: bool = False) -> list[Found]:
    """Places and messages. ``mixed``: within a call of ``format``, where lists may mix types."""
    found: list[Found] = []
    kind = node[0]
    if kind == "list" and not mixed:
        found += _alike(node[1], types)
    elif kind == "map" and not mixed:
        found += _alike([key for key, _ in node[1]], types) + _alike([value for _, value in node[1]], types)
    elif kind in ("call", "method"):
        name, arguments = (node[1], node[2]) if kind == "call" else (node[2], node[3])
        mixed = mixed or name == "format"
        if name in _TAKEN and arguments:
            found += _taken(name, arguments[-1])
    for one in _children(node):
        found += literal_errors(one, types, mixed)
    return found


def _children(node: CelNode) -> Iterator[CelNode]:
    for part in node[1:]:
        if isinstance(part, CelNode):
            yield part
        elif isinstance(part, list):
            for one in part:
                if isinstance(one, CelNode):
                    yield one
                elif isinstance(one, tuple):
                    yield from (inner for inner in one if isinstance(inner, CelNode))


def _alike(nodes: list[CelNode], types: dict[int, Type]) -> list[Found]:
    first: Type | None = None
    for one in nodes:
        kind = types.get(id(one[1] if one[0] == "maybe" else one), DYN)
        if one[0] == "maybe" and kind.name == "optional_type":
            kind = kind.of[0]
        if first is not None and kind != first:
            return [(one.at, f"expected type '{first}' but found '{kind}'")]
        first = kind
    return []


def _taken(name: str, argument: CelNode) -> list[Found]:
    if argument[0] != "lit" or not isinstance(argument[1], str):
        return []
    parse, refusal = _TAKEN[name]
    try:
        parse(argument[1])
    except refusal:
        return [(argument.at, f"invalid {name} argument")]
    return []
