"""The strategy of each kind: decoding, defaults, preparation, validation.

- ``schemas``, ``omission``, ``shapes``: the form of a kind: the JSON schemas of the ``kubernetes-validate`` package, the
  zero values that Go encodes, and both as a tree of ``Shape``;
- ``scalars``, ``convert``, ``decode``, ``protobuf``: bodies to dicts with Go's types; ``protobuf_writer``: the way back;
- ``names``, ``causes``, ``metadata``: validation of names, constructors of field errors, rules of every kind's metadata;
- ``rules``, ``kinds/``: rules of single kinds (Pods, Jobs, Services and others);
- ``builtin``: the strategy of built-in kinds;
- ``structural``, ``schema_nodes``, ``schema_checks``, ``schema_rules``, ``cel/``: structural schemas, validation by them,
  their CEL rules;
- ``custom``: the strategy of custom resources.

The order of a create is that of a real server: ``decode`` (types and versioned defaults), ``managed.track``, admission,
``prepare_create``, ``validate``; of an update ``decode`` or ``patches.apply_patch``, ``track``, admission,
``prepare_update``, ``validate``. So fields that admission and preparation add have no manager.

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
    """The rules of one resource in one version. ``new`` and ``obj`` are changed in place and returned."""

    info: ResourceInfo
    shape: Shape

    def decode(self, body: bytes, content_type: str, field_validation: str = "Warn") -> tuple[dict[str, Any], list[str]]:
        """A request body as an object, and warnings (unknown, duplicate fields). Raises 400, 415."""
        ...

    def check_kind(self, obj: dict[str, Any]) -> None:
        """Refuse (400) an object of another kind or version."""
        ...

    def convert(
        self,
        obj: dict[str, Any],
        field_validation: str = "Ignore",
        warnings: list[str] | None = None,
        known: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The part of ``decode`` after parsing, for the result of a patch. ``known``: the object before the patch, as it was read;
        what the two share needs no conversion. Raises 400."""
        ...

    def normalize(self, obj: dict[str, Any], field_validation: str = "Ignore") -> dict[str, Any]:
        """``convert`` without warnings."""
        ...

    def prepare_create(self, obj: dict[str, Any], now_iso: str, ns: str | None) -> dict[str, Any]:
        """Drop fields that a create may not set, and add those that the server sets. The caller sets name and uid."""
        ...

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None = None) -> dict[str, Any]:
        """Restore fields that an update may not change, and set the generation."""
        ...

    def validate(self, new: dict[str, Any], old: dict[str, Any] | None = None, subresource: str | None = None) -> list[FieldError]:
        """The causes of a 422; empty for a valid object."""
        ...

    def prune_and_default_read(self, obj: dict[str, Any]) -> dict[str, Any]:
        """A stored object in this version's form."""
        ...


_STRATEGIES: "weakref.WeakKeyDictionary[ResourceInfo, Strategy]" = weakref.WeakKeyDictionary()
_BUILTINS: dict[tuple[str, str, str], Strategy] = {}


def strategy(info: ResourceInfo) -> Strategy:
    """The strategy of a resource, created once per ``info``."""
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
