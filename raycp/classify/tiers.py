"""Which tier an object belongs to: ``spec.tiers.rules`` compiled into checks that cost a microsecond or two.

The first rule that holds decides. A rule with ``tierFrom`` reads the tier's name off the object; objects that name
none are left to the next rule, and a name that is no tier falls to the default and is told as a problem.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from raycp.base.objects import Obj
from raycp.classify.fieldpath import FieldReader, parse_path
from raycp.config.tiers import TIERS, RuleWhen, TierRule, TiersSpec

_PRIORITY_PATHS = (
    ("spec", "priorityClassName"),
    ("spec", "template", "spec", "priorityClassName"),
    ("spec", "jobTemplate", "spec", "template", "spec", "priorityClassName"),
)

_Fields = dict[tuple[str, ...], str]
_Seen = tuple[Obj, str, Mapping[str, str], Callable[[], _Fields]]
_Check = Callable[[Obj, str, Mapping[str, str], Callable[[], _Fields]], bool]


class RuleError(ValueError):
    """Rules that can't be compiled: ``problems`` are pairs of YAML path and sentence."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(f"{path}: {message}" for path, message in self.problems))


class TierChoice(msgspec.Struct, frozen=True, gc=False):
    """An object's tier, the reason in words (for ``raycp why``), and what was wrong, if anything."""

    tier: str
    reason: str
    problem: str | None = None


class _Rule(msgspec.Struct, frozen=True):
    path: str
    checks: tuple[_Check, ...]
    choice: TierChoice | None
    source: Callable[[Obj, Callable[[], _Fields]], str | None] | None
    place: str


class TierRules:
    """Compiled rules. Immutable: a change of the fleet file compiles new ones."""

    def __init__(self, rules: Sequence[_Rule], reader: FieldReader | None, default: str, tiers: Collection[str]) -> None:
        self._rules = tuple(rules)
        self._reader = reader
        self._tiers = frozenset(tiers)
        self._default = TierChoice(default, "the default: no rule holds")

    @property
    def default(self) -> str:
        """The tier of objects that no rule decides."""
        return self._default.tier

    @classmethod
    def compile(cls, spec: TiersSpec, controllers: Collection[str] | None = None) -> "TierRules":
        """Compile ``spec.tiers``. ``controllers``: names of the fleet's controllers, if they are known by now.

        Raises ``RuleError`` naming each rule that can't match, by its YAML path.
        """
        problems: list[tuple[str, str]] = []
        compiled: list[_Rule] = []
        paths: list[tuple[str, ...]] = []
        for index, rule in enumerate(spec.rules):
            path = f"spec.tiers.rules[{index}]"
            found = list(_problems(rule, path, controllers))
            if not found:
                shadow = next((at for at in range(index) if _shadows(spec.rules[at], rule)), None)
                if shadow is not None:
                    found = [(path, f"can't match: spec.tiers.rules[{shadow}] holds wherever it does")]
            problems += found
            if not found:
                compiled.append(_compile(rule, path, paths))
        if problems:
            raise RuleError(problems)
        return cls(compiled, FieldReader(paths) if paths else None, spec.default, TIERS)

    def tier_of(self, obj: Obj, controller: str, cluster_labels: Mapping[str, str] | None = None) -> TierChoice:
        """The tier of ``obj`` as reconciled by ``controller``. Never raises: what is wrong is told in ``problem``."""
        labels = cluster_labels or {}
        values: _Fields | None = None

        def fields() -> _Fields:
            nonlocal values
            if values is None:
                values = self._reader.read(obj.raw) if self._reader else {}
            return values

        for rule in self._rules:
            if not all(check(obj, controller, labels, fields) for check in rule.checks):
                continue
            if rule.choice is not None:
                return rule.choice
            assert rule.source is not None
            named = rule.source(obj, fields)
            if named is None:
                continue
            if named in self._tiers:
                return TierChoice(named, f"{rule.place} names it ({rule.path})")
            shown = named if len(named) <= 40 else named[:37] + "..."
            problem = f"{rule.place} is {shown!r}, which is no tier; tiers are {', '.join(TIERS)}"
            return TierChoice(self.default, f"the default: {rule.place} names no tier ({rule.path})", problem)
        return self._default


def _compile(rule: TierRule, path: str, paths: list[tuple[str, ...]]) -> _Rule:
    when = rule.when
    checks: list[_Check] = []
    # Cheap checks first.
    if when.controller:
        checks.append(_controller_in(frozenset(when.controller)))
    if when.namespace:
        checks.append(_namespace_in(when.namespace))
    for key, values in when.cluster.items():
        checks.append(_cluster_label(key, frozenset(values)))
    for key, values in when.label.items():
        checks.append(_label(key, values))
    for key, values in when.annotation.items():
        checks.append(_annotation(key, values))
    for key, values in when.field.items():
        parts = parse_path(key)
        paths.append(parts)
        checks.append(_field((parts,), values))
    if when.priority_class:
        paths.extend(_PRIORITY_PATHS)
        checks.append(_field(_PRIORITY_PATHS, when.priority_class))
    if rule.tier is not None:
        return _Rule(path, tuple(checks), TierChoice(rule.tier, _words(when, path)), None, "")
    assert rule.tier_from is not None
    source = rule.tier_from
    if source.label is not None:
        return _Rule(path, tuple(checks), None, _from_label(source.label), f"label {source.label}")
    if source.annotation is not None:
        return _Rule(path, tuple(checks), None, _from_annotation(source.annotation), f"annotation {source.annotation}")
    assert source.field is not None
    parts = parse_path(source.field)
    paths.append(parts)
    return _Rule(path, tuple(checks), None, _from_field(parts), f"field {source.field}")


def _words(when: RuleWhen, path: str) -> str:
    parts = [f"{name} {key}={'|'.join(values)}" for name, conditions in
             (("label", when.label), ("annotation", when.annotation), ("field", when.field), ("cluster", when.cluster))
             for key, values in conditions.items()]  # fmt: skip
    for name, listed in (
        ("priorityClass", when.priority_class),
        ("namespace", when.namespace),
        ("controller", when.controller),
    ):
        if listed:
            parts.append(f"{name} {'|'.join(listed)}")
    return f"{' and '.join(parts) or 'holds for every object'} ({path})"


def _controller_in(names: frozenset[str]) -> _Check:
    return lambda obj, controller, labels, fields: controller in names


def _namespace_in(patterns: Sequence[str]) -> _Check:
    exact = frozenset(text for text in patterns if not text.endswith("*"))
    starts = tuple(text[:-1] for text in patterns if text.endswith("*"))

    def check(obj: Obj, controller: str, labels: Mapping[str, str], fields: Callable[[], _Fields]) -> bool:
        namespace = obj.meta.namespace
        return namespace in exact or (bool(starts) and bool(namespace) and namespace.startswith(starts))

    return check


def _cluster_label(key: str, values: frozenset[str]) -> _Check:
    if "*" in values:
        return lambda obj, controller, labels, fields: key in labels
    return lambda obj, controller, labels, fields: labels.get(key) in values


def _label(key: str, wanted: Sequence[str]) -> _Check:
    values, anything = frozenset(wanted), "*" in wanted

    def check(obj: Obj, controller: str, labels: Mapping[str, str], fields: Callable[[], _Fields]) -> bool:
        have = obj.meta.labels
        return have is not None and key in have and (anything or have[key] in values)

    return check


def _annotation(key: str, wanted: Sequence[str]) -> _Check:
    values, anything = frozenset(wanted), "*" in wanted

    def check(obj: Obj, controller: str, labels: Mapping[str, str], fields: Callable[[], _Fields]) -> bool:
        have = obj.meta.annotations
        return have is not None and key in have and (anything or have[key] in values)

    return check


def _field(places: Sequence[tuple[str, ...]], wanted: Sequence[str]) -> _Check:
    values, anything = frozenset(wanted), "*" in wanted

    def check(obj: Obj, controller: str, labels: Mapping[str, str], fields: Callable[[], _Fields]) -> bool:
        have = fields()
        return any(place in have and (anything or have[place] in values) for place in places)

    return check


def _from_label(key: str) -> Callable[[Obj, Callable[[], _Fields]], str | None]:
    return lambda obj, fields: obj.meta.labels.get(key) if obj.meta.labels else None


def _from_annotation(key: str) -> Callable[[Obj, Callable[[], _Fields]], str | None]:
    return lambda obj, fields: obj.meta.annotations.get(key) if obj.meta.annotations else None


def _from_field(parts: tuple[str, ...]) -> Callable[[Obj, Callable[[], _Fields]], str | None]:
    return lambda obj, fields: fields().get(parts)


def _problems(rule: TierRule, path: str, controllers: Collection[str] | None) -> Iterator[tuple[str, str]]:
    when = rule.when
    if (rule.tier is None) == (rule.tier_from is None):
        yield path, "must say either tier or tierFrom"
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


def _shadows(first: TierRule, later: TierRule) -> bool:
    """Whether ``first`` decides every object for which ``later`` holds."""
    # ``tierFrom`` leaves those that name no tier to the next rule; only the same source again can never be reached.
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
