"""The format of flight records.

A file (a *segment*) is a stream of msgpack values. The first is a map: ``format``, ``version``, ``origin``, ``shapes``. All others
are batches: extension type ``BATCH``, whose content is a zlib stream (its checksum tells damage) of records, one after the other. A
record is ``[time, what, subject, fields]``:

- ``time``: extension type ``TIME``, Unix seconds as a double (msgpack's own timestamp takes three times as long to pack);
- ``what``: a word, such as ``handed_out``, ``promoted``, ``error``;
- ``subject``: what it is about: a key ``[controller, cluster, namespace, name]``, a cluster's name, or nothing;
- ``fields``: a map of texts, numbers, and lists and maps of them; of frequent records an array of the map's values, whose names are
  in the file's ``shapes``.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgpack
import msgspec

from raycp.base.keys import RequestKey

FORMAT = "raycp flight recorder"
VERSION = 1
BATCH, TIME = 1, 2
"""Extension types."""

PACK_TIME = struct.Struct(">d").pack
UNPACK_TIME = struct.Struct(">d").unpack

ENDED = ("seconds", "calls", "calls_left_out", "error", "waiting")
SHAPES: Mapping[str, Sequence[str]] = {
    "received": ("reason", "source", "tier", "resource_version", "delay", "why"),
    "handed_out": ("worker", "attempt", "waited"),
    "delayed": ("seconds", "reason"),
    **dict.fromkeys(("succeeded", "failed", "gave_up", "waiting", "returned"), ENDED),
    "started": ("shard", "term", "attempt", "reason"),
    "finished": ("outcome", "seconds", "calls", "writes", "error"),
    "calls": ("verb", "cluster", "path", "status", "seconds", "retry_after"),
}
"""The names of frequent records' fields, and of the values of each of ``calls``."""

MOST_RAW = 8 * 1024 * 1024
"""Bytes of a batch's records before compression; a batch that claims more is not read."""

MOST_PACKED = 8 * 1024 * 1024
"""Bytes of one value in a file."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The process that wrote a file. ``node`` is Ray's id of its node, ``host`` the host's name, ``started`` in Unix seconds.
    ``stderr``: the file that has its standard error, empty where there is none."""

    actor: str
    namespace: str = ""
    node: str = ""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    stderr: str = ""


class Header(msgspec.Struct, kw_only=True):
    """The first value of a file."""

    format: str
    version: int
    origin: Origin
    shapes: dict[str, list[str]]


class FlightRecord(NamedTuple):
    """One record as read. ``at`` in Unix seconds; ``subject`` a key, a cluster's name, or empty."""

    at: float
    what: str
    subject: RequestKey | str
    fields: dict[str, Any]

    @property
    def cluster(self) -> str:
        """The cluster that it is about; empty for none."""
        return self.subject.cluster if isinstance(self.subject, RequestKey) else self.subject


def value_of(code: int, data: bytes) -> Any:
    """The hook of ``msgpack.Unpacker`` for extension types. Raises ``ValueError``."""
    if code != TIME:
        return msgpack.ExtType(code, data)
    if len(data) != 8:
        raise ValueError("a time has eight bytes")
    return UNPACK_TIME(data)[0]


def record_of(value: Any, shapes: Mapping[str, Sequence[str]]) -> FlightRecord:
    """A record from its msgpack value. Raises ``ValueError`` for anything else."""
    match value:
        case [float(at), str(what), None | str() as subject, dict() | list() as fields]:
            return FlightRecord(at, what, subject or "", _named(what, fields, shapes))
        case [float(at), str(what), [str(controller), str(cluster), str(namespace), str(name)], dict() | list() as fields]:
            return FlightRecord(at, what, RequestKey(controller, cluster, namespace, name), _named(what, fields, shapes))
    raise ValueError("this is no flight record")


def _named(what: str, fields: dict[str, Any] | list[Any], shapes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    if isinstance(fields, list):
        fields = dict(zip(shapes.get(what, ()), fields, strict=True))
        calls = fields.get("calls")
        if isinstance(calls, list):
            fields["calls"] = [dict(zip(shapes.get("calls", ()), call, strict=False)) for call in calls if isinstance(call, list)]
    return fields
