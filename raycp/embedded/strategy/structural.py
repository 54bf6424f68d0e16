"""Structural schemas of CRDs: to shapes, and pruning, defaulting and validation of what is written.

Validation is compiled to closures per schema node; messages and causes follow kube-openapi's validator and
``apiextensions-apiserver/pkg/apiserver/validation``. On updates, errors at values that did not change are passed over
(ratcheting, KEP-4008).
"""

import re
from collections.abc import Callable
from typing import Any

from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.causes import (
    Errors,
    duplicate,
    not_supported,
    required,
    too_long,
    too_many,
    wrong,
    wrong_type,
)
from raycp.embedded.strategy.cel import CelError, Rule, compile_rule
from raycp.embedded.strategy.formats import FORMATS
from raycp.embedded.strategy.shapes import Shape

Schema = dict[str, Any]
Check = Callable[[Any, Any, str, Errors], None]
"""(value, old value or ``NO_OLD``, path, errors)"""


class _NoOld:
    """There is nothing to compare with."""


NO_OLD = _NoOld()
_KEEP = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_EMBEDDED = "x-kubernetes-embedded-resource"
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def shape_of(schema: Schema, name: str = "") -> Shape:
    """A schema as a shape, for field management."""
    if schema.get(_INT_OR_STRING):
        return _with(Shape(shapes.INTSTR), schema)
    kind = schema.get("type", "")
    if kind == "array":
        shape = Shape(shapes.LIST)
        shape.item = shape_of(schema.get("items") or {})
        shape.list_type = schema.get("x-kubernetes-list-type", "atomic")
        shape.list_keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        return _with(shape, schema)
    extra = schema.get("additionalProperties")
    properties = schema.get("properties") or {}
    if kind == "object" or properties:
        if isinstance(extra, dict) and not properties:
            shape = Shape(shapes.MAP)
            shape.item = shape_of(extra)
        else:
            shape = Shape(shapes.OBJECT, name)
            shape.fields = {key: shape_of(one) for key, one in properties.items()}
            shape.presence = dict.fromkeys(shape.fields, "p")
            if schema.get(_KEEP) or extra is True:
                shape.open = True
                shape.item = Shape(shapes.ANY)
            if schema.get(_EMBEDDED):
                shape.fields.setdefault("metadata", shapes.object_meta())
                for key in ("apiVersion", "kind"):
                    shape.fields.setdefault(key, Shape(shapes.STRING))
        shape.atomic = schema.get("x-kubernetes-map-type") == "atomic"
        return _with(shape, schema)
    return _with(Shape({"integer": shapes.INT64}.get(kind, kind) or shapes.ANY), schema)


def _with(shape: Shape, schema: Schema) -> Shape:
    shape.schema = schema
    return shape


def prune(schema: Schema, value: Any, path: str, dropped: list[str], root: bool = False) -> None:
    """Drop, in place, what the schema does not specify; ``dropped`` collects the paths."""
    if type(value) is list:
        items = schema.get("items")
        if items:
            for index, one in enumerate(value):
                prune(items, one, f"{path}[{index}]", dropped)
        return
    if type(value) is not dict:
        return
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    keep = schema.get(_KEEP) or extra is True
    meta = root or schema.get(_EMBEDDED)
    for key in list(value):
        if meta and key in ("apiVersion", "kind", "metadata"):
            continue
        here = f"{path}.{key}" if path else key
        if key in properties:
            prune(properties[key], value[key], here, dropped)
        elif isinstance(extra, dict):
            prune(extra, value[key], here, dropped)
        elif not keep:
            dropped.append(here)
            del value[key]


def deep_copy(value: Any) -> Any:
    """A copy that shares nothing."""
    if type(value) is dict:
        return {key: deep_copy(one) for key, one in value.items()}
    if type(value) is list:
        return [deep_copy(one) for one in value]
    return value


def has_defaults(schema: Schema) -> bool:
    """Whether a default stands anywhere inside."""
    if "default" in schema:
        return True
    extra = schema.get("additionalProperties")
    return (
        any(has_defaults(one) for one in (schema.get("properties") or {}).values())
        or (isinstance(extra, dict) and has_defaults(extra))
        or has_defaults(schema.get("items") or {})
        if schema
        else False
    )


def default(schema: Schema, value: Any) -> None:
    """Fill in defaults, in place. A null where null is not allowed is as nothing."""
    if type(value) is dict:
        properties = schema.get("properties") or {}
        for key, one in properties.items():
            if "default" in one and (key not in value or (value[key] is None and not one.get("nullable"))):
                value[key] = deep_copy(one["default"])
            if key in value:
                default(one, value[key])
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for key, inner in value.items():
                if key not in properties:
                    if inner is None and "default" in extra and not extra.get("nullable"):
                        value[key] = inner = deep_copy(extra["default"])
                    default(extra, inner)
    elif type(value) is list:
        items = schema.get("items")
        if items:
            for index, inner in enumerate(value):
                if inner is None and "default" in items and not items.get("nullable"):
                    value[index] = inner = deep_copy(items["default"])
                default(items, inner)


def compile_check(schema: Schema) -> Check:
    """The validator of a schema node: types, limits, enums, logic. Rules in CEL come separately."""
    checks = [*_type_checks(schema), *_limits(schema), *_logic(schema)]
    properties = {key: compile_check(one) for key, one in (schema.get("properties") or {}).items()}
    wanted = tuple(schema.get("required") or ())
    extra = schema.get("additionalProperties")
    others = compile_check(extra) if isinstance(extra, dict) else None
    items = compile_check(schema["items"]) if isinstance(schema.get("items"), dict) else None
    list_type = schema.get("x-kubernetes-list-type", "")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    nullable = schema.get("nullable", False)
    types = _allowed(schema)

    def check(value: Any, old: Any, path: str, errors: Errors) -> None:
        if old is not NO_OLD and value == old and type(value) is type(old):
            return
        if value is None and nullable:
            return
        if types and not _is_of(value, types):
            name = _json_type(value)
            shown = " or ".join(sorted(types))
            errors.append(wrong_type(path, name, f'{path or "<nil>"} in body must be of type {shown}: "{name}"'))
            return
        for one in checks:
            one(value, path, errors)
        if type(value) is dict:
            was = old if type(old) is dict else {}
            for key in wanted:
                if key not in value:
                    errors.append(required(_join(path, key)))
            for key, inner in value.items():
                judge = properties.get(key, others)
                if judge is not None:
                    judge(inner, was.get(key, NO_OLD), _join(path, key), errors)
        elif type(value) is list:
            if list_type in ("set", "map"):
                _unique(value, list_type, keys, path, errors)
            if items is not None:
                before = _by_key(old, keys) if list_type == "map" else {}
                for index, inner in enumerate(value):
                    was_item = before.get(_key(inner, keys), NO_OLD) if before else NO_OLD
                    items(inner, was_item, f"{path}[{index}]", errors)

    return check


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _allowed(schema: Schema) -> frozenset[str]:
    if schema.get(_INT_OR_STRING):
        return frozenset({"integer", "string"})
    return frozenset({schema["type"]}) if schema.get("type") else frozenset()


def _is_of(value: Any, types: frozenset[str]) -> bool:
    if type(value) is float and value.is_integer() and "integer" in types:
        return True
    return any(type(value) in _TYPES[name] for name in types)


def _json_type(value: Any) -> str:
    for name in ("object", "array", "string", "boolean", "integer", "number"):
        if type(value) in _TYPES[name]:
            return name
    return "null"


def _type_checks(schema: Schema) -> list[Callable[[Any, str, Errors], None]]:
    found: list[Callable[[Any, str, Errors], None]] = []
    form = schema.get("format")
    if form in FORMATS:
        accept = FORMATS[form]

        def check_format(value: Any, path: str, errors: Errors) -> None:
            if type(value) is str and not accept(value):
                errors.append(wrong(path, value, f"{path} in body must be of type {form}: {value!r}"))

        found.append(check_format)
    elif form in ("int32", "int64") and schema.get("type") == "integer":
        bits = 31 if form == "int32" else 63

        def check_width(value: Any, path: str, errors: Errors) -> None:
            if type(value) is int and not -(2**bits) <= value < 2**bits:
                errors.append(wrong(path, value, f"{path} in body must be of type {form}"))

        found.append(check_width)
    if schema.get(_EMBEDDED):
        found.append(_embedded)
    return found


def _embedded(value: Any, path: str, errors: Errors) -> None:
    if type(value) is dict:
        for key in ("apiVersion", "kind"):
            if not value.get(key):
                errors.append(required(_join(path, key), "must not be empty"))


def _limits(schema: Schema) -> list[Callable[[Any, str, Errors], None]]:
    found: list[Callable[[Any, str, Errors], None]] = []

    def number(value: Any, path: str, errors: Errors) -> None:
        if type(value) not in (int, float):
            return
        low, high, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
        if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
            than = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
            errors.append(wrong(path, value, f"{path} in body should be {than} {high}"))
        if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
            than = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
            errors.append(wrong(path, value, f"{path} in body should be {than} {low}"))
        if step and value % step:
            errors.append(wrong(path, value, f"{path} in body should be a multiple of {step}"))

    if any(schema.get(key) is not None for key in ("minimum", "maximum", "multipleOf")):
        found.append(number)
    pattern = re.compile(schema["pattern"]) if schema.get("pattern") else None

    def text(value: Any, path: str, errors: Errors) -> None:
        if type(value) is not str:
            return
        if schema.get("maxLength") is not None and len(value) > schema["maxLength"]:
            errors.append(too_long(path, schema["maxLength"]))
        if schema.get("minLength") is not None and len(value) < schema["minLength"]:
            limit = schema["minLength"]
            errors.append(wrong(path, value, f"{path} in body should be at least {limit} chars long"))
        if pattern is not None and pattern.search(value) is None:
            errors.append(wrong(path, value, f"{path} in body should match '{schema['pattern']}'"))

    if pattern is not None or any(schema.get(key) is not None for key in ("maxLength", "minLength")):
        found.append(text)

    def count(value: Any, path: str, errors: Errors) -> None:
        kind = "Items" if type(value) is list else "Properties" if type(value) is dict else ""
        if not kind:
            return
        low, high = schema.get(f"min{kind}"), schema.get(f"max{kind}")
        if low is not None and len(value) < low:
            errors.append(wrong(path, len(value), f"{path} in body should have at least {low} {kind.lower()}"))
        if high is not None and len(value) > high:
            errors.append(too_many(path, len(value), high))
        if kind == "Items" and schema.get("uniqueItems"):
            _unique(value, "set", (), path, errors)

    if schema.get("uniqueItems") or any(
        schema.get(key) is not None for key in ("minItems", "maxItems", "minProperties", "maxProperties")
    ):
        found.append(count)
    enum = schema.get("enum")
    if enum is not None:

        def member(value: Any, path: str, errors: Errors) -> None:
            if not any(value == one and type(value) is type(one) for one in enum):
                errors.append(not_supported(path, value, [str(one) for one in enum]))

        found.append(member)
    return found


def _logic(schema: Schema) -> list[Callable[[Any, str, Errors], None]]:
    found: list[Callable[[Any, str, Errors], None]] = []
    for word in ("allOf", "anyOf", "oneOf"):
        branches = schema.get(word)
        if not branches or (word == "anyOf" and schema.get(_INT_OR_STRING) and all(b.keys() <= {"type"} for b in branches)):
            continue
        found.append(_branches(word, [compile_check(one) for one in branches]))
    refused = schema.get("not")
    if refused:
        denied = compile_check(refused)

        def negate(value: Any, path: str, errors: Errors) -> None:
            inner: Errors = []
            denied(value, NO_OLD, path, inner)
            if not inner:
                errors.append(wrong(path, value, f"{path} must not validate the schema (not)"))

        found.append(negate)
    return found


def _nearest(results: list[Errors]) -> Errors:
    """What is wrong with the branch that fits best."""
    return min(results, key=len)


def _branches(word: str, checks: list[Check]) -> Callable[[Any, str, Errors], None]:
    def judge(value: Any, path: str, errors: Errors) -> None:
        results: list[Errors] = []
        for check in checks:
            inner: Errors = []
            check(value, NO_OLD, path, inner)
            results.append(inner)
        good = sum(1 for inner in results if not inner)
        if word == "allOf":
            for inner in results:
                errors.extend(inner)
            if good != len(checks):
                errors.append(wrong(path, value, f"{path} must validate all the schemas (allOf)"))
        elif word == "anyOf" and not good:
            errors.append(wrong(path, value, f"{path} must validate at least one schema (anyOf)"))
            errors.extend(_nearest(results))
        elif word == "oneOf" and good != 1:
            if not good:
                errors.extend(_nearest(results))
            tail = f"Found {good} valid alternatives" if good else "Found none valid"
            errors.insert(0, wrong(path, value, f"{path} must validate one and only one schema (oneOf). {tail}"))

    return judge


def _key(item: Any, keys: tuple[str, ...]) -> Any:
    return tuple(str(item.get(key)) for key in keys) if type(item) is dict else None


def _by_key(old: Any, keys: tuple[str, ...]) -> dict[Any, Any]:
    return {_key(one, keys): one for one in old} if type(old) is list else {}


def _unique(items: list[Any], kind: str, keys: tuple[str, ...], path: str, errors: Errors) -> None:
    seen: list[Any] = []
    for index, one in enumerate(items):
        if kind == "map" and type(one) is not dict:
            continue
        mine = {key: one[key] for key in keys if key in one} if kind == "map" else one
        if any(mine == other and type(mine) is type(other) for other in seen):
            errors.append(duplicate(f"{path}[{index}]", mine))
        seen.append(mine)


class RuleSet:
    """The CEL rules of a schema node and of what is below it; None stands for no rules."""

    def __init__(self, schema: Schema, root: bool = False) -> None:
        self.rules: list[tuple[Schema, Rule, Rule | None]] = []
        for one in schema.get("x-kubernetes-validations") or ():
            message = one.get("messageExpression")
            self.rules.append((one, compile_rule(one["rule"]), compile_rule(message) if message else None))
        self.properties: dict[str, RuleSet] = {}
        for key, one in (schema.get("properties") or {}).items():
            if not (root and key == "metadata"):
                inner = RuleSet(one)
                if inner:
                    self.properties[key] = inner
        extra, items = schema.get("additionalProperties"), schema.get("items")
        self.others = RuleSet(extra) if isinstance(extra, dict) else None
        self.items = RuleSet(items) if isinstance(items, dict) else None
        self.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        self.correlates = schema.get("x-kubernetes-list-type") == "map"
        self.root = root

    def __bool__(self) -> bool:
        return bool(self.rules or self.properties or self.others or self.items)

    def check(self, value: Any, old: Any, path: str, errors: Errors) -> None:
        """Append what the rules say. ``old`` is ``NO_OLD`` where there is nothing to compare with."""
        if value is None:
            return
        unchanged = old is not NO_OLD and value == old
        for spec, rule, message in self.rules:
            if rule.transition and old is NO_OLD and not spec.get("optionalOldSelf"):
                continue
            if unchanged and not rule.transition:
                continue
            self._one(spec, rule, message, value, old, path, errors)
        if type(value) is dict:
            was = old if type(old) is dict else {}
            for key, inner in value.items():
                judge = self.properties.get(key) or self.others
                if judge:
                    judge.check(inner, was.get(key, NO_OLD), _join(path, key), errors)
        elif type(value) is list and self.items:
            before = _by_key(old, self.keys) if self.correlates else {}
            for index, inner in enumerate(value):
                self.items.check(inner, before.get(_key(inner, self.keys), NO_OLD), f"{path}[{index}]", errors)

    def _one(self, spec: Schema, rule: Rule, message: Rule | None, value: Any, old: Any, path: str, errors: Errors) -> None:
        kind = spec.get("reason") or "FieldValueInvalid"
        field = path + spec["fieldPath"] if spec.get("fieldPath") else path
        field = field.lstrip(".") if not path else field
        before = None if old is NO_OLD else old
        try:
            good = rule.holds(value, before)
            if good is True:
                return
            text = spec.get("message") or f"failed rule: {rule.text.strip()}"
            if message is not None:
                text = str(message.holds(value, before))
        except CelError as error:
            text = f"rule evaluation error: {error}"
        shown = wrong(field, value if type(value) not in (dict, list) else _json_type(value), text)
        errors.append(shown._replace(type=kind))
