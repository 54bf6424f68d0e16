"""A CEL tree to a closure over variables. Functions and names are checked when compiling: what is not known is refused.

Values are JSON's: int, float, str, bool, None, list, dict; times are ``Timestamp`` and durations ``Duration``, both in
seconds. Errors of evaluation raise ``CelError``; ``&&`` and ``||`` absorb them where the other side decides.
"""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

from raycp.embedded.strategy.cel.parser import Node
from raycp.embedded.strategy.scalars import Malformed, parse_duration, unix_time

Scope = dict[str, Any]
Program = Callable[[Scope], Any]


class CelError(Exception):
    """Evaluation failed."""


class CelRefused(Exception):
    """The expression uses what does not exist, or what this interpreter does not know."""


class Duration(float):
    """Seconds between two times."""


class Timestamp(float):
    """Seconds since 1970."""


class Optional:
    """``optional.of(x)`` or ``optional.none()``."""

    def __init__(self, there: bool, value: Any = None) -> None:
        self.there, self.value = there, value


def equal(a: Any, b: Any) -> bool:
    """CEL equality: numbers across types, other types never."""
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(one, b[key]) for key, one in a.items())
    return bool(a == b)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _no_overload(*values: Any) -> CelError:
    return CelError("no such overload: " + ", ".join(type(value).__name__ for value in values))


def _compare(a: Any, b: Any) -> int:
    comparable = (
        (_number(a) and _number(b))
        or (isinstance(a, str) and isinstance(b, str))
        or (isinstance(a, bool) and isinstance(b, bool))
        or (isinstance(a, bytes) and isinstance(b, bytes))
    )
    if not comparable:
        raise _no_overload(a, b)
    return int(a > b) - int(a < b)


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, (Timestamp, Duration)) or isinstance(b, (Timestamp, Duration)):
        if isinstance(a, Timestamp) or isinstance(b, Timestamp):
            return Timestamp(float(a) + float(b))
        return Duration(float(a) + float(b))
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a + b)
    if type(a) is type(b) and isinstance(a, (str, list, bytes)):
        return a + b
    raise _no_overload(a, b)


def _subtract(a: Any, b: Any) -> Any:
    if isinstance(a, Timestamp):
        return Duration(float(a) - float(b)) if isinstance(b, Timestamp) else Timestamp(float(a) - float(b))
    if isinstance(a, Duration) and isinstance(b, Duration):
        return Duration(float(a) - float(b))
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a - b)
    raise _no_overload(a, b)


def _in_range(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise CelError("integer overflow")
    return value


def _multiply(a: Any, b: Any) -> Any:
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a * b)
    raise _no_overload(a, b)


def _divide(a: Any, b: Any) -> Any:
    if not (_number(a) and _number(b) and type(a) is type(b)):
        raise _no_overload(a, b)
    if isinstance(a, float):
        return a / b if b else math.copysign(math.inf, a) if a else math.nan
    if b == 0:
        raise CelError("division by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _modulo(a: Any, b: Any) -> Any:
    if not (type(a) is int and type(b) is int):
        raise _no_overload(a, b)
    if b == 0:
        raise CelError("modulus by zero")
    return int(math.copysign(abs(a) % abs(b), a)) if a else 0


def _within(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return isinstance(a, str) and a in b
    if isinstance(b, list):
        return any(equal(a, one) for one in b)
    raise _no_overload(a, b)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "==": equal,
    "!=": lambda a, b: not equal(a, b),
    "<": lambda a, b: _compare(a, b) < 0,
    "<=": lambda a, b: _compare(a, b) <= 0,
    ">": lambda a, b: _compare(a, b) > 0,
    ">=": lambda a, b: _compare(a, b) >= 0,
    "in": _within,
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "%": _modulo,
}


def _size(value: Any) -> int:
    if isinstance(value, (str, list, dict, bytes)):
        return len(value)
    raise _no_overload(value)


def _to_int(value: Any) -> int:
    if isinstance(value, (str, float, int)) and not isinstance(value, bool):
        try:
            return int(value)
        except (ValueError, OverflowError) as error:
            raise CelError(str(error)) from None
    raise _no_overload(value)


def _to_double(value: Any) -> float:
    if isinstance(value, (str, float, int)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError as error:
            raise CelError(str(error)) from None
    raise _no_overload(value)


def _to_string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    raise _no_overload(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _no_overload(value)
    return value


def _matches(value: Any, pattern: Any) -> bool:
    try:
        return re.search(_text(pattern), _text(value)) is not None
    except re.error as error:
        raise CelError(str(error)) from None


def _timestamp(value: Any) -> Timestamp:
    try:
        return Timestamp(unix_time(_text(value)))
    except Malformed as error:
        raise CelError(str(error)) from None


def _duration(value: Any) -> Duration:
    try:
        return Duration(parse_duration(_text(value)))
    except Malformed as error:
        raise CelError(str(error)) from None


def _type(value: Any) -> str:
    names = {
        bool: "bool",
        int: "int",
        float: "double",
        str: "string",
        list: "list",
        dict: "map",
        type(None): "null_type",
    }
    return names.get(type(value), "dyn")


def _is_sorted(items: Any) -> bool:
    return all(_compare(a, b) <= 0 for a, b in itertools.pairwise(items))


def _sum(items: Any) -> Any:
    total: Any = 0
    for index, one in enumerate(items):
        total = _add(total, one) if index else one
    return total


def _extreme(items: Any, sign: int) -> Any:
    if not items:
        raise CelError("min/max called on empty list")
    best = items[0]
    for one in items[1:]:
        if _compare(one, best) * sign > 0:
            best = one
    return best


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _no_overload(value)
    return value


def _char_at(text: Any, index: Any) -> str:
    if not 0 <= index <= len(_text(text)):
        raise CelError(f"index out of range: {index}")
    return str(text[index : index + 1])


_CALLS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "size": ((1,), _size),
    "int": ((1,), _to_int),
    "uint": ((1,), _to_int),
    "double": ((1,), _to_double),
    "string": ((1,), _to_string),
    "bool": ((1,), lambda v: v if isinstance(v, bool) else {"true": True, "false": False}[_text(v)]),
    "type": ((1,), _type),
    "dyn": ((1,), lambda v: v),
    "timestamp": ((1,), _timestamp),
    "duration": ((1,), _duration),
}
_METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "size": ((0,), _size),
    "startsWith": ((1,), lambda s, p: _text(s).startswith(_text(p))),
    "endsWith": ((1,), lambda s, p: _text(s).endswith(_text(p))),
    "contains": ((1,), lambda s, p: _text(p) in _text(s)),
    "matches": ((1,), _matches),
    "lowerAscii": ((0,), lambda s: _text(s).lower()),
    "upperAscii": ((0,), lambda s: _text(s).upper()),
    "trim": ((0,), lambda s: _text(s).strip()),
    "split": ((1, 2), lambda s, p, n=-1: _text(s).split(p, n - 1 if n > 0 else -1) if p else list(_text(s))),
    "join": ((0, 1), lambda s, p="": _text(p).join(_list(s))),
    "replace": ((2, 3), lambda s, a, b, n=-1: _text(s).replace(a, b, n)),
    "substring": ((1, 2), lambda s, a, b=None: _text(s)[a:b]),
    "charAt": ((1,), _char_at),
    "indexOf": (
        (1, 2),
        lambda s, p, n=0: next((i for i, o in enumerate(s) if equal(o, p)), -1) if isinstance(s, list) else s.find(p, n),
    ),
    "lastIndexOf": (
        (1,),
        lambda s, p: next((i for i in range(len(s) - 1, -1, -1) if equal(s[i], p)), -1) if isinstance(s, list) else s.rfind(p),
    ),
    "find": ((1,), lambda s, p: (re.search(p, _text(s)) or [""])[0]),
    "isSorted": ((0,), lambda s: _is_sorted(_list(s))),
    "sum": ((0,), lambda s: _sum(_list(s))),
    "min": ((0,), lambda s: _extreme(_list(s), -1)),
    "max": ((0,), lambda s: _extreme(_list(s), 1)),
    "hasValue": ((0,), lambda o: o.there),
    "value": ((0,), lambda o: o.value),
    "orValue": ((1,), lambda o, d: o.value if o.there else d),
    "getSeconds": ((0,), lambda d: int(float(d)) if isinstance(d, Duration) else int(float(d)) % 60),
}


def compile_node(node: Node, known: frozenset[str]) -> Program:
    """The closure of a tree in which the variables ``known`` may be used. Raises ``CelRefused``."""
    kind = node[0]
    if kind == "lit":
        value = node[1]
        return lambda scope: value
    if kind == "id":
        name = node[1]
        if name not in known:
            raise CelRefused(f"undeclared reference to '{name}' (in container '')")
        return lambda scope: scope[name]
    if kind in ("and", "or"):
        return _logic(compile_node(node[1], known), compile_node(node[2], known), kind == "or")
    if kind == "not":
        inner = compile_node(node[1], known)
        return lambda scope: not _truth(inner(scope))
    if kind == "neg":
        inner = compile_node(node[1], known)
        return lambda scope: _subtract(type(inner(scope))(0), inner(scope))
    if kind == "cond":
        test, yes, no = (compile_node(one, known) for one in node[1:])
        return lambda scope: yes(scope) if _truth(test(scope)) else no(scope)
    if kind == "bin":
        operate = _BINARY[node[1]]
        left, right = compile_node(node[2], known), compile_node(node[3], known)
        return lambda scope: operate(left(scope), right(scope))
    if kind in ("sel", "has", "index"):
        return _access(node, known)
    if kind == "list":
        items = [compile_node(one, known) for one in node[1]]
        return lambda scope: [one(scope) for one in items]
    if kind == "map":
        pairs = [(compile_node(k, known), compile_node(v, known)) for k, v in node[1]]
        return lambda scope: {k(scope): v(scope) for k, v in pairs}
    if kind == "loop":
        return _loop(node, known)
    return _call(node, known)


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise _no_overload(value)


def _logic(left: Program, right: Program, decides: bool) -> Program:
    def run(scope: Scope) -> bool:
        try:
            first = _truth(left(scope))
        except CelError:
            if _truth(right(scope)) is decides:
                return decides
            raise
        return decides if first is decides else _truth(right(scope))

    return run


def _access(node: Node, known: frozenset[str]) -> Program:
    of = compile_node(node[1], known)
    if node[0] == "has":
        name = node[2]

        def has(scope: Scope) -> bool:
            value = of(scope)
            if not isinstance(value, dict):
                raise CelError(f"unexpected type of field selection: {name}")
            return name in value

        return has
    if node[0] == "sel":
        name, optional = node[2], node[3]

        def select(scope: Scope) -> Any:
            value = of(scope)
            if isinstance(value, Optional):
                inner = value.value
                return Optional(True, inner[name]) if value.there and name in inner else Optional(False)
            if optional:
                return Optional(True, value[name]) if isinstance(value, dict) and name in value else Optional(False)
            if isinstance(value, dict) and name in value:
                return value[name]
            raise CelError(f"no such key: {name}")

        return select
    key = compile_node(node[2], known)
    maybe = node[3]

    def index(scope: Scope) -> Any:
        value, at = of(scope), key(scope)
        there = (isinstance(value, dict) and isinstance(at, str) and at in value) or (
            isinstance(value, list) and type(at) is int and 0 <= at < len(value)
        )
        if maybe:
            return Optional(True, value[at]) if there else Optional(False)
        if not there:
            raise CelError(f"no such key: {at}" if isinstance(value, dict) else f"index out of bounds: {at}")
        return value[at]

    return index


def _loop(node: Node, known: frozenset[str]) -> Program:
    _, macro, over, variables, bodies = node
    source = compile_node(over, known)
    inner = [compile_node(body, known | frozenset(variables)) for body in bodies]
    body = inner[-1]
    condition = inner[0] if len(inner) == 2 else None

    def scopes(scope: Scope) -> Any:
        value = source(scope)
        if not isinstance(value, (list, dict)):
            raise _no_overload(value)
        if len(variables) == 1:
            for one in value:
                yield one, {**scope, variables[0]: one}
        else:
            for key, one in value.items() if isinstance(value, dict) else enumerate(value):
                yield key, {**scope, variables[0]: key, variables[1]: one}

    def run(scope: Scope) -> Any:
        if macro == "map":
            return [body(s) for _, s in scopes(scope) if condition is None or _truth(condition(s))]
        if macro == "filter":
            return [one for one, s in scopes(scope) if _truth(body(s))]
        if macro in ("exists_one", "existsOne"):
            return sum(1 for _, s in scopes(scope) if _truth(body(s))) == 1
        decides = macro == "exists"
        failed: CelError | None = None
        for _, s in scopes(scope):
            try:
                if _truth(body(s)) is decides:
                    return decides
            except CelError as error:
                failed = error
        if failed is not None:
            raise failed
        return not decides

    return run


def _call(node: Node, known: frozenset[str]) -> Program:
    if node[0] == "call":
        name, arguments = node[1], node[2]
        found = _CALLS.get(name)
        extra: list[Node] = []
    else:
        name, arguments, extra = node[2], node[3], [node[1]]
        if node[1] == ("id", "optional"):
            return _optional(name, [compile_node(one, known) for one in arguments])
        found = _METHODS.get(name)
    if found is None or len(arguments) not in found[0]:
        raise CelRefused(f"undeclared reference to '{name}' (not supported by embedded clusters)")
    function = found[1]
    inner = [compile_node(one, known) for one in [*extra, *arguments]]

    def run(scope: Scope) -> Any:
        try:
            return function(*[one(scope) for one in inner])
        except (TypeError, AttributeError, KeyError, IndexError, ValueError, re.error) as error:
            raise CelError(f"no such overload: {name}: {error}") from None

    return run


def _optional(name: str, arguments: list[Program]) -> Program:
    if name == "none" and not arguments:
        return lambda scope: Optional(False)
    if name == "of" and len(arguments) == 1:
        return lambda scope: Optional(True, arguments[0](scope))
    raise CelRefused(f"undeclared reference to 'optional.{name}'")


def uses(node: Any, name: str) -> bool:
    """Whether the tree mentions the variable ``name``."""
    if isinstance(node, tuple):
        return node == ("id", name) or any(uses(one, name) for one in node)
    return isinstance(node, list) and any(uses(one, name) for one in node)
