"""The records of a log: each begins with a mark and a checksum, so that one that is torn hides none that follows it.

The mark is no valid UTF-8, and what clients write is: no object can hold a record of its own that would be found within a torn one.
"""

import zlib
from collections.abc import Iterator

MARK = b"\xff\xfeRJ"
_HEAD = len(MARK) + 8


def record(body: bytes) -> bytes:
    """``body`` as it is written."""
    return MARK + len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def read_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Offset and body of each whole record; what is between them is torn."""
    at = data.find(MARK)
    while at >= 0:
        body = _body(data, at)
        if body is None:
            at = data.find(MARK, at + 1)
            continue
        yield at, body
        end = at + _HEAD + len(body)
        at = end if data.startswith(MARK, end) else data.find(MARK, end)


def _body(data: bytes, at: int) -> bytes | None:
    size = int.from_bytes(data[at + len(MARK) : at + len(MARK) + 4], "big")
    check = int.from_bytes(data[at + len(MARK) + 4 : at + _HEAD], "big")
    body = data[at + _HEAD : at + _HEAD + size]
    return body if at + _HEAD + size <= len(data) and zlib.crc32(body) == check else None
