"""Compile a CEL tree to a closure over variables. Unknown names and functions are refused at compile time.

Costs are spent at the scope's meter: those of an expression's nodes at once when it begins, those of a loop's body with each
iteration, and what depends on sizes where it arises.

An evaluation that fails raises ``CelError``; ``&&`` and ``||`` absorb the error of one operand where the other decides.
"""

from collections.abc import Callable
from typing import Any

from raycp.embedded.strategy.cel.functions import FUNCTIONS, METHODS, PRICES
from raycp.embedded.strategy.cel.operators import BINARY, CelError, Duration, Optional, Uint, has_key, no_overload, subtract, truth
from raycp.embedded.strategy.cel.parser import CelNode, dotted
from raycp.embedded.strategy.cel.patches import TypedObject
from raycp.embedded.strategy.cel.sequences import sort_by
from raycp.embedded.strategy.cel.signatures import TYPE_NAMES

Scope = dict[str, Any]
Program = Callable[[Scope], Any]
METER = ""
"""the key of a scope's meter; no variable has this name"""


class CelRefused(Exception):
    """The expression uses a name or function that does not exist, or that this interpreter does not support."""


def compile_node(node: CelNode, known: frozenset[str]) -> Program:
    """Compile a tree that may use the variables ``known``. Raises ``CelRefused``."""
    kind = node[0]
    if kind == "lit":
        value = node[1]
        return lambda scope: value
    if kind == "id":
        name = node[1]
        if name in TYPE_NAMES and name not in known:
            return lambda scope: name
        if name not in known:
            raise CelRefused(f"undeclared reference to '{name}' (in container '')")
        return lambda scope: scope[name]
    if kind in ("and", "or"):
        return _logic(compile_node(node[1], known), compile_node(node[2], known), kind == "or")
    if kind == "not":
        inner = compile_node(node[1], known)
        return lambda scope: not truth(inner(scope))
    if kind == "neg":
        inner = compile_node(node[1], known)
        return lambda scope: _negative(inner(scope))
    if kind == "cond":
        test, yes, no = (compile_node(one, known) for one in node[1:])
        return lambda scope: yes(scope) if truth(test(scope)) else no(scope)
    if kind == "bin":
        operate = BINARY[node[1]]
        left, right = compile_node(node[2], known), compile_node(node[3], known)
        return lambda scope: operate(left(scope), right(scope), scope[METER])
    if kind in ("sel", "has", "index"):
        return _access(node, known)
    if kind == "list":
        return _list(node[1], known)
    if kind in ("map", "struct"):
        return _map(node, known)
    if kind == "loop":
        return _loop(node, known)
    return _call(node, known)


def _element(node: CelNode, known: frozenset[str]) -> tuple[Program, bool]:
    """An element's program, and whether its value is an optional one that may be left out."""
    return (compile_node(node[1], known), True) if node[0] == "maybe" else (compile_node(node, known), False)


def _list(nodes: list[CelNode], known: frozenset[str]) -> Program:
    items = [_element(one, known) for one in nodes]
    if not any(maybe for _, maybe in items):
        plain = [one for one, _ in items]
        return lambda scope: [one(scope) for one in plain]

    def run(scope: Scope) -> list[Any]:
        made = ((one(scope), maybe) for one, maybe in items)
        return [value.value if maybe else value for value, maybe in made if not maybe or _given(value)]

    return run


def _map(node: CelNode, known: frozenset[str]) -> Program:
    """A map, or an object of a named type, which is a map as well."""
    named = node[0] == "struct"
    pairs = [
        (None if named else compile_node(key, known), key, *_element(value, known)) for key, value in node[2 if named else 1]
    ]

    def run(scope: Scope) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        if named:
            made = TypedObject()
            made.type_name = node[1]
        for key, name, value, maybe in pairs:
            found = value(scope)
            if maybe:
                if not _given(found):
                    continue
                found = found.value
            made[name if key is None else key(scope)] = found
        return made

    return run


def _given(value: Any) -> bool:
    if not isinstance(value, Optional):
        raise no_overload(value)
    return value.there


def _negative(value: Any) -> Any:
    if type(value) not in (int, float, Duration):
        raise no_overload(value)
    return subtract(type(value)(0), value)


def _logic(left: Program, right: Program, decides: bool) -> Program:
    def run(scope: Scope) -> bool:
        try:
            first = truth(left(scope))
        except CelError:
            if truth(right(scope)) is decides:
                return decides
            raise
        return decides if first is decides else truth(right(scope))

    return run


def _access(node: CelNode, known: frozenset[str]) -> Program:
    spelled = dotted(node)
    if spelled in known:
        return lambda scope: scope[spelled]
    if spelled in TYPE_NAMES:
        return lambda scope: spelled
    of = compile_node(node[1], known)
    if node[0] == "has":
        name = node[2]

        def has(scope: Scope) -> bool:
            value = of(scope)
            if isinstance(value, Optional):
                value = value.value if value.there else {}
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
                return Optional(True, inner[name]) if isinstance(inner, dict) and name in inner else Optional(False)
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
        optional = maybe
        if isinstance(value, Optional):
            if not value.there:
                return value
            value, optional = value.value, True
        if isinstance(value, list):
            if type(at) in (Uint, float) and at == int(at):
                at = int(at)
            there = type(at) is int and 0 <= at < len(value)
        else:
            there = isinstance(value, dict) and has_key(value, at)
        if optional:
            return Optional(True, value[at]) if there else Optional(False)
        if not there:
            raise CelError(f"no such key: {at}" if isinstance(value, dict) else f"index out of bounds: {at}")
        return value[at]

    return index


def _loop(node: CelNode, known: frozenset[str]) -> Program:
    _, macro, over, variables, bodies = node
    source = compile_node(over, known)
    if macro in ("optMap", "optFlatMap"):
        return _optional_loop(macro, source, variables[0], compile_node(bodies[0], known | {variables[0]}))
    inner = [compile_node(body, known | frozenset(variables)) for body in bodies]
    body = inner[-1]
    condition = inner[0] if len(inner) == 2 else None
    each = 3 + sum(map(cost, bodies))

    def scopes(scope: Scope) -> Any:
        value = source(scope)
        if not isinstance(value, (list, dict)):
            raise no_overload(value)
        spend = scope[METER].spend
        if len(variables) == 1:
            for one in value:
                spend(each)
                yield one, {**scope, variables[0]: one}
        else:
            for key, one in value.items() if isinstance(value, dict) else enumerate(value):
                spend(each)
                yield key, {**scope, variables[0]: key, variables[1]: one}

    def run(scope: Scope) -> Any:
        if macro in ("map", "transformList"):
            return [body(s) for _, s in scopes(scope) if condition is None or truth(condition(s))]
        if macro == "sortBy":
            items = source(scope)
            return sort_by(scope[METER], list(items), [body(s) for _, s in scopes(scope)])
        if macro in ("transformMap", "transformMapEntry"):
            made: dict[Any, Any] = {}
            for key, s in scopes(scope):
                if condition is None or truth(condition(s)):
                    _insert(made, {key: body(s)} if macro == "transformMap" else body(s))
            return made
        if macro == "filter":
            return [one for one, s in scopes(scope) if truth(body(s))]
        if macro in ("exists_one", "existsOne"):
            return sum(1 for _, s in scopes(scope) if truth(body(s))) == 1
        decides = macro == "exists"
        failed: CelError | None = None
        for _, s in scopes(scope):
            try:
                if truth(body(s)) is decides:
                    return decides
            except CelError as error:
                failed = error
        if failed is not None:
            raise failed
        return not decides

    return run


def _insert(made: dict[Any, Any], entries: Any) -> None:
    if not isinstance(entries, dict):
        raise no_overload(entries)
    for key, value in entries.items():
        if key in made:
            raise CelError(f"insert failed: key {key} already exists")
        made[key] = value


def _optional_loop(macro: str, source: Program, name: str, body: Program) -> Program:
    def run(scope: Scope) -> Any:
        value = source(scope)
        if not _given(value):
            return value
        made = body({**scope, name: value.value})
        return made if macro == "optFlatMap" else Optional(True, made)

    return run


def _call(node: CelNode, known: frozenset[str]) -> Program:
    if node[0] == "call":
        name, arguments = node[1], node[2]
        found = FUNCTIONS.get(name)
        extra: list[CelNode] = []
    else:
        name, arguments, extra = node[2], node[3], [node[1]]
        found = METHODS.get(name)
    if found is None or len(arguments) not in found[0]:
        raise CelRefused(f"undeclared reference to '{name}' (in container '')")
    function = found[1]
    inner = [compile_node(one, known) for one in [*extra, *arguments]]
    price = PRICES.get(name)

    def run(scope: Scope) -> Any:
        meter = scope[METER]
        try:
            given = [one(scope) for one in inner]
            if price is not None:
                meter.spend(price(*given))
            return function(meter, *given)
        except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
            raise CelError(f"no such overload: {name}: {error}") from None

    return run


_PRICES = {"list": 10, "map": 30, "struct": 40}


def cost(node: Any) -> float:
    """The units of a tree's nodes, each evaluated once, without the bodies of its loops (cel-go's ``runtimecost.go``)."""
    if isinstance(node, list):
        return sum(map(cost, node))
    if not isinstance(node, tuple) or not node or node[0] == "lit":
        return 0
    if node[0] == "struct":
        return _PRICES["struct"] + sum(cost(value) for _, value in node[2])
    if node[0] == "loop":
        return 1 + cost(node[2])
    if not isinstance(node[0], str):  # the pairs of a map
        return sum(map(cost, node))
    return _PRICES.get(node[0], 1) + sum(map(cost, node[1:]))


def uses(node: Any, name: str) -> bool:
    """Whether the tree mentions the variable ``name``."""
    if isinstance(node, tuple):
        return tuple(node) == ("id", name) or any(uses(one, name) for one in node)
    return isinstance(node, list) and any(uses(one, name) for one in node)
