"""What an expression may cost at most, by the sizes that the schema of its variables allows (cel-go's ``checker/cost.go``)."""

from raycp.embedded.strategy.cel.callcosts import Argument, CallCost, call_cost
from raycp.embedded.strategy.cel.checker import Checked, call_of
from raycp.embedded.strategy.cel.declared import Declared
from raycp.embedded.strategy.cel.parser import CelNode
from raycp.embedded.strategy.cel.sizes import UNKNOWN, Range, fixed
from raycp.embedded.strategy.cel.types import DYN, SCALARS, Type

Path = tuple[str, ...]
_LIST, _MAP = fixed(10), fixed(30)
"""what it costs to make one"""
ZERO, ONE = fixed(0), fixed(1)


def estimate(checked: Checked, root: Declared) -> int:
    """The most units that one evaluation may cost. ``root`` declares the variables, each of which is of its type."""
    return _Coster(checked, root).cost(checked.tree).high


class _Local:
    """A variable of a loop."""

    def __init__(self, path: Path, size: Range | None) -> None:
        self.path, self.size = path, size


class _Coster:
    def __init__(self, checked: Checked, root: Declared) -> None:
        self.checked = checked
        self.root = root
        self.paths: dict[int, Path] = {}
        self.sizes: dict[int, Range] = {}
        self.items: dict[int, Range] = {}
        """of the elements of lists that the expression itself makes"""
        self.locals: dict[str, _Local] = {}

    def cost(self, node: CelNode) -> Range:
        kind = node[0]
        if kind == "lit":
            return ZERO
        if kind == "id":
            local = self.locals.get(node[1])
            self.paths[id(node)] = local.path if local is not None else (node[1],)
            return ONE
        if kind == "maybe":
            return self.cost(node[1])
        if kind == "has":
            return self.cost(node[1])
        if kind == "sel":
            return self._select(node)
        if kind == "list":
            inner = [self.cost(one) for one in node[1]]
            sizes = [self.size(one[1] if one[0] == "maybe" else one) for one in node[1]]
            self.items[id(node)] = _union(sizes) if sizes else ZERO
            return _sum([_LIST, *inner])
        if kind == "map":
            return _sum([_MAP, *(self.cost(one) for pair in node[1] for one in pair)])
        if kind == "struct":
            return _sum([fixed(40), *(self.cost(value) for _, value in node[2])])
        if kind == "loop":
            return self._loop(node)
        if kind in ("and", "or"):
            left, right = self.cost(node[1]), self.cost(node[2])
            return Range(left.low, left.plus(right).high)
        if kind == "cond":
            test, yes, no = (self.cost(one) for one in node[1:])
            self.sizes[id(node)] = self.size(node[2]).union(self.size(node[3]))
            return test.plus(yes.union(no))
        return self._call(node)

    def type(self, node: CelNode) -> Type:
        return self.checked.types.get(id(node), DYN)

    def _path(self, node: CelNode) -> Path:
        return self.paths.get(id(node), ())

    def _select(self, node: CelNode) -> Range:
        inner = self.cost(node[1])
        self.paths[id(node)] = (*self._path(node[1]), node[2])
        plain = self.type(node[1]).name in ("dyn", "optional_type") and not node[3]
        return inner if plain else inner.plus(ONE)

    def _call(self, node: CelNode) -> Range:
        name, arguments, member = call_of(node)
        total = _sum([self.cost(one) for one in arguments])
        if name == "dyn":
            self.sizes[id(node)] = self.size(arguments[0])
            return total.plus(ONE)
        own: Range | None = None
        sized: Range | None = None
        for overload in self.checked.overloads.get(id(node), ()):
            given = [self._argument(one, wanted) for one, wanted in zip(arguments, overload.arguments, strict=True)]
            found = call_cost(name, given) if member or name != "matches" else CallCost(ONE)
            own = found.cost if own is None else own.union(found.cost)
            if found.size is not None:
                sized = found.size if sized is None else sized.union(found.size)
            if name == "_[_]" and overload.arguments[0].name in ("list", "map"):
                step = "@items" if overload.arguments[0].name == "list" else "@values"
                self.paths[id(node)] = (*self._path(arguments[0]), step)
                sized = self.items.get(id(arguments[0]))
        if sized is not None:
            self.sizes[id(node)] = sized
        return total.plus(own) if own is not None else total

    def _argument(self, node: CelNode, wanted: Type) -> Argument:
        """With the type of the overload where the expression leaves it open."""
        own = self.type(node)
        kind = wanted if own.name in ("dyn", "error") and not wanted.parameter else own
        literal = node[1] if node[0] == "lit" else None
        return Argument(kind, self.size(node), self._item(node), literal)

    def _item(self, node: CelNode) -> Range:
        """The size of a list's elements."""
        found = self.items.get(id(node))
        if found is not None:
            return found
        path = self._path(node)
        declared = self._declared((*path, "@items")) if path else None
        if declared is not None:
            return declared
        kind = self.type(node)
        return ONE if kind.name == "list" and kind.of[0].name in SCALARS else UNKNOWN

    def _declared(self, path: Path) -> Range | None:
        found = self.root.at(path[1:]) if path else None
        return Range(0, found.most) if found is not None else None

    def size(self, node: CelNode) -> Range:
        """The size of the value of a node whose cost was taken."""
        found = self.sizes.get(id(node))
        if found is not None:
            return found
        if node[0] == "lit":
            return fixed(len(node[1]) if isinstance(node[1], (str, bytes)) else 1)
        if node[0] in ("list", "map"):
            return fixed(len(node[1]))
        declared = self._declared(self._path(node))
        if declared is not None:
            return declared
        kind = self.type(node)
        if kind.name == "optional_type":
            kind = kind.of[0]
        if kind.name in SCALARS:
            return ONE
        local = self.locals.get(node[1]) if node[0] == "id" else None
        return local.size if local is not None and local.size is not None else UNKNOWN

    def _loop(self, node: CelNode) -> Range:
        _, macro, over, names, bodies = node
        outer = self.cost(over)
        if macro in ("optMap", "optFlatMap"):
            return self._optional(node, outer)
        count = self.size(over)
        kind = self.type(over).name
        path = self._path(over)
        item = _Local((*path, "@values" if kind == "map" else "@items"), self.items.get(id(over)))
        key = _Local((*path, "@keys" if kind == "map" else "@indices"), None)
        entered = [key, item] if len(names) == 2 else [key if kind == "map" else item]
        before = dict(self.locals)
        self.locals.update(zip(names, entered, strict=True))
        inner = [self.cost(body) for body in bodies]
        last = self.size(bodies[-1])
        own = item.size if item.size is not None else self._item(over)
        self.locals = before
        return outer.plus(self._iterations(node, macro, count, inner, last, own))

    def _iterations(self, node: CelNode, macro: str, count: Range, inner: list[Range], last: Range, own: Range) -> Range:
        """What the expansion of a macro costs: its start, its result, and each iteration (cel-go's ``parser/macro.go``)."""
        body = inner[-1]
        if macro in ("all", "exists"):
            self.sizes[id(node)] = ONE
            start = 3 if macro == "all" else 4
            return ONE.plus(count.times(Range(start, fixed(start).plus(body).high)))
        if macro in ("exists_one", "existsOne"):
            self.sizes[id(node)] = ONE
            return fixed(2).plus(count.times(body.plus(Range(1, 2))))
        self.sizes[id(node)] = count
        if macro == "filter":
            self.items[id(node)] = Range(0, own.high)
            return fixed(11).plus(count.times(body.plus(Range(1, 13))))
        if macro in ("transformMap", "transformMapEntry"):
            step, start = body.plus(fixed(3 if macro == "transformMap" else 2)), 31
        else:
            step, start = body.plus(fixed(12)), 11
            self.items[id(node)] = Range(0, last.high)
        if len(inner) == 2:
            step = inner[0].plus(step.union(ONE))
        made = fixed(start).plus(count.times(step))
        if macro == "sortBy":
            keys = Argument(Type("list", (self.type(node[4][-1]),)), count, last)
            found = call_cost("@sortByAssociatedKeys", [keys])
            self.sizes[id(node)] = found.size or count
            self.items[id(node)] = own
            return made.plus(fixed(12)).plus(found.cost)
        return made

    def _optional(self, node: CelNode, outer: Range) -> Range:
        """``x.hasValue() ? optional.of(x.value() bound to the name: the body) : optional.none()``."""
        _, _, over, names, bodies = node
        before = dict(self.locals)
        self.locals[names[0]] = _Local(self._path(over), None)
        body = self.cost(bodies[0])
        self.sizes[id(node)] = self.size(bodies[0])
        self.locals = before
        return outer.plus(ONE).plus(ONE.union(body.plus(outer).plus(fixed(12))))


def _sum(ranges: list[Range]) -> Range:
    total = ZERO
    for one in ranges:
        total = total.plus(one)
    return total


def _union(ranges: list[Range]) -> Range:
    found = ranges[0]
    for one in ranges[1:]:
        found = found.union(one)
    return found
