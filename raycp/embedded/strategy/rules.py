"""Hooks for a kind's own defaults, preparation and validation, which the generic strategy calls.

A hook receives the decoded object, in which every field has its Go type, and changes or validates it. The modules of
``strategy.kinds`` register the hooks of their kinds at import.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import Errors

Object = dict[str, Any]
NO_RULE: Callable[..., None] = lambda *_: None  # noqa: E731


@dataclass(frozen=True)
class KindRules:
    """Hooks of one kind; each default does nothing."""

    name: Callable[[str], tuple[str, ...]] = names.dns_subdomain
    """validates the form of metadata.name"""
    generation: bool = False
    """whether metadata.generation is kept: 1 at creation, +1 when the spec changes"""
    defaults: Callable[[Object], None] = NO_RULE
    """the API version's defaults, applied at every write before the object is compared with the stored one"""
    create: Callable[[Object], None] = NO_RULE
    """PrepareForCreate and the built-in admission plugins"""
    update: Callable[[Object, Object], None] = NO_RULE
    """PrepareForUpdate(new, old) of the main resource"""
    status_update: Callable[[Object, Object], None] = NO_RULE
    """PrepareForUpdate(new, old) of the status subresource, after the spec is reset to the old one"""
    validate: Callable[[Object, Errors], None] = NO_RULE
    """validates the whole object: at creation, and at those updates at which the real server does so too"""
    validate_update: Callable[[Object, Object, Errors], None] = NO_RULE
    """(new, old, errors) of an update of the main resource"""
    validate_status: Callable[[Object, Object, Errors], None] = NO_RULE
    """(new, old, errors) of an update of the status"""
    metadata_again: bool = False
    """whether an update reports errors of metadata twice, as the validation of some kinds does"""
    generation_of: Callable[[Object], Any] | None = None
    """the part of an object whose change increments metadata.generation; default: spec"""
    keeps_status: bool = False
    """whether a create keeps its status although the kind has a status subresource"""


_RULES: dict[tuple[str, str], KindRules] = {}
_PLAIN = KindRules()


def register(group: str, kind: str, **hooks: Any) -> None:
    """Register the hooks of a kind, once."""
    assert (group, kind) not in _RULES, (group, kind)
    _RULES[group, kind] = KindRules(**hooks)


def registered(group: str, kind: str) -> KindRules:
    """The registered rules of a kind, or plain ones."""
    return _RULES.get((group, kind), _PLAIN)
