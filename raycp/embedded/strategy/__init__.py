"""What the API server does to an object of each kind: decoding, defaults, preparation, validation.

- ``schemas``, ``omission``, ``shapes``: what a kind looks like: the JSON schemas of the ``kubernetes-validate``
  package, the zero values that Go shows, and both as a tree of ``Shape``;
- ``scalars``, ``convert``, ``decode``, ``protobuf``: bodies to dicts with Go's types;
- ``names``, ``causes``, ``metadata``: forms of names, makers of field errors, what holds for every kind;
- ``rules``, ``kinds/``: what is special about Pods, Jobs, Services and the others;
- ``builtin``: the strategy of built-in kinds;
- ``structural``, ``cel/``, ``custom``: structural schemas, their validation rules, the strategy of custom resources.

The order of a create is that of a real server: ``decode`` (types and versioned defaults), ``managed.track``, admission,
``prepare_create``, ``validate``; of an update ``decode`` or ``patching.apply_patch``, ``track``, admission,
``prepare_update``, ``validate``. So what admission and preparation add belongs to no field manager.

All of it is pure: dicts in, dicts out, time passed in.
"""

import weakref
from functools import cache
from typing import Any, Protocol

from raycp.embedded.errors import FieldError
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy.builtin import BodyDecoder, BuiltinStrategy
from raycp.embedded.strategy.shapes import Shape

__all__ = ["BodyDecoder", "Strategy", "body_decoder", "strategy"]


class Strategy(Protocol):
    """The rules of one resource in one version. ``new`` and ``obj`` are changed in place and given back."""

    info: ResourceInfo
    shape: Shape

    def decode(self, body: bytes, content_type: str, field_validation: str = "Warn") -> tuple[dict[str, Any], list[str]]:
        """A request body as an object, and warnings (unknown, duplicate fields). Raises 400, 415."""
        ...

    def check_kind(self, obj: dict[str, Any]) -> None:
        """Refuse (400) an object of another kind or version."""
        ...

    def convert(self, obj: dict[str, Any], field_validation: str = "Ignore", warnings: list[str] | None = None) -> dict[str, Any]:
        """What ``decode`` does after parsing, for objects that a patch made. Raises 400."""
        ...

    def normalize(self, obj: dict[str, Any], field_validation: str = "Ignore") -> dict[str, Any]:
        """``convert`` without a place for warnings."""
        ...

    def prepare_create(self, obj: dict[str, Any], now_iso: str, ns: str | None) -> dict[str, Any]:
        """What a create may not set is dropped, what the server adds is added. The caller sets name and uid."""
        ...

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None = None) -> dict[str, Any]:
        """What an update may not change is kept; generation."""
        ...

    def validate(self, new: dict[str, Any], old: dict[str, Any] | None = None, subresource: str | None = None) -> list[FieldError]:
        """Causes of a 422; empty if all is well."""
        ...

    def prune_and_default_read(self, obj: dict[str, Any]) -> dict[str, Any]:
        """A stored object as it is served in this version."""
        ...


_STRATEGIES: "weakref.WeakKeyDictionary[ResourceInfo, Strategy]" = weakref.WeakKeyDictionary()
_BUILTINS: dict[tuple[str, str, str], Strategy] = {}


def strategy(info: ResourceInfo) -> Strategy:
    """The strategy of a resource; made once per ``info``."""
    if info.crd is None:
        key = (info.group, info.version, info.plural)
        found = _BUILTINS.get(key)
        if found is None:
            found = _BUILTINS[key] = BuiltinStrategy(info)
        return found
    custom = _STRATEGIES.get(info)
    if custom is None:
        from raycp.embedded.strategy.custom import CustomStrategy

        custom = _STRATEGIES[info] = CustomStrategy(info)
    return custom


@cache
def body_decoder(group: str, version: str, kind: str) -> BodyDecoder:
    """A decoder for bodies that are no resources of their own: Scale, Binding, Eviction, DeleteOptions, ..."""
    return BodyDecoder(group, version, kind)
