"""``References``: the names at a path of an object's JSON, such as ``spec.volumes[*].secret.secretName``."""

from collections.abc import Iterator
from typing import Any

import msgspec

from raycp.classify.fieldpath import parse_path

_EACH = "[*]"


class References:
    """Reads the texts at ``path``, of which ``[*]`` stands for each element of a list. Raises ``ValueError`` for what is no path.

    An object without the path's first and last key is not decoded; of another one, only the value of the first key is.
    """

    def __init__(self, path: str) -> None:
        parts: list[str | None] = []
        for number, piece in enumerate(path.split(_EACH)):
            if number:
                parts.append(None)
            inner = piece.removeprefix(".") if number else piece
            if inner:
                parts += parse_path(inner)
            elif piece or number == 0:
                raise ValueError(f"{path!r} is no path such as spec.configRef.name or spec.volumes[*].secret.secretName")
        first = parts[0]
        assert first is not None
        self.path = path
        self._rest = parts[1:]
        names = [part for part in parts if part is not None]
        plain = all(name.isascii() and name.isprintable() and not set(name) & set('"\\<>&') for name in (names[0], names[-1]))
        self._needles = [f'"{name}"'.encode() for name in (names[0], names[-1])] if plain else []
        fields: list[tuple[str, Any, Any]] = [("value", Any, None)]
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("_FirstField", fields, rename={"value": first}))

    def read(self, raw: bytes) -> tuple[str, ...]:
        """The texts there, each once; none in a body that is no JSON object."""
        if not all(needle in raw for needle in self._needles):
            return ()
        try:
            value: Any = self._decoder.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return ()
        return tuple(dict.fromkeys(_texts(value.value, self._rest)))


def _texts(node: Any, rest: list[str | None]) -> Iterator[str]:
    for at, part in enumerate(rest):
        if part is None:
            for each in node if isinstance(node, list) else ():
                yield from _texts(each, rest[at + 1 :])
            return
        if not isinstance(node, dict):
            return
        node = node.get(part)
    if isinstance(node, str) and node:
        yield node
