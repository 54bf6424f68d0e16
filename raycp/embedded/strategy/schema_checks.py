"""Validation of custom resources against their structural schema, compiled to one closure per schema node.

Messages and causes follow kube-openapi's validator and ``apiextensions-apiserver/pkg/apiserver/validation``. An update
does not report errors at values that it does not change (ratcheting, KEP-4008).
"""

from collections.abc import Callable
from typing import Any

import msgspec

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
from raycp.embedded.strategy.formats import FORMATS
from raycp.embedded.strategy.patterns import MatchTooCostly, Pattern, PatternRefused
from raycp.embedded.strategy.schema_nodes import (
    EMBEDDED,
    INT_OR_STRING,
    JSON_TYPES,
    NO_OLD,
    Schema,
    by_key,
    item_key,
    join,
    json_type,
)

Check = Callable[[Any, Any, str, Errors], None]
"""(value, old value or ``NO_OLD``, path, errors)"""


def compile_check(schema: Schema) -> Check:
    """Compile the validator of a schema node: types, limits, enums, logic. ``schema_rules`` has the CEL rules."""
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
            name = json_type(value)
            shown = " or ".join(sorted(types))
            errors.append(wrong_type(path, name, f'{path or "<nil>"} in body must be of type {shown}: "{name}"'))
            return
        for one in checks:
            one(value, path, errors)
        if type(value) is dict:
            was = old if type(old) is dict else {}
            for key in wanted:
                if key not in value:
                    errors.append(required(join(path, key)))
            for key, inner in value.items():
                judge = properties.get(key, others)
                if judge is not None:
                    judge(inner, was.get(key, NO_OLD), join(path, key), errors)
        elif type(value) is list:
            if list_type in ("set", "map"):
                _unique(value, list_type, keys, path, errors)
            if items is not None:
                before = by_key(old, keys) if list_type == "map" else {}
                for index, inner in enumerate(value):
                    was_item = before.get(item_key(inner, keys), NO_OLD) if before else NO_OLD
                    items(inner, was_item, f"{path}[{index}]", errors)

    return check


def _allowed(schema: Schema) -> frozenset[str]:
    if schema.get(INT_OR_STRING):
        return frozenset({"integer", "string"})
    return frozenset({schema["type"]}) if schema.get("type") else frozenset()


def _is_of(value: Any, types: frozenset[str]) -> bool:
    if type(value) is float and value.is_integer() and "integer" in types:
        return True
    return any(type(value) in JSON_TYPES[name] for name in types)


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
    if schema.get(EMBEDDED):
        found.append(_embedded)
    return found


def _embedded(value: Any, path: str, errors: Errors) -> None:
    if type(value) is dict:
        for key in ("apiVersion", "kind"):
            if not value.get(key):
                errors.append(required(join(path, key), "must not be empty"))


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
    pattern = schema.get("pattern")

    def text(value: Any, path: str, errors: Errors) -> None:
        if type(value) is not str:
            return
        if schema.get("maxLength") is not None and len(value) > schema["maxLength"]:
            errors.append(too_long(path, schema["maxLength"]))
        if schema.get("minLength") is not None and len(value) < schema["minLength"]:
            limit = schema["minLength"]
            errors.append(wrong(path, value, f"{path} in body should be at least {limit} chars long"))
        if pattern:
            why = _mismatch(pattern, value)
            if why:
                errors.append(wrong(path, value, f"{path} in body {why}"))

    if pattern or any(schema.get(key) is not None for key in ("maxLength", "minLength")):
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

        simple = {(type(one), one) for one in enum if type(one) not in (dict, list)}
        others = [one for one in enum if type(one) in (dict, list)]

        def member(value: Any, path: str, errors: Errors) -> None:
            known = (type(value), value) in simple if type(value) not in (dict, list) else value in others
            if not known:
                errors.append(not_supported(path, value, [str(one) for one in enum]))

        found.append(member)
    return found


def _mismatch(pattern: str, value: str) -> str:
    """Why ``value`` does not match; empty if it does. A pattern is compiled when it is used: RE2 keeps the last ones."""
    try:
        return "" if Pattern(pattern).found_in(value) else f"should match '{pattern}'"
    except PatternRefused as error:
        return f"should match '{pattern}', which is no regular expression: {error}"
    except MatchTooCostly:
        return f"should match '{pattern}', and is too large to be compared: the patterns of an object may cost so much and no more"


def _logic(schema: Schema) -> list[Callable[[Any, str, Errors], None]]:
    found: list[Callable[[Any, str, Errors], None]] = []
    for word in ("allOf", "anyOf", "oneOf"):
        branches = schema.get(word)
        if not branches or (word == "anyOf" and schema.get(INT_OR_STRING) and all(b.keys() <= {"type"} for b in branches)):
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
    """The errors of the branch with the fewest."""
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


def _unique(items: list[Any], kind: str, keys: tuple[str, ...], path: str, errors: Errors) -> None:
    seen: set[bytes] = set()
    for index, one in enumerate(items):
        if kind == "map" and type(one) is not dict:
            continue
        mine = {key: one[key] for key in keys if key in one} if kind == "map" else one
        text = msgspec.json.encode(mine, order="sorted")
        if text in seen:
            errors.append(duplicate(f"{path}[{index}]", mine))
        seen.add(text)
