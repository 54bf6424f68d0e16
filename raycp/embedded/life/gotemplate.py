"""The part of Go's text/template that stage files use, compiled to closures.

Supported: actions with pipelines, variables (``:=`` and ``=``), ``if``/``else if``/``else``, ``range`` (with index and
value, ``else``, ``break``, ``continue``), ``with``, ``define``/``template``/``block``, comments, ``{{-``/``-}}``,
parentheses, field chains on values and results, and the built-in functions; the caller adds more functions.
Semantics follow https://pkg.go.dev/text/template for JSON-like data: a missing key is nil
and prints as ``<no value>``; ``and``/``or`` return an operand.

Raises ``TemplateError``: at compile time for a syntax error, at run time for an action that fails.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from raycp.embedded.life.gobuiltins import BUILTINS, TemplateError, go_text, truth
from raycp.embedded.life.gopipeline import Eval, Functions, PipelineReader, Scope, pipeline_tokens

__all__ = ["Functions", "Template", "TemplateError", "go_text", "truth"]
_Emit = Callable[["Scope", Any, list[str]], None]

_ACTION = re.compile(
    r"\{\{(-\s)?\s*(/\*.*?\*/|(?:\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`|'(?:[^'\\\n]|\\.)*'|[^}\"`']|\}(?!\}))*?)\s*(\s-)?\}\}",
    re.DOTALL,
)


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


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
        """The text for ``data``. Raises ``TemplateError`` if an action fails."""
        out: list[str] = []
        scope = Scope(None)
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
        """Compile the actions up to one whose keyword is in ``ends``. Returns them and that action's text."""
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

            def leave(scope: Scope, dot: Any, out: list[str]) -> None:
                raise raised

            return leave
        names, assign, pipeline = self._declaration(text)
        if names:
            return _set(names[0], assign, pipeline)

        def show(scope: Scope, dot: Any, out: list[str]) -> None:
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

        def run(scope: Scope, dot: Any, out: list[str]) -> None:
            inner = Scope(scope)
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

        def run(scope: Scope, dot: Any, out: list[str]) -> None:
            found = pipeline(scope, dot)
            pairs = _pairs(found)
            if not pairs:
                otherwise(Scope(scope), dot, out)
                return
            for key, value in pairs:
                inner = Scope(scope)
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
        pipeline: Eval = self._declaration(argument)[2] if argument else lambda scope, dot: None
        defined = self._defined

        def run(scope: Scope, dot: Any, out: list[str]) -> None:
            if name not in defined:
                raise TemplateError(f"template {name!r} is not defined")
            value = pipeline(scope, dot)
            fresh = Scope(None)
            fresh.names["$"] = value
            defined[name](fresh, value, out)

        return run

    # pipelines

    def _declaration(self, text: str) -> tuple[list[str], bool, Eval]:
        """Parse ``$a, $b := pipeline``: names, whether it assigns existing variables, and the pipeline."""
        tokens = pipeline_tokens(text)
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
        reader = PipelineReader(tokens, self._functions, text)
        pipeline = reader.pipeline()
        reader.finish()
        return names, assign, pipeline


def _name(rest: str) -> tuple[str, str]:
    match = re.match(r'"((?:[^"\\]|\\.)*)"\s*(.*)', rest, re.DOTALL)
    if match is None:
        raise TemplateError(f"a quoted name is expected before {rest!r}")
    return match[1], match[2]


def _split(text: str) -> list[tuple[bool, str]]:
    """Text and actions in order, trimmed at ``{{-`` and ``-}}``."""
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


def _nothing(scope: Scope, dot: Any, out: list[str]) -> None:
    return None


def _sequence(emits: list[_Emit]) -> _Emit:
    def run(scope: Scope, dot: Any, out: list[str]) -> None:
        for emit in emits:
            emit(scope, dot, out)

    return run


def _set(name: str, assign: bool, pipeline: Eval) -> _Emit:
    def run(scope: Scope, dot: Any, out: list[str]) -> None:
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
