"""Sets of field paths in the form of ``FieldsV1``, and their set algebra.

``{"f:data": {".": {}, "f:a": {}}}`` holds the paths ``.data`` and ``.data.a``. A node without entries is a member; a
node with entries is one if it has ``"."``. The empty set is a root without entries. Sets are shared: never change one.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from raycp.base.text_cache import cached_by_text

Fields = dict[str, Any]
MEMBER: Fields = {}
"""a path of the set without paths below it"""


def _member(node: Fields) -> bool:
    return not node or "." in node


def union(a: Fields, b: Fields) -> Fields:
    """Union."""
    if not a or a is b:
        return b
    if not b:
        return a
    made = dict(a)
    for key, below in b.items():
        mine = made.get(key)
        if mine is None:
            made[key] = below
        elif key != ".":
            made[key] = _union_node(mine, below)
    return made


def _union_node(a: Fields, b: Fields) -> Fields:
    if a is b or a == b:
        return a
    if not a:
        return b if "." in b else {".": {}, **b}
    if not b:
        return a if "." in a else {".": {}, **a}
    return union(a, b)


def _node(member: bool, below: Fields) -> Fields | None:
    if member:
        return {".": {}, **below} if below else MEMBER
    return below or None


def difference(a: Fields, b: Fields) -> Fields:
    """Paths of ``a`` that are not in ``b``."""
    return _without(a, b, below=False)


def recursive_difference(a: Fields, b: Fields) -> Fields:
    """Paths of ``a`` that are neither in ``b`` nor below a path of ``b``."""
    return _without(a, b, below=True)


def _without(a: Fields, b: Fields, below: bool) -> Fields:
    """Paths of ``a`` that are not in ``b``; ``below``: nor below a path of ``b``."""
    if not a or not b or a.keys().isdisjoint(b):
        return a
    made: Fields = {}
    for key, mine in a.items():
        other = b.get(key)
        if other is None:
            made[key] = mine
        elif key != "." and not (below and _member(other)):
            node = _node(_member(mine) and not _member(other), _below(_without(mine, other, below)))
            if node is not None:
                made[key] = node
    return made


def intersection(a: Fields, b: Fields) -> Fields:
    """Intersection."""
    made: Fields = {}
    for key, mine in a.items():
        other = b.get(key)
        if other is None or key == ".":
            continue
        node = _node(_member(mine) and _member(other), _below(intersection(mine, other)))
        if node is not None:
            made[key] = node
    return made


def _below(node: Fields) -> Fields:
    if "." in node:
        return {key: one for key, one in node.items() if key != "."}
    return node


_sorted = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode
_NUMERIC = re.compile(rb'"k:\{[^}]*:\d')


def ordered(fields: Fields) -> Fields:
    """The set in the order of structured-merge-diff, which clients compare as text: names, then keys by value, then values."""
    return _from_sorted(_sorted(fields))  # sorting here would take longer


@cached_by_text(256, 64 << 10)
def _from_sorted(raw: bytes) -> Fields:
    """Objects that one controller makes have the same fields."""
    made: Fields = _decode(raw)
    return _by_number(made) if len(_NUMERIC.findall(raw)) > 1 else made


def _by_number(fields: Fields) -> Fields:
    """Keys sorted as text, by the numbers in them."""
    return {key: _by_number(below) for key, below in sorted(fields.items(), key=_place)}


def _place(entry: tuple[str, Fields]) -> tuple[str, list[tuple[str, str, Any]]]:
    key = entry[0]
    if not key.startswith("k:"):
        return key[:2] if key.startswith("v:") else key, []
    return "k:", [(name, type(value).__name__, value) for name, value in sorted(json.loads(key[2:]).items())]


def with_parents(fields: Fields) -> Fields:
    """``EnsureNamedFieldsAreMembers``: fields on the way to a path become members too (list items do not)."""
    made: Fields = {}
    for key, below in fields.items():
        if key == ".":
            continue
        inner = with_parents(below)
        member = _member(below) or key.startswith("f:")
        node = _node(member, inner)
        if node is not None:
            made[key] = node
    return made


def paths(fields: Fields, path: str = "") -> Iterator[str]:
    """All paths, as messages print them: ``.spec.containers[name="c"].image``."""
    for key, below in fields.items():
        if key == ".":
            continue
        here = path + _element_text(key)
        if _member(below):
            yield here
        yield from paths(below, here)


def _element_text(key: str) -> str:
    kind, _, rest = key.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        keys = json.loads(rest)
        return "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(keys.items())) + "]"
    if kind == "v":
        return f"[={rest}]"
    return f"[{rest}]"
