"""One file of a recording back to records, as far as it is sound: torn ends, damaged and foreign files are no errors, but said.

Memory is bounded by a batch: the file is read as a stream, and nothing is believed about sizes.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import msgpack
import msgspec

from raycp.metrics.recorder.record_format import (
    BATCH,
    FORMAT,
    MOST_PACKED,
    MOST_RAW,
    VERSION,
    FlightRecord,
    Header,
    Origin,
    record_of,
    value_of,
)

READ_BYTES = 64 * 1024


class SegmentReader:
    """Iterate once over the records of a seekable binary stream, oldest first; ``origin`` and ``problem`` are known afterwards."""

    def __init__(self, stream: BinaryIO) -> None:
        self.origin: Origin | None = None
        """The process that wrote the file; None for a foreign file."""
        self.problem = ""
        """Why not all of the file was read; empty for a sound one."""
        self._size = stream.seek(0, 2)
        stream.seek(0)
        self._stream = stream
        self._damaged = 0
        self._shapes: Mapping[str, Sequence[str]] = {}

    def __iter__(self) -> Iterator[FlightRecord]:
        return self._records(self._batches())

    def tail(self, count: int) -> list[FlightRecord]:
        """The last ``count`` records. Only the last batches are unpacked: at least one record is in each."""
        found: deque[FlightRecord] = deque(maxlen=count)
        found.extend(self._records(deque(self._batches(), maxlen=count)))
        return list(found)

    def _records(self, batches: Iterable[bytes]) -> Iterator[FlightRecord]:
        for batch in batches:
            try:
                yield from _unpacked(batch, self._shapes)
            except (ValueError, zlib.error, msgpack.UnpackException):  # msgpack's and UnicodeDecodeError are ValueErrors
                self._damaged += 1
        if self._damaged:
            damaged = f"{self._damaged} damaged batches were left out"
            self.problem = f"{self.problem}; {damaged}" if self.problem else damaged

    def _batches(self) -> Iterator[bytes]:
        """The content of each batch."""
        if not self._size:
            self.problem = "empty"
            return
        unpacker = msgpack.Unpacker(self._stream, read_size=READ_BYTES, max_buffer_size=MOST_PACKED)
        sound = 0
        try:
            for value in unpacker:
                if self.origin is None:
                    self.origin = self._origin_of(value)
                    if self.origin is None:
                        return
                elif isinstance(value, msgpack.ExtType) and value.code == BATCH:
                    yield value.data
                else:
                    raise ValueError("not a batch")
                sound = unpacker.tell()
        except (ValueError, TypeError, msgpack.UnpackException):
            what = "damaged" if self.origin is not None else "not a flight recording"
            self.problem = f"{what} at byte {sound}: the {self._size - sound} bytes from there on were not read"
            return
        if sound < self._size:
            what = "ends within a batch" if self.origin is not None else "ends within its first value"
            self.problem = f"{what}: the last {self._size - sound} bytes were not read"

    def _origin_of(self, value: object) -> Origin | None:
        try:
            header = msgspec.convert(value, Header)
        except msgspec.ValidationError:
            header = None
        if header is None or header.format != FORMAT:
            self.problem = "not a flight recording"
        elif header.version != VERSION:
            self.problem = f"format {header.version} of another release of raycp; this one reads format {VERSION}"
        else:
            self._shapes = header.shapes
            return header.origin
        return None


def _unpacked(batch: bytes, shapes: Mapping[str, Sequence[str]]) -> Iterator[FlightRecord]:
    """The records of a batch. Raises ``ValueError``, ``zlib.error``, ``msgpack.UnpackException``."""
    decompressor = zlib.decompressobj()
    raw = decompressor.decompress(batch, MOST_RAW)
    if not decompressor.eof:
        raise ValueError("cut off, or larger than a batch may be")
    unpacker = msgpack.Unpacker(max_buffer_size=MOST_RAW, ext_hook=value_of)
    unpacker.feed(raw)
    end = 0
    for value in unpacker:
        yield record_of(value, shapes)
        end = unpacker.tell()
    if end != len(raw):
        raise ValueError("ends within a record")
