"""What is special about a kind: hooks that the generic strategy calls, registered by group and kind.

A rule gets the object as decoded (all types right) and changes or judges it. Rule modules register themselves when
they are imported; ``rules_for`` imports them on first use.
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
    """form of metadata.name"""
    generation: bool = False
    """whether metadata.generation is kept: 1 at creation, +1 when the spec changes"""
    defaults: Callable[[Object], None] = NO_RULE
    """as the API's versioned defaults: at every write, before anything is compared"""
    create: Callable[[Object], None] = NO_RULE
    """PrepareForCreate and the built-in admission plugins"""
    update: Callable[[Object, Object], None] = NO_RULE
    """PrepareForUpdate(new, old) of the main resource"""
    status_update: Callable[[Object, Object], None] = NO_RULE
    """PrepareForUpdate(new, old) of the status subresource, after the spec was taken from the old"""
    validate: Callable[[Object, Errors], None] = NO_RULE
    """of the whole object: at creation, and at an update where the real server validates it whole again"""
    validate_update: Callable[[Object, Object, Errors], None] = NO_RULE
    """(new, old, errors) of an update of the main resource"""
    validate_status: Callable[[Object, Object, Errors], None] = NO_RULE
    """(new, old, errors) of an update of the status"""
    metadata_again: bool = False
    """whether an update's metadata is judged twice, as some kinds' validation does"""
    generation_of: Callable[[Object], Any] | None = None
    """what a change of must bump the generation; default: spec"""
    keeps_status: bool = False
    """the status of a create is kept although there is a status subresource"""


_RULES: dict[tuple[str, str], KindRules] = {}
_PLAIN = KindRules()


def register(group: str, kind: str, **hooks: Any) -> None:
    """Say what is special about a kind, once."""
    assert (group, kind) not in _RULES, (group, kind)
    _RULES[group, kind] = KindRules(**hooks)


def rules_for(group: str, kind: str) -> KindRules:
    """The rules of a kind; plain ones where nothing is special."""
    if not _RULES:
        from raycp.embedded.strategy import kinds

        kinds.load()
    return _RULES.get((group, kind), _PLAIN)
