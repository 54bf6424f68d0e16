"""Go's text/template, as stage files write it, compiled to closures.

Covered: actions with pipelines, variables (``:=`` and ``=``), ``if``/``else if``/``else``, ``range`` (with index and
value, ``else``, ``break``, ``continue``), ``with``, ``define``/``template``/``block``, comments, ``{{-``/``-}}``,
parentheses, field chains on values and results, and the built-in functions; more functions are given by the caller.
Semantics follow https://pkg.go.dev/text/template where JSON-like data can tell the difference: a missing key is nil
and prints as ``<no value>``; ``and``/``or`` return an operand.

Errors: ``TemplateError``, at compile time for what can't be read, at run time for what can't be done.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from raycp.embedded.life.gobuiltins import BUILTINS, TemplateError, go_text, truth

__all__ = ["Functions", "Template", "TemplateError", "go_text", "truth"]


Functions = Mapping[str, Callable[..., Any]]
_Eval = Callable[["_Scope", Any], Any]
_Emit = Callable[["_Scope", Any, list[str]], None]

_ACTION = re.compile(
    r"\{\{(-\s)?\s*(/\*.*?\*/|(?:\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`|'(?:[^'\\\n]|\\.)*'|[^}\"`']|\}(?!\}))*?)\s*(\s-)?\}\}",
    re.DOTALL,
)
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


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Scope:
    """Variables of one block; blocks inside see and assign those outside."""

    __slots__ = ("names", "outer")

    def __init__(self, outer: "_Scope | None") -> None:
        self.outer = outer
        self.names: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        raise TemplateError(f"undefined variable {name}")

    def assign(self, name: str, value: Any) -> None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                scope.names[name] = value
                return
            scope = scope.outer
        raise TemplateError(f"undefined variable {name}")


class Template:
    """A compiled template; ``render(data)`` gives its text."""

    def __init__(self, text: str, functions: Functions) -> None:
        self._functions = {**BUILTINS, **functions}
        self._defined: dict[str, _Emit] = {}
        self._parts = _split(text)
        self._at = 0
        self._body, end = self._block(())
        if end:
            raise TemplateError(f"unexpected {{{{{end}}}}}")

    def render(self, data: Any) -> str:
        """Raises ``TemplateError`` where an action can't be done on ``data``."""
        out: list[str] = []
        scope = _Scope(None)
        scope.names["$"] = data
        try:
            self._body(scope, data, out)
        except TemplateError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error
        return "".join(out)

    # blocks

    def _block(self, ends: tuple[str, ...]) -> tuple[_Emit, str]:
        """The actions up to one whose word is in ``ends``; returns that action's text."""
        emits: list[_Emit] = []
        while self._at < len(self._parts):
            is_action, text = self._parts[self._at]
            self._at += 1
            if not is_action:
                emits.append(_literal(text))
                continue
            word = text.split(None, 1)[0] if text else ""
            if word in ends:
                return _sequence(emits), text
            if word in ("end", "else"):
                raise TemplateError(f"unexpected {{{{{text}}}}}")
            emits.append(self._action(word, text))
        if ends:
            raise TemplateError("a block is not closed with {{end}}")
        return _sequence(emits), ""

    def _action(self, word: str, text: str) -> _Emit:
        rest = text[len(word) :].strip()
        if word == "if":
            return self._conditional(rest, rebind=False)
        if word == "with":
            return self._conditional(rest, rebind=True)
        if word == "range":
            return self._range(rest)
        if word in ("define", "block"):
            return self._define(word, rest)
        if word == "template":
            return self._template(rest)
        if word in ("break", "continue"):
            raised = _Break if word == "break" else _Continue

            def leave(scope: _Scope, dot: Any, out: list[str]) -> None:
                raise raised

            return leave
        names, assign, pipeline = self._declaration(text)
        if names:
            return _set(names[0], assign, pipeline)

        def show(scope: _Scope, dot: Any, out: list[str]) -> None:
            out.append(go_text(pipeline(scope, dot)))

        return show

    def _conditional(self, head: str, *, rebind: bool) -> _Emit:
        names, assign, pipeline = self._declaration(head)
        yes, end = self._block(("else", "end"))
        no: _Emit = _nothing
        if end.startswith("else"):
            after = end[4:].strip()
            if after.startswith("if"):
                no = self._conditional(after[2:].strip(), rebind=False)
            elif after.startswith("with"):
                no = self._conditional(after[4:].strip(), rebind=True)
            else:
                no, _ = self._block(("end",))

        def run(scope: _Scope, dot: Any, out: list[str]) -> None:
            inner = _Scope(scope)
            value = pipeline(inner, dot)
            if names:
                (inner.assign if assign else inner.names.__setitem__)(names[0], value)
            if truth(value):
                yes(inner, value if rebind else dot, out)
            else:
                no(inner, dot, out)

        return run

    def _range(self, head: str) -> _Emit:
        names, assign, pipeline = self._declaration(head)
        body, end = self._block(("else", "end"))
        otherwise: _Emit = _nothing
        if end.startswith("else"):
            otherwise, _ = self._block(("end",))

        def run(scope: _Scope, dot: Any, out: list[str]) -> None:
            found = pipeline(scope, dot)
            pairs = _pairs(found)
            if not pairs:
                otherwise(_Scope(scope), dot, out)
                return
            for key, value in pairs:
                inner = _Scope(scope)
                put = inner.assign if assign else inner.names.__setitem__
                if len(names) == 1:
                    put(names[0], value)
                elif names:
                    put(names[0], key)
                    put(names[1], value)
                try:
                    body(inner, value, out)
                except _Continue:
                    continue
                except _Break:
                    break

        return run

    def _define(self, word: str, rest: str) -> _Emit:
        name, argument = _name(rest)
        body, _ = self._block(("end",))
        self._defined.setdefault(name, body)
        return self._template(rest) if word == "block" and argument else _nothing

    def _template(self, rest: str) -> _Emit:
        name, argument = _name(rest)
        pipeline: _Eval = self._declaration(argument)[2] if argument else lambda scope, dot: None
        defined = self._defined

        def run(scope: _Scope, dot: Any, out: list[str]) -> None:
            if name not in defined:
                raise TemplateError(f"template {name!r} is not defined")
            value = pipeline(scope, dot)
            fresh = _Scope(None)
            fresh.names["$"] = value
            defined[name](fresh, value, out)

        return run

    # pipelines

    def _declaration(self, text: str) -> tuple[list[str], bool, _Eval]:
        """``$a, $b := pipeline``: names, whether it assigns to existing ones, and the pipeline."""
        tokens = _tokens(text)
        names: list[str] = []
        assign = False
        operators = [i for i, (kind, token) in enumerate(tokens) if kind == "op" and token in (":=", "=")]
        if operators:
            at = operators[0]
            names = [token for kind, token in tokens[:at] if kind == "var"]
            if not names or len(names) > 2:
                raise TemplateError(f"can't read the assignment in {{{{{text}}}}}")
            assign = tokens[at][1] == "="
            tokens = tokens[at + 1 :]
        reader = _Reader(tokens, self._functions, text)
        pipeline = reader.pipeline()
        reader.finish()
        return names, assign, pipeline


class _Reader:
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

    def pipeline(self) -> _Eval:
        stage = self.command(None)
        while self.peek() == ("op", "|"):
            self.at += 1
            stage = self.command(stage)
        return stage

    def command(self, piped: _Eval | None) -> _Eval:
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

    def operands(self) -> list[_Eval]:
        found: list[_Eval] = []
        while self.at < len(self.tokens) and self.peek() not in (("op", "|"), ("op", ")"), ("op", ",")):
            found.append(self.operand())
        return found

    def operand(self) -> _Eval:
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

    def chain(self, base: _Eval) -> _Eval:
        names: list[str] = []
        while self.peek()[0] == "more":
            names.append(self.peek()[1][1:])
            self.at += 1
        if not names:
            return base

        def follow(scope: _Scope, dot: Any) -> Any:
            value = base(scope, dot)
            for name in names:
                if value is None:
                    return None
                if not isinstance(value, Mapping):
                    raise TemplateError(f"can't read field {name} of {type(value).__name__}")
                value = value.get(name)
            return value

        return follow


def _call(name: str, functions: Functions, arguments: list[_Eval], error: Callable[[str], TemplateError]) -> _Eval:
    if name in ("and", "or"):  # they stop early, so that they are no plain functions
        wanted = name == "or"

        def logic(scope: _Scope, dot: Any) -> Any:
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


def _name(rest: str) -> tuple[str, str]:
    match = re.match(r'"((?:[^"\\]|\\.)*)"\s*(.*)', rest, re.DOTALL)
    if match is None:
        raise TemplateError(f"a quoted name is expected before {rest!r}")
    return match[1], match[2]


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise TemplateError(f"can't read {text[at : at + 12]!r} in {{{{{text}}}}}")
        kind = match.lastgroup
        if kind == "field" and found and match.start(kind) == at and (found[-1][0] in _HOLDERS or found[-1][1] == ")"):
            kind = "more"  # a field of what stands before it, not another operand
        found.append((kind, match[match.lastgroup]))
        at = match.end()
    return found


def _split(text: str) -> list[tuple[bool, str]]:
    """Text and actions in turn, with the trimming that ``{{-`` and ``-}}`` ask for."""
    parts: list[tuple[bool, str]] = []
    at, trim = 0, False
    for match in _ACTION.finditer(text):
        before = text[at : match.start()]
        if trim:
            before = before.lstrip()
        if match[1]:
            before = before.rstrip()
        if before:
            parts.append((False, before))
        if not match[2].startswith("/*"):
            parts.append((True, match[2].strip()))
        at, trim = match.end(), bool(match[3])
    tail = text[at:]
    if "{{" in tail:
        raise TemplateError("an action is not closed with }}")
    parts.append((False, tail.lstrip() if trim else tail))
    return parts


def _literal(text: str) -> _Emit:
    return lambda scope, dot, out: out.append(text)


def _nothing(scope: _Scope, dot: Any, out: list[str]) -> None:
    return None


def _sequence(emits: list[_Emit]) -> _Emit:
    def run(scope: _Scope, dot: Any, out: list[str]) -> None:
        for emit in emits:
            emit(scope, dot, out)

    return run


def _set(name: str, assign: bool, pipeline: _Eval) -> _Emit:
    def run(scope: _Scope, dot: Any, out: list[str]) -> None:
        value = pipeline(scope, dot)
        if assign:
            scope.assign(name, value)
        else:
            scope.names[name] = value

    return run


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(i, i) for i in range(value)]
    raise TemplateError(f"can't range over {type(value).__name__}")
