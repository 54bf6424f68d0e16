"""Problems of a fleet file, with what its author needs to fix them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from raycp.config.names import nearest
from raycp.config.strict import InvalidValue

Loc = tuple[str | int, ...]
"""A place in the document: YAML keys and list indexes."""

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "path_type": "text",
}
_CREDENTIAL = re.compile(r"token|password|secret|client-?(key|cert)|certificate|api-?key", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """One violation. ``path`` is as in ``spec.clusters[2].kubeconfig.path``, ``line`` counts from 1 (0: unknown).

    ``value`` is the value there, shortened; empty if it is missing or might be a secret.
    """

    file: str
    path: str
    value: str
    message: str
    remedy: str
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.path}: {self.value}" if self.value else self.path
        text = f"{where}: {subject} {self.message}" if subject else f"{where}: {self.message}"
        return f"{text}; {self.remedy}" if self.remedy else text


class ConfigError(Exception):
    """A fleet file that can't be used. ``str()`` has one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@dataclass(frozen=True)
class Violation:
    """A problem without file and line, found by a rule on the parsed document."""

    loc: Loc
    message: str
    remedy: str


def dotted(loc: Loc) -> str:
    """``("spec", "clusters", 2)`` as ``spec.clusters[2]``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part)}]"
    return text


def shown(value: Any) -> str:
    """A value on one line of at most 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def value_at(content: Any, loc: Loc) -> Any:
    """The value at ``loc``, or None."""
    for part in loc:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return None
    return content


def from_validation(error: ValidationError, model: type[BaseModel], file: Path, lines: dict[Loc, int]) -> list[Problem]:
    """The problems in pydantic's error; ``lines`` has the line of each value."""
    return [
        _problem(each, model, str(file), lines)
        for each in error.errors(include_url=False)
        if each["type"] != "default_factory_not_called"  # follows from another error
    ]


def line_of(loc: Loc, lines: dict[Loc, int]) -> int:
    """The line of the value at ``loc``, or of its closest parent in the file; 0 if there is none."""
    for end in range(len(loc), -1, -1):
        if loc[:end] in lines:
            return lines[loc[:end]]
    return 0


def _problem(error: ErrorDetails, model: type[BaseModel], file: str, lines: dict[Loc, int]) -> Problem:
    loc: Loc = error["loc"]
    kind, context = error["type"], error.get("ctx", {})
    value: Any = error["input"]
    line = line_of(loc, lines)
    path = dotted(loc)
    if kind == "missing":
        return Problem(file, path, "", "is missing", _what(model, loc), line)
    if kind == "extra_forbidden":
        return Problem(file, path, "", "is not a known key", _known_key(model, loc), line)
    if kind == "value_error" and isinstance(refused := context.get("error"), InvalidValue):
        return Problem(file, path, "" if refused.secret else shown(value), str(refused), refused.remedy, line)
    if kind in _EXPECTED:
        given = _KINDS.get(type(value), "something else")
        message = f"is {given} where {_EXPECTED[kind]} is expected"
        if kind == "string_type" and isinstance(value, bool | int | float):
            remedy = f'put it in quotes: "{shown(value)}"'
        elif value is None and kind == "model_type":
            remedy = "write {} for one with all defaults, or leave the key out"
        else:
            remedy = _what(model, loc)
        return Problem(file, path, shown(value), message, remedy, line)
    if kind == "literal_error":
        choices = [str(choice) for choice in _choices(model, loc)]
        close = nearest(value, choices) if isinstance(value, str) else None
        hint = f"did you mean {close!r}?" if close else ""
        expected = context.get("expected", "")
        return Problem(file, path, shown(value), f"is not one of {expected}", hint, line)
    if kind == "string_pattern_mismatch":
        return Problem(file, path, shown(value), "is not written as it must be", _what(model, loc), line)
    if kind in ("too_short", "string_too_short"):
        return Problem(file, path, shown(value), "is empty", _what(model, loc), line)
    message = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return Problem(file, path, shown(value), message[:1].lower() + message[1:], _what(model, loc), line)


def _known_key(model: type[BaseModel], loc: Loc) -> str:
    key = str(loc[-1])
    owner = model_at(model, loc[:-1])
    keys = [field.alias or name for name, field in owner.model_fields.items()] if owner else []
    close = nearest(key, keys)
    if close:
        return f"did you mean {close!r}?"
    if _CREDENTIAL.search(key):
        return "the fleet file holds no credentials: name a kubeconfig in kubeconfig.path"
    elsewhere = _elsewhere(model, key)
    if elsewhere:
        return f"it belongs under {elsewhere}"
    return f"known here: {', '.join(keys)}" if keys else ""


def _elsewhere(model: type[BaseModel], key: str) -> str:
    """The path of the only section with such a key within two levels of the top, if there is exactly one."""
    found: list[str] = []

    def look(owner: type[BaseModel], path: str, depth: int) -> None:
        for name, field in owner.model_fields.items():
            alias = field.alias or name
            if alias == key:
                found.append(path or "the top of the file")
            inner = _model_of(field.annotation)
            if inner is not None and depth:
                look(inner, f"{path}.{alias}" if path else alias, depth - 1)

    look(model, "", 2)
    return found[0] if len(found) == 1 else ""


def _what(model: type[BaseModel], loc: Loc) -> str:
    """The first sentence of the field's documentation."""
    owner = model_at(model, loc[:-1])
    if owner is None or not loc:
        return ""
    for name, field in owner.model_fields.items():
        if (field.alias or name) == loc[-1] and field.description:
            text = " ".join(field.description.split())
            first = re.split(r"(?<=[.;]) ", text)[0].rstrip(".;")
            return f"expected: {first}"
    return ""


def _choices(model: type[BaseModel], loc: Loc) -> list[Any]:
    owner = model_at(model, loc[:-1])
    if owner is None:
        return []
    for name, field in owner.model_fields.items():
        if (field.alias or name) == loc[-1]:
            return _literals(field.annotation)
    return []


def _literals(annotation: Any) -> list[Any]:
    found: list[Any] = []
    for argument in get_args(annotation):
        if isinstance(argument, str):
            found.append(argument)
        else:
            found.extend(_literals(argument))
    return found


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model whose fields are the keys at ``loc``."""
    here: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            continue
        if here is None:
            return None
        field = next((field for name, field in here.model_fields.items() if (field.alias or name) == part), None)
        here = _model_of(field.annotation) if field else None
    return here


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_of(argument)
        if found is not None:
            return found
    return None
