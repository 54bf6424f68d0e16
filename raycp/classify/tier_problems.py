"""Rules of ``spec.tiers.rules`` that are malformed, or that no object can reach."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from raycp.classify.fieldpath import parse_path
from raycp.config.tiers import TIERS, TierRule


def rule_problems(rule: TierRule, path: str, controllers: Collection[str] | None) -> Iterator[tuple[str, str]]:
    """What is wrong with one rule, as pairs of YAML path and sentence. ``controllers``: the fleet's, if they are known."""
    when = rule.when
    if (rule.tier is None) == (rule.tier_from is None):
        yield path, "must have either tier or tierFrom"
    if rule.tier is not None and rule.tier not in TIERS:
        yield f"{path}.tier", f"{rule.tier!r} is no tier; tiers are {', '.join(TIERS)}"
    source = rule.tier_from
    if source is not None and sum(place is not None for place in (source.label, source.annotation, source.field)) != 1:
        yield f"{path}.tierFrom", "must name exactly one of label, annotation, field"
    fields: list[tuple[str, str]] = [(f"{path}.when.field.{key}", key) for key in when.field]
    if source is not None and source.field is not None:
        fields.append((f"{path}.tierFrom.field", source.field))
    for where, text in fields:
        try:
            parse_path(text)
        except ValueError as error:
            yield where, f"can't match: {error}"
    conditions: list[tuple[str, Mapping[str, Any]]] = [
        ("label", when.label), ("annotation", when.annotation), ("field", when.field), ("cluster", when.cluster),
    ]  # fmt: skip
    for name, mapping in conditions:
        for key, values in mapping.items():
            if not values:
                yield f"{path}.when.{name}.{key}", "can't match: it lists no value"
    if controllers is not None:
        for wanted in when.controller:
            if wanted not in controllers:
                yield f"{path}.when.controller", f"can't match: {wanted!r} is no controller of this fleet"


def shadows(first: TierRule, later: TierRule) -> bool:
    """Whether ``first`` decides every object for which ``later`` holds."""
    # Objects that name no tier go on to the rule after a ``tierFrom``, so that only a repetition of the same source is
    # never reached.
    if first.tier is None and later.tier_from != first.tier_from:
        return False
    a, b = first.when, later.when
    for mine, theirs in ((a.label, b.label), (a.annotation, b.annotation), (a.field, b.field), (a.cluster, b.cluster)):
        for key, values in mine.items():
            narrower = theirs.get(key)
            if narrower is None or not ("*" in values or set(narrower) <= set(values)):
                return False
    for listed, narrower in ((a.priority_class, b.priority_class), (a.controller, b.controller)):
        if listed and not (narrower and set(narrower) <= set(listed)):
            return False
    return not a.namespace or (bool(b.namespace) and all(_within(text, a.namespace) for text in b.namespace))


def _within(text: str, patterns: Sequence[str]) -> bool:
    """Whether a namespace, or a pattern of namespaces, lies within one of the patterns."""
    return any(text == other or (other.endswith("*") and text.startswith(other[:-1])) for other in patterns)
