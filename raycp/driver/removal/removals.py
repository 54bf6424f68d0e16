"""From what was found to what is removed, per cluster. Pure.

1. Finalizers that the controllers have put on objects are removed everywhere; the objects stay.
2. With one controller only, nothing else is: records, keys and lock are the fleet's.
3. A CustomResourceDefinition goes only when it was asked for, and no controller that stays needs it: its objects go with it.
4. The keys for owner marks stay while a cluster could not be read: they tell which children there are the fleet's.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raycp.driver.removal.findings import ClusterFindings, FloorMark, HeldObject, LeftDefinition, LeftObject


@dataclass(frozen=True)
class ClusterRemoval:
    """What is done in one cluster, in this order. ``kept``: what stays and why; ``problems``: what makes the removal incomplete."""

    cluster: str
    releases: tuple[HeldObject, ...] = ()
    definitions: tuple[LeftDefinition, ...] = ()
    deletes: tuple[LeftObject, ...] = ()
    floor: FloorMark | None = None
    keys: LeftObject | None = None
    kept: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is done there."""
        return not (self.releases or self.definitions or self.deletes or self.floor or self.keys)

    def lines(self) -> list[str]:
        """For people: what will be done, what stays, what is wrong."""
        return [f"cluster {self.cluster}:", *(f"  {line}" for line in self._lines() or ["nothing to remove"])]

    def _lines(self) -> list[str]:
        released = Counter((held.what.split(" ")[0], name) for held in self.releases for name in held.ours)
        found = [f"remove finalizer {name} from {_count(count, kind)}" for (kind, name), count in sorted(released.items())]
        for definition in self.definitions:
            objects = f", and with it {_count(definition.objects, 'object')}" if definition.objects else ""
            found.append(f"delete {definition.stored.what}{objects}")
        found += [f"delete {stored.what}" for stored in self.deletes]
        found += [f"delete {self.keys.what}"] if self.keys is not None else []
        if self.floor is not None:
            found.append(f"remove annotation {self.floor.annotation} from {self.floor.stored.what}")
        return found + [f"keep {line}" for line in self.kept] + [f"not done: {problem}" for problem in self.problems]


def removals(found: Sequence[ClusterFindings], *, controller: str = "", crds: bool = False) -> list[ClusterRemoval]:
    """The removal of the whole fleet, or of ``controller``, from the clusters in which ``found`` was found."""
    unread = [each.cluster for each in found if each.unreachable or each.unread]
    return [_of(each, bool(controller), crds, unread) for each in found]


def _of(found: ClusterFindings, one: bool, crds: bool, unread: list[str]) -> ClusterRemoval:
    if found.ends:
        return ClusterRemoval(found.cluster, kept=("all: it is embedded, and ends with `raycp down`",))
    if found.unreachable:
        return ClusterRemoval(found.cluster, problems=(found.unreachable,))
    kept: list[str] = []
    definitions = tuple(_definitions(found, crds, kept))
    deletes, floor, keys = found.records, found.floor, found.keys
    if one:
        deletes, floor, keys = (), None, None
    elif keys is not None and unread:
        kept.append(
            f"{keys.what}: it tells which children are the fleet's, and not all could be read in {', '.join(unread)}; "
            "repeat the command, or take that cluster out of the file"
        )
        keys = None
    if floor is not None and crds and not floor.others:
        definitions, floor = (*definitions, LeftDefinition(floor.stored, 0)), None
    return ClusterRemoval(found.cluster, found.held, definitions, deletes, floor, keys, tuple(kept), found.unread)


def _definitions(found: ClusterFindings, crds: bool, kept: list[str]) -> Iterator[LeftDefinition]:
    for definition in found.definitions:
        if definition.users:
            kept.append(f"{definition.stored.what}: controller {', '.join(definition.users)} needs it")
        elif crds:
            yield definition
        else:
            kept.append(f"{definition.stored.what} and its {_count(definition.objects, 'object')}: --crds deletes them")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
