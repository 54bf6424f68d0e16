"""Labels, and what bounds their values. Whatever a value comes from, a family's number of series has a bound of its own.

Three kinds of label:

- names that the fleet file or the fleet itself gives (clusters, controllers, tiers, shards): ``Label("cluster")``;
- one of a fixed set of words: ``Label.of("reason", "permit", "epoch", "term")``;
- a word of other people's code (the class of an author's exception, the name of a wait): ``Label.few("error", 100)`` keeps the
  first so many distinct ones.

A value outside of its set, or beyond that number, counts as ``OTHER``: a text is never a label.
"""

import re
from collections.abc import Iterable

import msgspec

OTHER = "other"
"""The value of what is outside of a label's set."""

_WORD = re.compile(r"[A-Za-z_][\w .:-]{0,63}", re.ASCII)


class Label(msgspec.Struct, frozen=True):
    """A label's name and the bound of its values (see the module): the fixed set, or ``most`` distinct words in a process."""

    name: str
    values: frozenset[str] | None = None
    most: int = 0

    @classmethod
    def of(cls, name: str, *values: str) -> "Label":
        """A label with these values."""
        return cls(name, frozenset(values))

    @classmethod
    def few(cls, name: str, most: int) -> "Label":
        """A label with at most so many values, the first ones that come. Each is a word of up to 64 characters."""
        return cls(name, None, most)


class LabelBounds:
    """The labels of one family, and which words it has seen."""

    __slots__ = ("_labels", "_seen")

    def __init__(self, labels: Iterable[Label]) -> None:
        self._labels = tuple(labels)
        self._seen: tuple[set[str], ...] = tuple(set() for _ in self._labels)

    def bounded(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """``values`` with each one that is out of bounds replaced."""
        return tuple(map(_bounded, self._labels, values, self._seen))


def _bounded(label: Label, value: str, seen: set[str]) -> str:
    if label.values is not None:
        return value if value in label.values else OTHER
    if not label.most or value in seen:
        return value
    if len(seen) >= label.most or not _WORD.fullmatch(value):
        return OTHER
    seen.add(value)
    return value
