"""What has been observed and reconciled of one kind in one cluster, in a form that can be stored every second.

A watermark is the highest resource version observed, and the exceptions: the keys with a change at or below it that is
not reconciled yet, failing and waiting ones included. After a restart it distinguishes listed objects that were
reconciled already from those that changed while no shard watched.

Resource versions are compared as integers, as KEP-5504 (Kubernetes 1.35) guarantees.
"""

import base64
import zlib
from collections.abc import Collection, Iterator

import msgspec

from raycp.base.deflated import inflated
from raycp.base.keys import RequestKey

MAX_EXCEPTIONS = 5_000
"""Beyond this many pending keys the stored form falls back to the least pending version."""

_PLAIN_LIMIT = 2_048


class _Wire(msgspec.Struct, rename={"exceptions": "x"}, omit_defaults=True):
    """``exceptions``: cluster of the key → controller → namespace → names."""

    rv: int
    exceptions: dict[str, dict[str, dict[str, list[str]]]] = {}


class Watermark:
    """Rules:

    1. ``covers(rv, key)`` is true only if every change of ``key`` up to ``rv`` was observed and reconciled.
    2. ``pending`` before ``observe``: a version counts as observed only after the keys that it made due are recorded here.
    3. The encoded form never claims more than is known.
    """

    __slots__ = ("_rv", "changes", "restored")

    def __init__(self, rv: int = 0) -> None:
        self._rv = rv
        self.changes: dict[RequestKey, tuple[int, int]] = {}
        """Key -> versions of its first and its last change that is not reconciled."""
        self.restored: set[RequestKey] = set()
        """Keys of a stored form, whose versions were not stored: any reconcile of this process has seen them."""

    @property
    def rv(self) -> int:
        """The highest observed resource version."""
        return self._rv

    @property
    def pending_count(self) -> int:
        """Keys with changes that are not reconciled."""
        return len(self.changes)

    def covers(self, rv: int, key: RequestKey) -> bool:
        """Whether the state of ``key``'s object at ``rv`` has been reconciled."""
        return rv <= self._rv and key not in self.changes

    def due(self, key: RequestKey) -> tuple[int, int] | None:
        """Versions of the first and the last change of ``key`` that is not reconciled; None where there is none."""
        return self.changes.get(key)

    def observe(self, rv: int) -> None:
        """All changes up to ``rv`` are in the cache, and the keys that they made due are pending. The version never goes back."""
        if rv > self._rv:
            self._rv = rv

    def pending(self, key: RequestKey, rv: int) -> None:
        """The change of ``rv`` makes ``key`` due: it is an exception until ``reconciled``."""
        known = self.changes.get(key)
        if known is None:
            self.changes[key] = (rv, rv)
        else:
            self.changes[key] = (min(rv, known[0]), max(rv, known[1]))
            if rv > known[1]:
                self.restored.discard(key)

    def reconciled(self, key: RequestKey, upto: int | None = None) -> bool:
        """A reconcile of ``key`` succeeded that saw its object at ``upto`` (None: at its latest).

        Returns whether the key is no longer an exception; after a change later than ``upto`` it still is.
        """
        known = self.changes.get(key)
        if known is None:
            return True
        if upto is None or upto >= known[1] or key in self.restored:
            del self.changes[key]
            self.restored.discard(key)
            return True
        if upto >= known[0]:
            self.changes[key] = (upto + 1, known[1])
        return False

    def forget(self, key: RequestKey) -> None:
        """The key is no longer ours to reconcile (its controller was removed, its object moved to another shard)."""
        self.reconciled(key)

    def least_pending(self) -> int | None:
        """The lowest version of a change that is not reconciled, or None."""
        return min((first for first, _ in self.changes.values()), default=None)

    def exceptions(self) -> Iterator[RequestKey]:
        """The keys that are due though the watermark has passed them."""
        return iter(list(self.changes))

    def unlisted(self, listed: Collection[RequestKey]) -> list[RequestKey]:
        """Exceptions whose object is not in the initial list: it was deleted, and the deletion is not reconciled yet."""
        return [key for key in self.changes if key not in listed]

    def encode(self, max_exceptions: int = MAX_EXCEPTIONS) -> str:
        """Text for a ConfigMap's value; compressed where it is long (5 000 exceptions: about 40 KB).

        With more exceptions than ``max_exceptions`` only the version just below the least pending one is stored.
        """
        if len(self.changes) > max_exceptions:
            least = self.least_pending()
            assert least is not None
            wire = _Wire(max(0, min(least - 1, self._rv)))
        else:
            wire = _Wire(self._rv)
            for key in sorted(self.changes):
                controllers = wire.exceptions.setdefault(key.cluster, {})
                controllers.setdefault(key.controller, {}).setdefault(key.namespace, []).append(key.name)
        plain = msgspec.json.encode(wire)
        if len(plain) <= _PLAIN_LIMIT:
            return plain.decode()
        return "z:" + base64.b85encode(zlib.compress(plain, 6)).decode()

    @classmethod
    def decode(cls, text: str) -> "Watermark":
        """The watermark that was encoded. Raises ``ValueError`` for anything else."""
        try:
            plain = inflated(base64.b85decode(text[2:])) if text.startswith("z:") else text.encode()
            wire = msgspec.json.decode(plain, type=_Wire)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise ValueError(f"not a watermark: {error}") from error
        if not 0 <= wire.rv < 1 << 63:  # it would cover all that follows
            raise ValueError(f"not a watermark: {wire.rv} is no resource version")
        mark = cls(wire.rv)
        for cluster, controllers in wire.exceptions.items():
            for controller, spaces in controllers.items():
                for namespace, names in spaces.items():
                    for name in names:
                        key = RequestKey(controller, cluster, namespace, name)
                        # Its versions were not stored; any successful reconcile of this process has seen them.
                        mark.pending(key, wire.rv)
                        mark.restored.add(key)
        return mark
