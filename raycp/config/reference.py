"""All fields of the fleet file as rows, generated from the models, so that the documentation can't drift."""

import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from raycp.config.fleet import FleetDoc
from raycp.config.units import Unit, format_duration, format_percent, format_size

_FORMATS: dict[str, typing.Callable[[Any], str]] = {
    "duration": format_duration,
    "share": format_percent,
    "size": format_size,
}


@dataclass(frozen=True)
class Row:
    """One field: path, accepted values, default, meaning."""

    path: str
    type: str
    default: str
    meaning: str


def rows(model: type[BaseModel] = FleetDoc, prefix: str = "") -> Iterator[Row]:
    """All fields below ``model``, in the order of the file."""
    for name, field in model.model_fields.items():
        alias = field.alias or name
        path = f"{prefix}.{alias}" if prefix else alias
        inner, many = _inner(field.annotation)
        yield Row(path, _type(field), _default(field), " ".join((field.description or "").split()))
        if inner is not None:
            yield from rows(inner, f"{path}[]" if many else path)


def markdown() -> str:
    """The rows as one Markdown table for each section of ``spec``."""
    sections: dict[str, list[Row]] = {}
    for row in rows():
        parts = row.path.split(".")
        title = ".".join(parts[:2]).removesuffix("[]") if parts[0] == "spec" and len(parts) > 1 else ""
        sections.setdefault(title, []).append(row)
    blocks = []
    for title, entries in sections.items():
        lines = [f"### `{title}`" if title else "### The top of the file", ""]
        lines += ["| field | takes | default | meaning |", "|---|---|---|---|"]
        lines += [f"| `{row.path}` | {row.type} | {row.default} | {_cell(row.meaning)} |" for row in entries]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    many = get_origin(annotation) is list
    for argument in get_args(annotation):
        found, deeper = _inner(argument)
        if found is not None:
            return found, many or deeper
    return None, False


def _type(field: FieldInfo) -> str:
    return _named(field.annotation, list(field.metadata))


def _named(annotation: Any, metadata: list[Any]) -> str:
    for marker in metadata:
        if isinstance(marker, Unit):
            return marker.name
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _named(arguments[0], list(arguments[1:]))
    if origin in (types.UnionType, typing.Union):
        return _named(next(each for each in arguments if each is not type(None)), metadata)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin is list:
        one_or_many = any(isinstance(marker, BeforeValidator) for marker in metadata)
        return "text, or a list of it" if one_or_many else f"list of {_named(arguments[0], [])}"
    if origin is dict:
        value = arguments[1]
        if any(isinstance(marker, BeforeValidator) for marker in metadata):
            return "mapping to text, or a list of it"
        return f"mapping to {_named(value, [])}" if value is not Any else "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, "path" if getattr(annotation, "__name__", "") == "Path" else "anything")


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "**required**"
    if value is PydanticUndefined or value is None:
        return "–"
    unit = next((marker for marker in field.metadata if isinstance(marker, Unit)), None)
    if unit is not None and isinstance(value, int | float):
        return f"`{_FORMATS[unit.name](value)}`"
    if isinstance(value, BaseModel):
        return "–" if any(each.is_required() for each in type(value).model_fields.values()) else "`{}`"
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return "see meaning"
    return f"`{json.dumps(value, default=str)}`"
