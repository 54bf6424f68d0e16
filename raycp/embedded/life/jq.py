"""The part of the jq language that stage files use, compiled to closures.

Supported: paths (``.a.b``, ``.["a"]``, ``.[0]``, ``.[-1]``, ``.[]``), ``?``, pipes, commas, comparison, arithmetic,
``and``, ``or``, ``//``, literals, ``[...]``, ``{a: .b}``, ``if`` and the functions in ``jqfunctions``. Anything else
raises ``JqError`` when the file is read, never later.

An expression is a function from a value to the list of its results. As in kwok (``pkg/utils/expression/query.go``) an
evaluation that fails has no results (``None``), and nulls are dropped from them.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from raycp.embedded.life.jqfunctions import Fails, Filter, JqError, each, function, true

__all__ = ["JqError", "compile_jq"]


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<str>"(?:[^"\\]|\\.)*")
      | (?P<num>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<op>//|==|!=|<=|>=|\.\.|[.\[\](){}|,?:<>+\-*/%])
    )""",
    re.VERBOSE,
)


def compile_jq(text: str) -> Callable[[Any], list[Any] | None]:
    """Compile ``text`` to a function that returns the non-null results, or None if evaluation fails. Raises ``JqError``."""
    run = _Parser(text).whole()

    def evaluate(value: Any) -> list[Any] | None:
        try:
            return [found for found in run(value) if found is not None]
        except Fails:
            return None

    return evaluate


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        at = 0
        stripped = text.rstrip()
        while at < len(stripped):
            match = _TOKEN.match(stripped, at)
            if match is None:
                raise JqError(f"jq expression {text!r}: can't read {stripped[at : at + 10]!r}")
            kind = match.lastgroup
            assert kind is not None
            self.tokens.append((kind, match[kind]))
            at = match.end()
        self.at = 0

    def whole(self) -> Filter:
        found = self.pipe()
        if self.at < len(self.tokens):
            raise self.error(f"unexpected {self.tokens[self.at][1]!r}")
        return found

    def error(self, what: str) -> JqError:
        return JqError(f"jq expression {self.text!r}: {what}")

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) and self.tokens[self.at][0] != "str" else ""

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        if self.at >= len(self.tokens):
            raise self.error("ends too early")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def expect(self, what: str) -> None:
        if self.peek() != what:
            raise self.error(f"{what!r} expected" + (f" before {self.peek()!r}" if self.peek() else " at the end"))
        self.at += 1

    def pipe(self) -> Filter:
        left = self.comma()
        while self.peek() == "|":
            self.at += 1
            left = _then(left, self.comma())
        return left

    def comma(self) -> Filter:
        left = self.alternative()
        while self.peek() == ",":
            self.at += 1
            left = _both(left, self.alternative())
        return left

    def alternative(self) -> Filter:
        left = self.disjunction()
        if self.peek() == "//":
            self.at += 1
            return _or_else(left, self.alternative())
        return left

    def disjunction(self) -> Filter:
        left = self.conjunction()
        while self.peek() == "or":
            self.at += 1
            left = _binary("or", left, self.conjunction())
        return left

    def conjunction(self) -> Filter:
        left = self.comparison()
        while self.peek() == "and":
            self.at += 1
            left = _binary("and", left, self.comparison())
        return left

    def comparison(self) -> Filter:
        left = self.sum()
        if self.peek() in ("==", "!=", "<", "<=", ">", ">="):
            return _binary(self.take(), left, self.sum())
        return left

    def sum(self) -> Filter:
        left = self.product()
        while self.peek() in ("+", "-"):
            left = _binary(self.take(), left, self.product())
        return left

    def product(self) -> Filter:
        left = self.postfix()
        while self.peek() in ("*", "/", "%"):
            left = _binary(self.take(), left, self.postfix())
        return left

    def postfix(self) -> Filter:
        left = self.term()
        while True:
            if self.kind() == "field":
                left = _then(left, _field(self.take()[1:]))
            elif self.peek() == "." and self.tokens[self.at + 1 : self.at + 2] in ([("op", "[")],):
                self.at += 1
            elif self.peek() == "[":
                left = self.bracket(left)
            elif self.peek() == "?":
                self.at += 1
                left = _quietly(left)
            elif self.peek() == "." and self.tokens[self.at + 1 : self.at + 2] and self.tokens[self.at + 1][0] == "str":
                self.at += 1
                left = _then(left, _field(_unquote(self.take())))
            else:
                return left

    def bracket(self, left: Filter) -> Filter:
        self.expect("[")
        if self.peek() == "]":
            self.at += 1
            return _then(left, each)
        inner = self.pipe()
        self.expect("]")
        return _index(left, inner)

    def term(self) -> Filter:
        kind = self.kind()
        if kind == "str":
            text = _unquote(self.take())
            return lambda value: [text]
        if kind == "num":
            number = float(self.take())
            whole: float | int = int(number) if number.is_integer() else number
            return lambda value: [whole]
        if kind == "field":
            return _field(self.take()[1:])
        if kind == "word":
            return self.word()
        token = self.peek()
        if token == ".":
            self.at += 1
            if self.kind() == "str":
                return _field(_unquote(self.take()))
            return lambda value: [value]
        if token == "(":
            self.at += 1
            inner = self.pipe()
            self.expect(")")
            return inner
        if token == "[":
            self.at += 1
            if self.peek() == "]":
                self.at += 1
                return lambda value: [[]]
            members = self.pipe()
            self.expect("]")
            return lambda value: [members(value)]
        if token == "{":
            return self.construct()
        if token == "-":
            self.at += 1
            return _binary("-", lambda value: [0], self.postfix())
        raise self.error(f"{token!r} is not supported" if token else "ends too early")

    def construct(self) -> Filter:
        self.expect("{")
        parts: list[tuple[str, Filter]] = []
        while self.peek() != "}":
            name = _unquote(self.take()) if self.kind() == "str" else self.take()
            if self.peek() == ":":
                self.at += 1
                parts.append((name, self.alternative()))
            else:
                parts.append((name, _field(name)))
            if self.peek() == ",":
                self.at += 1
        self.expect("}")
        return lambda value: [{name: _first(part(value)) for name, part in parts}]

    def word(self) -> Filter:
        name = self.take()
        constants = {"true": True, "false": False, "null": None}
        if name in constants:
            constant = constants[name]
            return lambda value: [constant]
        if name == "if":
            return self.condition()
        arguments: list[Filter] = []
        if self.peek() == "(":
            self.at += 1
            arguments.append(self.pipe())
            self.expect(")")
        return function(name, arguments, self.error)

    def condition(self) -> Filter:
        test = self.pipe()
        self.expect("then")
        yes = self.pipe()
        no: Filter = lambda value: [value]  # noqa: E731
        if self.peek() == "elif":
            self.at += 1
            no = self.condition()
        else:
            if self.peek() == "else":
                self.at += 1
                no = self.pipe()
            self.expect("end")
        return lambda value: [r for t in test(value) for r in (yes(value) if true(t) else no(value))]


def _first(values: list[Any]) -> Any:
    return values[0] if values else None


def _unquote(token: str) -> str:
    return str(json.loads(token))


def _field(name: str) -> Filter:
    def get(value: Any) -> list[Any]:
        if value is None:
            return [None]
        if isinstance(value, dict):
            return [value.get(name)]
        raise Fails

    return get


def _index(left: Filter, inner: Filter) -> Filter:
    def run(value: Any) -> list[Any]:
        found: list[Any] = []
        for holder in left(value):
            for key in inner(value):
                if holder is None:
                    found.append(None)
                elif isinstance(holder, dict) and isinstance(key, str):
                    found.append(holder.get(key))
                elif isinstance(holder, list) and isinstance(key, int):
                    found.append(holder[key] if -len(holder) <= key < len(holder) else None)
                else:
                    raise Fails
        return found

    return run


def _then(left: Filter, right: Filter) -> Filter:
    def run(value: Any) -> list[Any]:
        first = left(value)
        if len(first) == 1:
            return right(first[0])
        return [result for one in first for result in right(one)]

    return run


def _both(left: Filter, right: Filter) -> Filter:
    return lambda value: left(value) + right(value)


def _or_else(left: Filter, right: Filter) -> Filter:
    def run(value: Any) -> list[Any]:
        try:
            found = [one for one in left(value) if true(one)]
        except Fails:
            found = []
        return found or right(value)

    return run


def _quietly(inner: Filter) -> Filter:
    def run(value: Any) -> list[Any]:
        try:
            return inner(value)
        except Fails:
            return []

    return run


_ORDER = {type(None): 0, bool: 1, int: 2, float: 2, str: 3, list: 4, dict: 5}


def _less(a: Any, b: Any) -> bool:
    ranks = _ORDER[type(a)], _ORDER[type(b)]
    if ranks[0] != ranks[1]:
        return ranks[0] < ranks[1]
    if a is None or isinstance(a, dict):
        return False
    return bool(a < b)


def _add(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, dict) and isinstance(b, dict):
        return {**a, **b}
    if _ORDER[type(a)] == _ORDER[type(b)] and _ORDER[type(a)] in (2, 3, 4):
        return a + b
    raise Fails


def _number(of: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def run(a: Any, b: Any) -> Any:
        if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, int | float) or not isinstance(b, int | float):
            raise Fails
        try:
            return of(a, b)
        except ZeroDivisionError:
            raise Fails from None

    return run


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": _less,
    ">": lambda a, b: _less(b, a),
    "<=": lambda a, b: not _less(b, a),
    ">=": lambda a, b: not _less(a, b),
    "+": _add,
    "-": _number(lambda a, b: a - b),
    "*": _number(lambda a, b: a * b),
    "/": _number(lambda a, b: a / b),
    "%": _number(lambda a, b: int(a) % int(b)),
    "and": lambda a, b: true(a) and true(b),
    "or": lambda a, b: true(a) or true(b),
}


def _binary(operator: str, left: Filter, right: Filter) -> Filter:
    apply = _OPERATORS[operator]
    return lambda value: [apply(a, b) for b in right(value) for a in left(value)]
