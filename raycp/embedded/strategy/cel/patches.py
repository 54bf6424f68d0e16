"""The types that mutations make: ``Object`` with its fields' types ``Object.spec`` and so on, and ``JSONPatch``.

As ``apiserver/pkg/cel/mutation``: a field of an object is of any type, and the names of the types must follow the path.
"""

from typing import Any

from raycp.embedded.strategy.cel.types import DYN, STRING, Type, list_of

OBJECT = Type("Object")
PATCHES = list_of(Type("JSONPatch"))
_PATCH = {"op": STRING, "path": STRING, "from": STRING, "value": DYN}


class _AnyField(dict[str, Type]):
    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> Type:
        return DYN


_OPEN = _AnyField()


class PatchTypes(dict[str, dict[str, Type]]):
    """The object types of an environment, with those of mutations."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self._open(name))

    def __getitem__(self, name: str) -> dict[str, Type]:
        made = self._made(name)
        return super().__getitem__(name) if made is None else made

    def get(self, name: str, default: Any = None) -> Any:
        made = self._made(name)
        return super().get(name, default) if made is None else made

    @staticmethod
    def _open(name: str) -> bool:
        return name in ("Object", "JSONPatch") or name.startswith("Object.")

    def _made(self, name: str) -> dict[str, Type] | None:
        return _PATCH if name == "JSONPatch" else _OPEN if self._open(name) else None


class TypedObject(dict[str, Any]):
    """An object that an expression made, with the name of its type."""

    type_name = ""


def misnamed(value: Any, path: str) -> list[str]:
    """The errors of objects whose types are not named after their place, which is ``path`` for ``value``."""
    found: list[str] = []
    if isinstance(value, TypedObject):
        if value.type_name != path:
            expected = f'expected "{path}", which matches field name path from root Object type'
            found.append(f'unexpected type name "{value.type_name}", {expected}')
        for key, one in value.items():
            found += misnamed(one, f"{path}.{key}")
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            found += misnamed(one, path)
    return found
