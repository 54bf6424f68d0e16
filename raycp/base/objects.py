"""A cached object: raw JSON bytes, a decoded ``Meta``, and the digest by which user changes are recognised."""

import msgspec

LONGEST_NAME = 253
"""Characters of a name, a namespace or a uid (RFC 1123 subdomain). A server that sends a longer one is not believed."""

_DIGITS = 18
"""Decimal digits of which any number is below 2**63."""


def version_number(resource_version: str) -> int:
    """A resourceVersion to compare: a decimal below 2**63 (KEP-5504). 0 for any other, of which only equality counts."""
    if resource_version.isascii() and resource_version.isdecimal():
        number = int(resource_version) if len(resource_version) <= _DIGITS + 1 else 0
        return number if number < 2**63 else 0
    return 0


class OwnerRef(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``metadata.ownerReferences[]``."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class Meta(msgspec.Struct, rename="camel", gc=False):
    """The part of ``metadata`` that raycp reads. Times are RFC 3339 text, as the API server wrote them."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    owner_references: list[OwnerRef] | None = None


class Obj(msgspec.Struct, gc=False):
    """A cached object.

    ``raw`` is the object's JSON without ``managedFields``; ``rv`` is its ``version_number``; ``version`` is the
    64-bit digest of what users change (generation, or the body of kinds without one, with labels, annotations, finalizers
    and deletionTimestamp), equal in every process for equal content; ``changed_at`` is the newest
    ``managedFields[].time`` as Unix seconds, 0 if the server sent none. ``judged``: how its claim to an owner was judged, for who
    judges it (``raycp.shard.owned_objects``).
    """

    meta: Meta
    raw: bytes
    rv: int
    version: int
    changed_at: float = 0.0
    judged: int = 0


def same_version(one: Obj, other: Obj) -> bool:
    """Whether two states of an object have the same resourceVersion."""
    return one.rv == other.rv and (one.rv > 0 or one.meta.resource_version == other.meta.resource_version)
