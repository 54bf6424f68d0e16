"""Pipelines of Go templates: tokens, operands, function calls, and the variables in scope."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from raycp.embedded.life.gobuiltins import TemplateError, truth

Functions = Mapping[str, Callable[..., Any]]
Eval = Callable[["Scope", Any], Any]
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<str>"(?:[^"\\]|\\.)*"|`[^`]*`)
      | (?P<char>'(?:[^'\\]|\\.)')
      | (?P<num>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))
      | (?P<var>\$[A-Za-z0-9_]*)
      | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<op>:=|[=|(),.])
    )""",
    re.VERBOSE,
)


_HOLDERS = frozenset({"field", "more", "var", "word"})


class Scope:
    """Variables of one block; an inner block reads and assigns those of the outer ones."""

    __slots__ = ("names", "outer")

    def __init__(self, outer: "Scope | None") -> None:
        self.outer = outer
        self.names: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        raise TemplateError(f"undefined variable {name}")

    def assign(self, name: str, value: Any) -> None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                scope.names[name] = value
                return
            scope = scope.outer
        raise TemplateError(f"undefined variable {name}")


class PipelineReader:
    """Recursive descent over one pipeline."""

    def __init__(self, tokens: list[tuple[str, str]], functions: Functions, text: str) -> None:
        self.tokens, self.functions, self.text, self.at = tokens, functions, text, 0

    def error(self, what: str) -> TemplateError:
        return TemplateError(f"{what} in {{{{{self.text}}}}}")

    def finish(self) -> None:
        if self.at != len(self.tokens):
            raise self.error(f"unexpected {self.tokens[self.at][1]!r}")

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "")

    def pipeline(self) -> Eval:
        stage = self.command(None)
        while self.peek() == ("op", "|"):
            self.at += 1
            stage = self.command(stage)
        return stage

    def command(self, piped: Eval | None) -> Eval:
        kind, token = self.peek()
        if kind == "word" and token not in ("true", "false", "nil"):
            self.at += 1
            arguments = self.operands()
            if piped is not None:
                arguments.append(piped)
            return self.chain(_call(token, self.functions, arguments, self.error))
        operands = self.operands()
        if len(operands) != 1:
            raise self.error("a function or one value is expected")
        if piped is not None:
            raise self.error("a value takes no piped argument")
        return operands[0]

    def operands(self) -> list[Eval]:
        found: list[Eval] = []
        while self.at < len(self.tokens) and self.peek() not in (("op", "|"), ("op", ")"), ("op", ",")):
            found.append(self.operand())
        return found

    def operand(self) -> Eval:
        kind, token = self.peek()
        self.at += 1
        if kind == "str":
            text = token[1:-1] if token[0] == "`" else str(json.loads(token))
            return lambda scope, dot: text
        if kind == "char":
            code = ord(str(json.loads(f'"{token[1:-1]}"')))
            return lambda scope, dot: code
        if kind == "num":
            number: float | int = float(token) if re.search(r"[.eE]", token) and "x" not in token.lower() else int(token, 0)
            return lambda scope, dot: number
        if kind == "var":
            return self.chain(lambda scope, dot: scope.get(token))
        if kind == "field":
            self.at -= 1
            self.tokens[self.at] = ("more", token)
            return self.chain(lambda scope, dot: dot)
        if kind == "op" and token == ".":
            return lambda scope, dot: dot
        if kind == "op" and token == "(":
            inner = self.pipeline()
            if self.peek() != ("op", ")"):
                raise self.error("')' expected")
            self.at += 1
            return self.chain(inner)
        if kind == "word" and token in ("true", "false", "nil"):
            constant = {"true": True, "false": False, "nil": None}[token]
            return lambda scope, dot: constant
        if kind == "word":
            return self.chain(_call(token, self.functions, [], self.error))
        raise self.error(f"unexpected {token!r}")

    def chain(self, base: Eval) -> Eval:
        names: list[str] = []
        while self.peek()[0] == "more":
            names.append(self.peek()[1][1:])
            self.at += 1
        if not names:
            return base

        def follow(scope: Scope, dot: Any) -> Any:
            value = base(scope, dot)
            for name in names:
                if value is None:
                    return None
                if not isinstance(value, Mapping):
                    raise TemplateError(f"can't read field {name} of {type(value).__name__}")
                value = value.get(name)
            return value

        return follow


def _call(name: str, functions: Functions, arguments: list[Eval], error: Callable[[str], TemplateError]) -> Eval:
    if name in ("and", "or"):  # no plain functions, because they stop at the deciding operand
        wanted = name == "or"

        def logic(scope: Scope, dot: Any) -> Any:
            value = None
            for argument in arguments:
                value = argument(scope, dot)
                if truth(value) is wanted:
                    return value
            return value

        return logic
    if name not in functions:
        raise error(f"function {name!r} is not known")
    function = functions[name]
    return lambda scope, dot: function(*[argument(scope, dot) for argument in arguments])


def pipeline_tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise TemplateError(f"can't read {text[at : at + 12]!r} in {{{{{text}}}}}")
        kind = match.lastgroup
        if kind == "field" and found and match.start(kind) == at and (found[-1][0] in _HOLDERS or found[-1][1] == ")"):
            kind = "more"  # a field of the value before it, not another operand
        found.append((kind, match[match.lastgroup]))
        at = match.end()
    return found
