"""Built-ins of Go's text/template: truth, printing, comparison, functions."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any


class TemplateError(ValueError):
    """The template can't be read or can't be executed."""


def truth(value: Any) -> bool:
    """Go templates: false, 0, nil and empty strings, lists and maps are false."""
    return bool(value)


def go_text(value: Any) -> str:
    """The value as ``fmt.Print`` prints it."""
    if value is None:
        return "<no value>"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_nested(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_nested(one) for one in value) + "]"
    return str(value)


def _nested(value: Any) -> str:
    return "<nil>" if value is None else go_text(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            return None
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple | str) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = value[key]
        else:
            raise TemplateError(f"can't index {type(value).__name__} with {key!r}")
    return value


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb == "d":
            return f"%{flags}d" % int(value)
        if verb in "feg":
            return f"%{flags}{verb}" % float(value)
        if verb in "xXo":
            return f"%{flags}{verb}" % (int(value) if not isinstance(value, str) else int(value.encode().hex() or "0", 16))
        if verb == "q":
            return json.dumps(go_text(value), ensure_ascii=False)
        if verb == "t":
            return go_text(bool(value))
        return f"%{flags}s" % _nested(value) if flags not in ("+", "#") else _nested(value)

    return re.sub(r"%([-+# 0]*\d*(?:\.\d+)?)([a-zA-Z%])", one, form)


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def run(a: Any, b: Any) -> bool:
        if isinstance(a, str) is not isinstance(b, str):
            raise TemplateError("incompatible types for comparison")
        return test(a, b)

    return run


BUILTINS: dict[str, Callable[..., Any]] = {
    "not": lambda value: not truth(value),
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda a, b: a != b,
    "lt": _compare(lambda a, b: a < b),
    "le": _compare(lambda a, b: a <= b),
    "gt": _compare(lambda a, b: a > b),
    "ge": _compare(lambda a, b: a >= b),
    "len": lambda value: len(value) if value is not None else 0,
    "index": _index,
    "slice": lambda value, *at: value[slice(*at)] if len(at) != 1 else value[at[0] :],
    "print": lambda *values: "".join(_nested(value) for value in values),
    "println": lambda *values: " ".join(_nested(value) for value in values) + "\n",
    "printf": _printf,
}
"""Go's built-in functions, without ``and`` and ``or``, which the compiler handles."""
