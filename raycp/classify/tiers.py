"""Which tier an object belongs to: ``spec.tiers.rules``, compiled.

The first rule that holds decides. A rule with ``tierFrom`` reads the tier's name off the object. The next rule is tried
for an object that names none; an object that names an unknown tier gets the default tier and a problem.

Every event of every object is classified, so that ``tier_of`` is one Python call for objects without special labels
or fields: rules are data that it interprets, and an object's body is decoded only if it contains a wanted field's name.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from raycp.base.objects import Obj
from raycp.classify.fieldpath import FieldReader, parse_path
from raycp.classify.tier_problems import rule_problems, shadows
from raycp.config.tiers import TIERS, RuleWhen, TierRule, TiersSpec

_PRIORITY_PATHS = (
    ("spec", "priorityClassName"),
    ("spec", "template", "spec", "priorityClassName"),
    ("spec", "jobTemplate", "spec", "template", "spec", "priorityClassName"),
)

_Path = tuple[str, ...]
_Fields = Mapping[_Path, str]
_Check = Callable[[Obj, str, Mapping[str, str]], bool]
"""(object, controller, labels of its cluster)"""
_NOTHING: Mapping[str, str] = {}
_NO_FIELDS: _Fields = {}


class RuleError(ValueError):
    """Rules that can't be compiled: ``problems`` are pairs of YAML path and sentence."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(f"{path}: {message}" for path, message in self.problems))


class TierChoice(msgspec.Struct, frozen=True, gc=False):
    """An object's tier, the reason in words (for ``raycp why``), and a problem of the object, if it has one."""

    tier: str
    reason: str
    problem: str | None = None


class _Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: ``checks`` and ``field_checks`` must hold; then ``choice``, or the tier that the object names."""

    path: str
    checks: tuple[_Check, ...]
    field_checks: tuple[Callable[[_Fields], bool], ...]
    reads_fields: bool
    choice: TierChoice | None = None
    label: str | None = None
    annotation: str | None = None
    field: _Path | None = None
    place: str = ""
    """the label, annotation or field that names the tier, in words"""
    named: Mapping[str, TierChoice] = {}
    """the choice for each tier that the object may name"""


class TierRules:
    """Compiled rules. Immutable: a change of the fleet file compiles new ones."""

    def __init__(self, rules: Sequence[_Rule], reader: FieldReader, default: str) -> None:
        self._rules = tuple(rules)
        self._reader = reader
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
        paths: list[_Path] = []
        for index, rule in enumerate(spec.rules):
            path = f"spec.tiers.rules[{index}]"
            found = list(rule_problems(rule, path, controllers))
            if not found:
                shadow = next((at for at in range(index) if shadows(spec.rules[at], rule)), None)
                if shadow is not None:
                    found = [(path, f"can't match: spec.tiers.rules[{shadow}] holds wherever it does")]
            problems += found
            if not found:
                compiled.append(_compile(rule, path, paths))
        if problems:
            raise RuleError(problems)
        return cls(compiled, FieldReader(paths), spec.default)

    def tier_of(self, obj: Obj, controller: str, cluster_labels: Mapping[str, str] | None = None) -> TierChoice:
        """The tier of ``obj`` as reconciled by ``controller``. Never raises: ``problem`` says what is wrong with the object."""
        values: _Fields | None = None
        for rule in self._rules:
            for check in rule.checks:
                if not check(obj, controller, cluster_labels or _NOTHING):
                    break
            else:
                if rule.reads_fields:
                    if values is None:
                        values = _NO_FIELDS
                        for needle in self._reader.needles:
                            if needle in obj.raw:
                                values = self._reader.read(obj.raw)
                                break
                    if rule.field_checks and not all(check(values) for check in rule.field_checks):
                        continue
                if rule.choice is not None:
                    return rule.choice
                if rule.label is not None:
                    named = obj.meta.labels.get(rule.label) if obj.meta.labels else None
                elif rule.annotation is not None:
                    named = obj.meta.annotations.get(rule.annotation) if obj.meta.annotations else None
                else:
                    named = values.get(rule.field) if values and rule.field else None
                if named is None:
                    continue
                return rule.named[named] if named in rule.named else self._unknown_tier(rule, named)
        return self._default

    def _unknown_tier(self, rule: _Rule, named: str) -> TierChoice:
        shown = named if len(named) <= 40 else named[:37] + "..."
        problem = f"{rule.place} is {shown!r}, which is no tier; tiers are {', '.join(TIERS)}"
        return TierChoice(self.default, f"the default: {rule.place} names no tier ({rule.path})", problem)


def _compile(rule: TierRule, path: str, paths: list[_Path]) -> _Rule:
    """Compile a rule without problems; append the paths of the fields that it reads to ``paths``."""
    when = rule.when
    checks: list[_Check] = []
    field_checks: list[Callable[[_Fields], bool]] = []
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
        field_checks.append(_field((parts,), values))
    if when.priority_class:
        paths.extend(_PRIORITY_PATHS)
        field_checks.append(_field(_PRIORITY_PATHS, when.priority_class))
    if rule.tier is not None:
        choice = TierChoice(rule.tier, _words(when, path))
        return _Rule(
            path=path,
            checks=tuple(checks),
            field_checks=tuple(field_checks),
            reads_fields=bool(field_checks),
            choice=choice,
        )
    assert rule.tier_from is not None
    source = rule.tier_from
    field = parse_path(source.field) if source.field is not None else None
    if field is not None:
        paths.append(field)
    kind, name = next(
        (kind, name)
        for kind, name in (("label", source.label), ("annotation", source.annotation), ("field", source.field))
        if name is not None
    )
    place = f"{kind} {name}"
    return _Rule(
        path=path,
        checks=tuple(checks),
        field_checks=tuple(field_checks),
        reads_fields=bool(field_checks) or field is not None,
        label=source.label,
        annotation=source.annotation,
        field=field,
        place=place,
        named={tier: TierChoice(tier, f"{place} names it ({path})") for tier in TIERS},
    )


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
    return lambda obj, controller, labels: controller in names


def _namespace_in(patterns: Sequence[str]) -> _Check:
    exact = frozenset(text for text in patterns if not text.endswith("*"))
    starts = tuple(text[:-1] for text in patterns if text.endswith("*"))

    def check(obj: Obj, controller: str, labels: Mapping[str, str]) -> bool:
        namespace = obj.meta.namespace
        return namespace in exact or (bool(starts) and bool(namespace) and namespace.startswith(starts))

    return check


def _cluster_label(key: str, values: frozenset[str]) -> _Check:
    if "*" in values:
        return lambda obj, controller, labels: key in labels
    return lambda obj, controller, labels: labels.get(key) in values


def _label(key: str, wanted: Sequence[str]) -> _Check:
    values, anything = frozenset(wanted), "*" in wanted

    def check(obj: Obj, controller: str, labels: Mapping[str, str]) -> bool:
        have = obj.meta.labels
        return have is not None and key in have and (anything or have[key] in values)

    return check


def _annotation(key: str, wanted: Sequence[str]) -> _Check:
    values, anything = frozenset(wanted), "*" in wanted

    def check(obj: Obj, controller: str, labels: Mapping[str, str]) -> bool:
        have = obj.meta.annotations
        return have is not None and key in have and (anything or have[key] in values)

    return check


def _field(places: Sequence[_Path], wanted: Sequence[str]) -> Callable[[_Fields], bool]:
    values, anything = frozenset(wanted), "*" in wanted
    return lambda have: any(place in have and (anything or have[place] in values) for place in places)
