"""The objects of one kind that were left out, each alone: what the server sent of them cannot be read, or the handler failed on
it (law 11).

The cache keeps the last state of such an object that could be read, if there was one.
"""

import logging
from collections.abc import Callable, Iterable

from raycp.base.objects import Meta
from raycp.cache.indexes import Key
from raycp.kube import UnreadableObject

log = logging.getLogger("raycp.cache")

_MOST = 1_000  # names that are kept; more are only counted
_LINES = 100  # of the log; then one whenever there are twice as many: whoever sends such objects fills no disk


class UnreadableObjects:
    """``count`` of them, and ``text``, which names the first."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._why: dict[Key, str] = {}
        self._unhandled: set[Key] = set()
        self._more = 0
        self._findings = 0
        self.count = 0

    @property
    def text(self) -> str:
        """For people: how many, and the first of them with what is wrong; empty for none."""
        if not self._why:
            return ""
        (namespace, name), why = next(iter(self._why.items()))
        named = f"{namespace}/{name}" if namespace else name or "one without a readable name"
        more = f" and {self.count - 1} more" if self.count > 1 else ""
        return f"left out: {named} ({why}){more}"

    def add(self, error: UnreadableObject) -> None:
        """What the server sent cannot be read."""
        self._put(_key(error), error.reason)

    def unhandled(self, meta: Meta, error: Exception) -> None:
        """The handler failed on its change."""
        key = (meta.namespace, meta.name)
        self._put(key, f"its change cannot be handled: {error!r}"[:200])
        if key in self._why:
            self._unhandled.add(key)

    def settle(self, namespace: str, name: str) -> None:
        """A later state of this object was read, or it is deleted."""
        self._why.pop((namespace, name), None)
        self._unhandled.discard((namespace, name))
        self.count = len(self._why) + self._more

    def replace(self, errors: Iterable[UnreadableObject], there: Callable[[str, str], object]) -> None:
        """These cannot be read in a new list. ``there``: the object in it, None for none; those that it has and that were not
        handled stay, since a list announces changes only.
        """
        before, self._why, self._more = self._why, {}, 0
        self._unhandled = {key for key in self._unhandled if there(*key) is not None}
        for key in self._unhandled:
            self._why[key] = before[key]
        for error in errors:
            if before.get(_key(error)) == error.reason:  # reported before
                self._why[_key(error)] = error.reason
            else:
                self.add(error)
        self.count = len(self._why) + self._more

    def _put(self, key: Key, why: str) -> None:
        if self._why.get(key) == why:
            return
        self._findings += 1
        if self._findings <= _LINES or self._findings.bit_count() == 1:
            named = "/".join(filter(None, key)) or "without a name"
            more = f" (the {self._findings}th such finding; not all have a line)" if self._findings > _LINES else ""
            log.warning("%s: object %s is left out: %s%s", self._kind, named, why, more)
        if key in self._why or len(self._why) < _MOST:
            self._why[key] = why
        else:
            self._more += 1
        self.count = len(self._why) + self._more


def _key(error: UnreadableObject) -> Key:
    return (error.meta.namespace, error.meta.name) if error.meta is not None else ("", "")
