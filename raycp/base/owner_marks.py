"""Owner marks: proof that a child which names its owner by label was made by this fleet. Pure.

Whoever may create objects in a member, or in another namespace, can write any label. What they can't write is the annotation
``raycp.io/owner-mark``: an HMAC over the owner's uid and the place of the child (cluster, kind, namespace, name), made with a key
that only the fleet has. A mark that is copied to another place does not fit there. (Who may delete and create objects in the
child's own namespace can put back another object under the same name: in there, a Pod is theirs anyway.)

Objects that were created before the fleet had a key have no mark. They are told by ``creationTimestamp``, which the API server
sets and nobody else: what is older than ``MarkKeys.unmarked_before`` may be without one.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

MARK = "raycp.io/owner-mark"
"""Annotation: ``KEY/MAC``, the name of the key and the mark made with it."""

SHORTEST_KEY = 16
"""Bytes."""

_MAC_BYTES = 16
_MAC_LENGTH = 22
"""Characters of a mark's second part: ``_MAC_BYTES`` in base64, without padding."""
_LONGEST_CLAIM = 2048
"""Characters of all parts of a claim. Those that an API server takes have some 800; what is remembered is no memory to fill."""
_CACHED = 16384
"""Judgements that are remembered: an object is judged at each of its events and states, and its mark stays the same in all of them.
One is 7 µs, and 1 µs where it is remembered."""

_NUMBER = re.compile(r"\d{1,9}$")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
"""``metav1.Time`` as every API server writes it: such texts sort by time."""


class OwnerClaim(NamedTuple):
    """A child's claim to an owner: the owner's ``uid``, and where the child is. ``kind`` is ``Kind.group``, without the version:
    a controller may read its children in another one tomorrow."""

    uid: str
    cluster: str
    kind: str
    namespace: str
    name: str


class ClaimProof(Enum):
    """What speaks for a claim."""

    MARKED = "marked"
    """a valid mark"""
    OLD = "old"
    """none, but the child was created before the fleet had a key"""
    NONE = "none"


class MarkKeys(msgspec.Struct, frozen=True):
    """The fleet's keys by name, and the one that signs. ``unmarked_before`` is a ``metav1.Time``, or empty. A secret: it travels
    in the plan, and its text shows no key."""

    keys: dict[str, bytes]
    signing: str
    unmarked_before: str = ""

    def __repr__(self) -> str:
        return f"MarkKeys({', '.join(sorted(self.keys))}; {self.signing} signs)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("keys", sorted(self.keys)), ("signing", self.signing)]

    def sign(self, claim: OwnerClaim) -> str:
        """The mark of ``claim``."""
        return f"{self.signing}/{_mac(self.keys[self.signing], claim)}"

    def proof(self, claim: OwnerClaim, mark: str, created: str | None, clock_ahead: float = 0.0) -> ClaimProof:
        """``mark`` as the child carries it, empty for none; ``created`` is its creationTimestamp, by a clock that is so many
        seconds ``clock_ahead`` of the one that set ``unmarked_before``."""
        name, _, mac = mark.partition("/")
        key = self.keys.get(name)
        if key is not None and len(mac) == _MAC_LENGTH and sum(map(len, claim)) <= _LONGEST_CLAIM and _fits(key, claim, mac):
            return ClaimProof.MARKED
        if created and _TIME.fullmatch(created) and created < _moved(self.unmarked_before, round(clock_ahead)):
            return ClaimProof.OLD
        return ClaimProof.NONE


def next_keys(before: MarkKeys | None, found: Mapping[str, bytes], unmarked_before: str) -> MarkKeys | None:
    """The keys to use when the Secret has ``found``; None where it has none that is long enough.

    The newest key signs, but not before all members know it: one that was not in ``before`` only verifies for now. Newest is the
    one whose name ends with the highest number.
    """
    keys = {name: key for name, key in sorted(found.items()) if len(key) >= SHORTEST_KEY}
    if not keys:
        return None
    known = [name for name in keys if before is not None and before.keys.get(name) == keys[name]]
    return MarkKeys(keys, max(known or keys, key=_age), unmarked_before)


def _age(name: str) -> tuple[int, str]:
    number = _NUMBER.search(name)
    return (int(number.group()) if number else -1, name)


@lru_cache(_CACHED)
def _moved(time: str, seconds: int) -> str:
    """``time``, a ``metav1.Time`` or empty, so many seconds later."""
    if not seconds or not _TIME.fullmatch(time):
        return time
    try:
        return (datetime.fromisoformat(time) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):  # no day of any year, or one beyond all of them
        return time


@lru_cache(_CACHED)
def _fits(key: bytes, claim: OwnerClaim, mac: str) -> bool:
    return hmac.compare_digest(_mac(key, claim).encode(), mac.encode("utf-8", "surrogatepass"))


def _mac(key: bytes, claim: OwnerClaim) -> str:
    # With its length before each part, no two claims have the same text, whatever is in the parts.
    text = "".join([f"{len(part)}:{part}" for part in claim])
    digest = hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")[:_MAC_BYTES]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
