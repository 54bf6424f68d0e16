"""What a call is estimated to cost, and how large its result may be, by the sizes of its arguments.

As ``EstimateCallCost`` of ``apiserver/pkg/cel/library/cost.go``, and cel-go's ``checker/cost.go``, ``ext/lists.go`` and
``ext/sets.go``.
The costs of the arguments themselves are not included.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from raycp.embedded.strategy.cel.sizes import PATTERN, TRAVERSAL, UNLIMITED, Range, fixed
from raycp.embedded.strategy.cel.types import Type


class Argument(NamedTuple):
    """An argument as the estimate sees it. ``item``: the size of a list's elements; ``literal``: its value, if it is one."""

    type: Type
    size: Range
    item: Range
    literal: object = None


class CallCost(NamedTuple):
    """The cost of a call, and the size of its result where that is known."""

    cost: Range
    size: Range | None = None


Estimate = Callable[[list[Argument]], CallCost]


def _read(of: int, factor: float = TRAVERSAL, result: bool = False) -> Estimate:
    return lambda given: CallCost(given[of].size.scaled(factor), given[of].size if result else None)


def _each(given: list[Argument]) -> CallCost:
    """One unit for each element, and the traversal of those that are strings."""
    target = given[0]
    if target.type.name != "list":
        return CallCost(target.size.scaled(TRAVERSAL))
    each = fixed(1)
    if target.type.of[0].name in ("string", "bytes"):
        each = each.plus(target.item.scaled(TRAVERSAL))
    return CallCost(target.size.times(each))


def _search(given: list[Argument]) -> CallCost:
    """A regular expression (https://swtch.com/~rsc/regexp/regexp1.html)."""
    return CallCost(given[0].size.plus(fixed(1)).scaled(TRAVERSAL).times(given[1].size.scaled(PATTERN)))


def _find(given: list[Argument]) -> CallCost:
    return _search(given)._replace(size=Range(0, given[0].size.high))


def _contains(given: list[Argument]) -> CallCost:
    return CallCost(given[0].size.scaled(TRAVERSAL).times(given[1].size.scaled(TRAVERSAL)))


def _replace(given: list[Argument]) -> CallCost:
    text, old, new = given[0].size, given[1].size, given[2].size
    most = least = kept_most = kept_least = 0
    if old.low == 0:
        most, kept_most = min(text.high + 1, UNLIMITED), text.high
    elif new.high <= old.low:
        kept_most = text.high
    else:
        most = math.ceil(text.high / old.low)
    if old.high == 0:
        least, kept_least = min(text.low + 1, UNLIMITED), text.low
    elif old.high <= new.low:
        kept_least = text.low
    else:
        least = math.ceil(text.low / old.high)
    return CallCost(text.scaled(2 * TRAVERSAL), Range(least, most).times(new).plus(Range(kept_least, kept_most)))


def _split(given: list[Argument]) -> CallCost:
    limit = given[2].literal if len(given) > 2 else None
    most = limit % 2**64 if isinstance(limit, int) else given[0].size.high
    return CallCost(given[0].size.scaled(2 * TRAVERSAL), Range(0, most))


def _join(given: list[Argument]) -> CallCost:
    items = given[0].size
    size = items.times(given[0].item)
    if len(given) > 1:
        size = size.plus(given[1].size.times(Range(max(0, items.low - 1), max(0, items.high - 1))))
    return CallCost(size.scaled(TRAVERSAL), size)


def _within(given: list[Argument]) -> CallCost:
    """An address or a range in a range of 4 to 16 bytes; one that is text is parsed first."""
    size = Range(4, 16)
    cost = size.plus(size).scaled(TRAVERSAL)
    return CallCost(cost.plus(given[1].size.scaled(TRAVERSAL)) if given[1].type.name == "string" else cost)


def _contains_range(given: list[Argument]) -> CallCost:
    return CallCost(_within(given).cost.plus(Range(4, 16).scaled(TRAVERSAL)).plus(fixed(1)))


def _validate(given: list[Argument]) -> CallCost:
    return CallCost(given[1].size.scaled(TRAVERSAL).scaled(128 * PATTERN))


def _sum_of(given: list[Argument]) -> CallCost:
    size = given[0].size.plus(given[1].size)
    return CallCost(fixed(1) if given[0].type.name == "list" else size.scaled(TRAVERSAL), size)


def _compare(given: list[Argument]) -> CallCost:
    most = min(given[0].size.high, given[1].size.high)
    return CallCost(Range(1 if most else 0, most).scaled(TRAVERSAL))


def _equal(given: list[Argument]) -> CallCost:
    if given[0].type == given[1].type and ("." in given[0].type.name and not given[0].type.name.startswith("selfType")):
        return CallCost(fixed(1))
    return _compare(given)


def _member_of(given: list[Argument]) -> CallCost:
    return CallCost(given[1].size if given[1].type.name != "map" else fixed(1))


def _sets(given: list[Argument]) -> CallCost:
    """Each element of one is compared with each of the other (cel-go's ``ext/sets.go``)."""
    return CallCost(given[0].size.times(given[1].size).plus(fixed(1)))


def _sets_twice(given: list[Argument]) -> CallCost:
    return CallCost(given[0].size.times(given[1].size).scaled(2).plus(fixed(1)))


def _allocate(size: Range) -> CallCost:
    return CallCost(size.plus(fixed(10)).plus(fixed(1)), size)


def _slice(given: list[Argument]) -> CallCost:
    start, end = (one.literal if isinstance(one.literal, int) else None for one in given[1:3])
    most = given[0].size.high if end is None else end
    return _allocate(fixed(max(0, most - (start or 0))))


def _flatten(given: list[Argument]) -> CallCost:
    depth = given[1].literal if len(given) > 1 else 1
    times = fixed(depth) if isinstance(depth, int) and depth >= 0 else fixed(UNLIMITED)
    return CallCost(given[0].size.times(times).plus(fixed(11)), given[0].size)


def _squared(given: list[Argument]) -> CallCost:
    """Each element is compared with each; ``sortBy`` compares keys, which are the last argument."""
    keys = given[-1]
    factor = 2 + (TRAVERSAL if keys.type.name == "list" and keys.type.of[0].name in ("string", "bytes") else 0)
    size = keys.size.times(keys.size)
    return CallCost(size.scaled(factor).plus(fixed(11)), size)


def _range(given: list[Argument]) -> CallCost:
    limit = given[0].literal
    return _allocate(fixed(max(0, limit)) if isinstance(limit, int) else Range(0, UNLIMITED))


def _selector(given: list[Argument]) -> CallCost:
    size = given[1].size
    return CallCost(fixed(10).plus(size.scaled(TRAVERSAL)).plus(size.scaled(0.5).scaled(50.0)))


def _nominal(given: list[Argument]) -> CallCost:
    return CallCost(fixed(1))


_AUTHORIZATION = CallCost(fixed(350_000))
ESTIMATES: dict[str, Estimate] = {
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _each),
    **dict.fromkeys(("url", "jsonpatch.escapeKey"), _read(0, result=True)),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _read(0, result=True)),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _read(0)),
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _compare),
    "ip.isCanonical": _read(0, 2 * TRAVERSAL),
    "replace": _replace,
    "split": _split,
    "join": _join,
    "find": _find,
    "findAll": _find,
    "matches": _search,
    "contains": _contains,
    "startsWith": _read(1),
    "endsWith": _read(1),
    "format": _read(0),
    "strings.quote": lambda given: CallCost(
        given[0].size.scaled(TRAVERSAL), given[0].size.scaled(2).plus(fixed(2))._replace(low=given[0].size.low + 2)
    ),
    "containsIP": _within,
    "containsCIDR": _contains_range,
    "validate": _validate,
    "@in": _member_of,
    "_==_": _equal,
    "_!=_": _equal,
    "sets.contains": _sets,
    "sets.intersects": _sets,
    "sets.equivalent": _sets_twice,
    "slice": _slice,
    "reverse": lambda given: _allocate(given[0].size),
    "flatten": _flatten,
    "distinct": _squared,
    "sort": _squared,
    "@sortByAssociatedKeys": _squared,
    "lists.range": _range,
    "fieldSelector": _selector,
    "labelSelector": _selector,
}


def call_cost(name: str, given: list[Argument]) -> CallCost:
    """The estimate for a call of ``name`` with a receiver, if it has one, before its arguments."""
    if name == "check":
        return _AUTHORIZATION
    if name == "_+_" and given[0].type.name in ("string", "bytes", "list"):
        return _sum_of(given)
    if name in ("_<_", "_<=_", "_>_", "_>=_") and given[0].type.name not in ("string", "bytes"):
        return CallCost(fixed(1))
    if name == "ip" and given[0].type.name != "string":
        return CallCost(fixed(1))
    if name == "ip" or (name in ("string", "bytes") and given[0].type.name in ("string", "bytes")):
        text = given[0].size
        wider = Range(text.low, min(text.high * 4, UNLIMITED))
        sized = None if name == "ip" else Range(text.low // 4, text.high) if name == "string" else wider
        return CallCost(text.scaled(TRAVERSAL), sized)
    return ESTIMATES.get(name, _nominal)(given)
