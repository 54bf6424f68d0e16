"""The steps of one key as bytes: a stream of msgpack ``bin`` values, oldest first, each of which holds one step.

A step is ``[at, what, fields, count]``: ``at`` in Unix seconds, ``what`` a number, ``fields`` an array or a map, ``count`` the
number of steps in the stream when this one was its last. ``count`` is below 128, which msgpack encodes as the byte itself: the last
byte of a stream is the number of its steps. Frequent texts (tiers, reasons, workers, verbs) are numbers of a ``Texts``.

``msgspec`` packs, since a step is packed on the path of each change; ``msgpack`` reads the stream.
"""

from collections.abc import Iterator
from typing import Any

import msgpack
import msgspec

MOST_STEPS = 127
"""Of one stream, see the module."""

MOST_TEXTS = 4096
"""Of a table: far more than a fleet has tiers, rules, reasons, clusters and workers of some days."""

LONGEST_TEXT = 120
"""Characters of a text that gets a number. Errors and paths differ too much to be worth one."""

pack = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_SHORT, _LONG = 0xC4, 0xC6
"""First bytes of ``bin`` values, of one byte and of four bytes of length."""

HEADERS = tuple(bytes((_SHORT, size)) for size in range(256))
"""Of steps below 256 bytes."""


class Texts(dict[str, int | str]):
    """Text -> its number; the text itself where it is long, or the table is full. A known text costs one look-up."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[str] = []

    def __missing__(self, text: str) -> int | str:
        if len(self._texts) >= MOST_TEXTS or len(text) > LONGEST_TEXT:
            return str(text)
        number = self[text] = len(self._texts)
        self._texts.append(str(text))
        return number

    def text(self, number: int | str) -> str:
        """The text that was given as ``number``."""
        return self._texts[number] if isinstance(number, int) else number


def long_header(size: int) -> bytes:
    """The header of a step of 256 bytes or more."""
    return bytes((_LONG, *size.to_bytes(4, "big")))


def first_size(stream: bytes) -> int:
    """The size of the first step of a stream, with its header."""
    return 2 + stream[1] if stream[0] == _SHORT else 5 + int.from_bytes(stream[1:5], "big")


def steps_of(stream: bytes) -> Iterator[tuple[float, int, Any]]:
    """(at, what, fields) of each step, oldest first."""
    unpacker = msgpack.Unpacker(read_size=4096, max_buffer_size=max(4096, len(stream)))
    unpacker.feed(stream)
    for step in unpacker:
        at, what, fields, _ = _decode(step)
        yield at, what, fields
