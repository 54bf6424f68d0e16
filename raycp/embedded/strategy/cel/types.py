"""CEL's types, when one may stand for another, and how cel-go writes them (``checker/types.go``, ``checker/format.go``)."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Type(NamedTuple):
    """A type and its parameters. A name of one capital, or one that begins with ``_``, is a type parameter."""

    name: str
    of: tuple["Type", ...] = ()

    def __str__(self) -> str:
        if self.parameter or self.name == "error":
            return "dyn" if self.parameter else "!error!"
        return f"{self.name}({', '.join(map(str, self.of))})" if self.of else self.name

    @property
    def parameter(self) -> bool:
        return self.name[0] == "_" or len(self.name) == 1


BOOL, INT, UINT, DOUBLE, STRING, BYTES = (Type(name) for name in ("bool", "int", "uint", "double", "string", "bytes"))
NULL, DYN, ERROR, TIMESTAMP, DURATION = (Type(name) for name in ("null", "dyn", "error", "timestamp", "duration"))
PRIMITIVES = {"bool", "int", "uint", "double", "string", "bytes"}
SCALARS = {"bool", "int", "uint", "double", "duration", "timestamp"}
"""the types whose values are all of size 1"""
_ANY = ("dyn", "error")


def list_of(item: Type) -> Type:
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    return Type("optional_type", (value,))


@dataclass
class Bindings:
    """What the type parameters of one expression stand for."""

    bound: dict[str, Type] = field(default_factory=dict)
    count: int = 0

    def fresh(self) -> Type:
        """A type parameter of its own."""
        self.count += 1
        return Type(f"_{self.count}")

    def resolve(self, one: Type, final: bool = False) -> Type:
        """``one`` with its parameters replaced by what they stand for, and where ``final``, the free ones by ``dyn``."""
        if not one.of and not one.parameter:
            return one
        if one.parameter:
            found = self.bound.get(one.name)
            if found is None:
                return DYN if final else one
            return self.resolve(found, final)
        return Type(one.name, tuple(self.resolve(inner, final) for inner in one.of))

    def unify(self, wanted: list[Type], given: list[Type]) -> bool:
        """Whether values of the types ``given`` may stand where ``wanted`` are. Binds parameters only if so."""
        if len(wanted) != len(given):
            return False
        made: list[str] = []
        if all(self._fits(one, other, made) for one, other in zip(wanted, given, strict=True)):
            return True
        for name in made:
            del self.bound[name]
        return False

    def _fits(self, wanted: Type, given: Type, made: list[str]) -> bool:
        wanted, given = self.resolve(wanted), self.resolve(given)
        if wanted == given or wanted.name in _ANY or given.name in _ANY:
            return True
        for one, other in ((wanted, given), (given, wanted)):
            if one.parameter:
                if _occurs(one, other):
                    return False
                self.bound[one.name] = other
                made.append(one.name)
                return True
        if NULL in (wanted, given):
            other = given if wanted == NULL else wanted
            return other.name not in PRIMITIVES and other.name not in ("list", "map", "type")
        if wanted.name != given.name or len(wanted.of) != len(given.of):
            return False
        return all(self._fits(one, other, made) for one, other in zip(wanted.of, given.of, strict=True))


def _occurs(parameter: Type, within: Type) -> bool:
    return any(one == parameter or _occurs(parameter, one) for one in within.of)


def more_general(one: Type, other: Type) -> Type:
    """The one of two types that fit each other which says less."""
    if one.name in _ANY or one.parameter:
        return one
    if other.name in _ANY or other.parameter or len(one.of) != len(other.of):
        return other if other.name in _ANY or other.parameter else one
    return Type(one.name, tuple(more_general(a, b) for a, b in zip(one.of, other.of, strict=True)))
