"""The type check of an expression, with cel-go's rules and words (``checker/checker.go``)."""

from dataclasses import dataclass, field

from raycp.embedded.strategy.cel.literals import literal_errors
from raycp.embedded.strategy.cel.parser import CelNode, dotted, shown
from raycp.embedded.strategy.cel.signatures import SIGNATURES, TYPE_NAMES, Overload
from raycp.embedded.strategy.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    ERROR,
    INT,
    NULL,
    STRING,
    UINT,
    Bindings,
    Type,
    list_of,
    map_of,
    more_general,
    optional_of,
)

_LITERALS = {"bool": BOOL, "int": INT, "Uint": UINT, "float": DOUBLE, "str": STRING, "bytes": BYTES, "NoneType": NULL}
_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_OPEN = ("dyn", "error", "null")
ERRORS_SHOWN = 100
"""how many errors of one expression are told"""


@dataclass(frozen=True)
class Environment:
    """What an expression may use. ``objects``: the fields of object types by the types' names."""

    variables: dict[str, Type]
    objects: dict[str, dict[str, Type]] = field(default_factory=dict)
    functions: dict[str, list[Overload]] = field(default_factory=lambda: SIGNATURES)


@dataclass
class Checked:
    """A checked tree. Types and overloads by ``id`` of the node, which ``tree`` keeps alive."""

    tree: CelNode
    result: Type
    types: dict[int, Type]
    overloads: dict[int, list[Overload]]


class TypeErrors(Exception):
    """The expression does not fit the environment. The message lists all errors, each with its line."""


def check(tree: CelNode, text: str, environment: Environment) -> Checked:
    """Check the tree of ``text``. Raises ``TypeErrors``."""
    checker = _Checker(environment)
    result = checker.check(tree, environment.variables)
    resolve = checker.bindings.resolve
    types = {key: resolve(one, final=True) for key, one in checker.types.items()}
    found = checker.errors or literal_errors(tree, types)
    if found:
        # in the order of their places, as cel-go sorts them
        raise TypeErrors("\n".join(shown(text, at, message) for at, message in sorted(found)[:ERRORS_SHOWN]))
    return Checked(tree, resolve(result, final=True), types, checker.overloads)


Variables = dict[str, Type]


class _Checker:
    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.bindings = Bindings()
        self.types: dict[int, Type] = {}
        self.overloads: dict[int, list[Overload]] = {}
        self.errors: list[tuple[int, str]] = []

    def check(self, node: CelNode, known: Variables) -> Type:
        found = self._check(node, known)
        self.types[id(node)] = found
        return found

    def _check(self, node: CelNode, known: Variables) -> Type:
        kind = node[0]
        if kind == "lit":
            return _LITERALS[type(node[1]).__name__]
        if kind == "id":
            return self._identifier(node, known)
        if kind in ("sel", "has"):
            return self._select(node, known)
        if kind == "list":
            return self._list(node[1], known)
        if kind == "map":
            return self._map(node[1], known)
        if kind == "struct":
            return self._struct(node, known)
        if kind == "loop":
            return self._loop(node, known)
        if kind in ("and", "or"):
            for one in node[1:]:
                self._expect(one, BOOL, self.check(one, known))
            return BOOL
        return self._call(node, *call_of(node), known)

    def _identifier(self, node: CelNode, known: Variables) -> Type:
        name = node[1]
        if name in known:
            return known[name]
        if name in TYPE_NAMES:
            return Type("type", (TYPE_NAMES[name],))
        return self._error(node, f"undeclared reference to '{name}' (in container '')")

    def _select(self, node: CelNode, known: Variables) -> Type:
        name = node[2]
        spelled = dotted(node)
        if spelled in known:
            return known[spelled]
        if spelled in TYPE_NAMES:
            return Type("type", (TYPE_NAMES[spelled],))
        whole = self.bindings.resolve(self.check(node[1], known))
        wrapped = whole.name == "optional_type"
        of = whole.of[0] if wrapped else whole
        if of.name == "map":
            found = of.of[1]
        elif of.name in self.environment.objects:
            fields = self.environment.objects[of.name]
            found = fields[name] if name in fields else self._error(node, f"undefined field '{name}'")
        else:
            if of.name not in ("dyn", "error") and not of.parameter:
                self._error(node, f"type '{self._shown(of)}' does not support field selection")
            found = DYN
        if node[0] == "has":
            return BOOL
        return optional_of(found) if (wrapped or node[3]) and found != ERROR else found

    def _element(self, node: CelNode, known: Variables) -> Type:
        """The type of an element, or of the value in an optional one."""
        if node[0] != "maybe":
            return self.check(node, known)
        found = self.bindings.resolve(self.check(node[1], known))
        if found.name == "optional_type":
            return found.of[0]
        return DYN if found.name in ("dyn", "error") else self._mismatch(node, optional_of(found), found)

    def _join(self, before: Type | None, given: Type) -> Type:
        if before is None:
            return given
        if self.bindings.unify([before], [given]):
            return more_general(self.bindings.resolve(before), self.bindings.resolve(given))
        return DYN

    def _list(self, items: list[CelNode], known: Variables) -> Type:
        joined: Type | None = None
        for one in items:
            joined = self._join(joined, self._element(one, known))
        return list_of(joined if joined is not None else self.bindings.fresh())

    def _map(self, pairs: list[tuple[CelNode, CelNode]], known: Variables) -> Type:
        keys: Type | None = None
        values: Type | None = None
        for key, value in pairs:
            keys = self._join(keys, self.check(key, known))
            values = self._join(values, self._element(value, known))
        return map_of(keys or self.bindings.fresh(), values or self.bindings.fresh())

    def _struct(self, node: CelNode, known: Variables) -> Type:
        fields = self.environment.objects.get(node[1])
        for name, value in node[2]:
            given = self._element(value, known)
            if fields is None:
                continue
            if name not in fields:
                self._error(value, f"undefined field '{name}'")
            elif not self.bindings.unify([fields[name]], [given]):
                wanted = self._shown(fields[name])
                self._error(value, f"expected type of field '{name}' is '{wanted}' but provided type is '{self._shown(given)}'")
        if fields is None:
            return self._error(node, f"undeclared reference to '{node[1]}' (in container '')")
        return Type(node[1])

    def _loop(self, node: CelNode, known: Variables) -> Type:
        _, macro, over, names, bodies = node
        whole = self.bindings.resolve(self.check(over, known))
        if macro in ("optMap", "optFlatMap"):
            return self._optional_loop(node, whole, known)
        if whole.name == "list":
            one, two = whole.of[0], [INT, whole.of[0]]
        elif whole.name == "map":
            one, two = whole.of[0], list(whole.of)
        else:
            if whole.name not in ("dyn", "error") and not whole.parameter:
                shape = "(must be list, map, or dynamic)"
                self._error(over, f"expression of type '{self._shown(whole)}' cannot be range of a comprehension {shape}")
            self.bindings.unify([DYN], [whole])
            one, two = DYN, [DYN, DYN]
        inner = {**known, **dict(zip(names, two if len(names) == 2 else [one], strict=True))}
        found = [self.check(body, inner) for body in bodies]
        for body, given in zip(bodies[:-1], found[:-1], strict=True):
            self._expect(body, BOOL, given)
        if macro in ("map", "transformList"):
            return list_of(found[-1])
        if macro == "transformMap":
            return map_of(whole.of[0] if whole.name == "map" else INT if whole.name == "list" else DYN, found[-1])
        if macro == "transformMapEntry":
            made = self.bindings.resolve(found[-1])
            return made if made.name in ("map", "dyn", "error") else self._mismatch(bodies[-1], map_of(DYN, DYN), made)
        if macro == "sortBy":
            key = self.bindings.resolve(found[-1])
            if key.name not in (*_COMPARABLE, "dyn", "error") and not key.parameter:
                shown = f"{self._shown(whole)}.(list({self._shown(key)}))"
                return self._error(node, f"found no matching overload for '@sortByAssociatedKeys' applied to '{shown}'")
            return whole if whole.name == "list" else list_of(DYN)
        self._expect(bodies[-1], BOOL, found[-1])
        return list_of(one) if macro == "filter" else BOOL

    def _optional_loop(self, node: CelNode, whole: Type, known: Variables) -> Type:
        _, macro, over, names, bodies = node
        if whole.name == "optional_type":
            inner = whole.of[0]
        else:
            inner = DYN
            if whole.name not in ("dyn", "error"):
                shown = self._shown(whole)
                self._error(over, f"found no matching overload for 'hasValue' applied to '{shown}.()'")
        found = self.check(bodies[0], {**known, names[0]: inner})
        return found if macro == "optFlatMap" else optional_of(found)

    def _call(self, node: CelNode, name: str, arguments: list[CelNode], member: bool, known: Variables) -> Type:
        given = [self.bindings.resolve(self.check(one, known)) for one in arguments]
        declared = self.environment.functions.get(name)
        if declared is None:
            return self._error(node, f"undeclared reference to '{name}' (in container '')")
        result: Type | None = None
        for overload in declared:
            if overload.member is not member or not _possible(overload, given):
                continue
            names: dict[str, Type] = {}
            wanted = [self._instance(one, names) for one in overload.arguments] if overload.generic else list(overload.arguments)
            if self.bindings.unify(wanted, given):
                self.overloads.setdefault(id(node), []).append(overload)
                made = self.bindings.resolve(self._instance(overload.result, names)) if overload.generic else overload.result
                result = made if result is None or result == made else DYN
        if result is None:
            shown = [self._shown(one) for one in given]
            text = f"{shown[0]}.({', '.join(shown[1:])})" if member else f"({', '.join(shown)})"
            return self._error(node, f"found no matching overload for '{name}' applied to '{text}'")
        return result

    def _instance(self, one: Type, names: dict[str, Type]) -> Type:
        """A declared type with parameters of this call."""
        if one.parameter:
            return names.setdefault(one.name, self.bindings.fresh())
        return Type(one.name, tuple(self._instance(inner, names) for inner in one.of)) if one.of else one

    def _expect(self, node: CelNode, wanted: Type, given: Type) -> None:
        if not self.bindings.unify([wanted], [given]):
            self._mismatch(node, wanted, given)

    def _mismatch(self, node: CelNode, wanted: Type, given: Type) -> Type:
        return self._error(node, f"expected type '{self._shown(wanted)}' but found '{self._shown(given)}'")

    def _shown(self, one: Type) -> str:
        return str(self.bindings.resolve(one, final=True))

    def _error(self, node: CelNode, message: str) -> Type:
        self.errors.append((node.at, message))
        return ERROR


def _possible(overload: Overload, given: list[Type]) -> bool:
    """Whether the overload may fit, by the names of the types alone."""
    if len(overload.arguments) != len(given):
        return False
    for wanted, one in zip(overload.arguments, given, strict=True):
        open_ = wanted.name == "dyn" or one.name in _OPEN or wanted.parameter or one.parameter
        if wanted.name != one.name and not open_:
            return False
    return True


def call_of(node: CelNode) -> tuple[str, list[CelNode], bool]:
    """The function that a node calls: its name, its arguments with the receiver, and whether it has one."""
    kind = node[0]
    if kind == "call":
        return node[1], node[2], False
    if kind == "method":
        return node[2], [node[1], *node[3]], True
    if kind == "bin":
        return "@in" if node[1] == "in" else f"_{node[1]}_", [node[2], node[3]], False
    if kind == "index":
        return "_[?_]" if node[3] else "_[_]", [node[1], node[2]], False
    return {"not": "!_", "neg": "-_", "cond": "_?_:_"}[kind], list(node[1:]), False



