"""Read a few fields of a large JSON object without decoding the rest of it.

``FieldReader`` makes a ``msgspec`` type that has only the fields of its paths; the type's decoder skips all others.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import msgspec

_PART = re.compile(r"""([^.\[\]'"]+)|\[(?:'([^']+)'|"([^"]+)")\]""")
_names = itertools.count()


def parse_path(path: str) -> tuple[str, ...]:
    """Split ``spec.template.metadata.labels['a/b']`` into its keys, as Kubernetes' downward API does.

    Raises ``ValueError`` for a text that is no path. List indexes are not supported.
    """
    parts: list[str] = []
    rest = path.strip()
    while rest:
        found = _PART.match(rest)
        if not found:
            break
        parts.append(found[1] or found[2] or found[3])
        rest = rest[found.end() :]
        if rest.startswith("."):
            if len(rest) == 1 or rest[1] == "[":
                break
            rest = rest[1:]
        elif rest and not rest.startswith("["):
            break
    if rest or not parts:
        raise ValueError(f"{path!r} is no path such as spec.qosTier or metadata.labels['a/b']")
    return tuple(parts)


class FieldReader:
    """Decodes the given paths, and nothing else, out of an object's JSON.

    ``needles`` allow to skip ``read``, which decodes the whole body: a body that contains none of them has no value at any
    of the paths.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]]) -> None:
        self.needles = tuple(dict.fromkeys(_needle(path[-1]) for path in paths))
        tree: dict[str, Any] = {}
        for path in paths:
            node = tree
            for part in path:
                node = node.setdefault(part, {})
        self._paths = [(path, self._getters(tree, path)) for path in dict.fromkeys(paths)]
        self._decoder = msgspec.json.Decoder(_struct(tree))
        self._lenient = msgspec.json.Decoder()

    def read(self, raw: bytes) -> dict[tuple[str, ...], str]:
        """The values at the paths as text (``true``, ``5``, ``critical``). Leaves out missing values, mappings and lists, and
        returns nothing for a body that is no JSON."""
        try:
            root: Any = self._decoder.decode(raw)
        except msgspec.ValidationError:
            # A part of a path is no mapping in this object; the other paths may still have values.
            return self._read_leniently(raw)
        except msgspec.DecodeError:
            return {}
        values: dict[tuple[str, ...], str] = {}
        for path, getters in self._paths:
            node = root
            for getter in getters:
                node = getattr(node, getter, None)
                if node is None:
                    break
            else:
                _put(values, path, node)
        return values

    def _read_leniently(self, raw: bytes) -> dict[tuple[str, ...], str]:
        values: dict[tuple[str, ...], str] = {}
        root = self._lenient.decode(raw)
        for path, _ in self._paths:
            node: Any = root
            for part in path:
                node = node.get(part) if isinstance(node, dict) else None
            _put(values, path, node)
        return values

    @staticmethod
    def _getters(tree: dict[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
        getters: list[str] = []
        for part in path:
            getters.append(f"f{list(tree).index(part)}")
            tree = tree[part]
        return tuple(getters)


def _needle(key: str) -> bytes:
    """The bytes that occur in every JSON text with ``key``: its name in quotes, or a quote if an encoder may escape it."""
    plain = key.isascii() and key.isprintable() and not set(key) & set('"\\<>&')
    return f'"{key}"'.encode() if plain else b'"'


def _put(values: dict[tuple[str, ...], str], path: tuple[str, ...], node: Any) -> None:
    if isinstance(node, bool):
        values[path] = "true" if node else "false"
    elif isinstance(node, str | int | float):
        values[path] = str(node)


def _struct(tree: dict[str, Any]) -> Any:
    if not tree:
        return Any
    fields = [(f"f{index}", _struct(child) | None if child else Any, None) for index, child in enumerate(tree.values())]
    rename = {f"f{index}": part for index, part in enumerate(tree)}
    return msgspec.defstruct(f"_Fields{next(_names)}", fields, rename=rename, gc=False)
