"""``x-kubernetes-validations``: the CEL rules of a structural schema."""

from typing import Any

from raycp.embedded.errors import FieldError
from raycp.embedded.strategy.budget import budget
from raycp.embedded.strategy.causes import Errors, duplicate, forbidden, required, wrong
from raycp.embedded.strategy.cel import CelError, CostExceeded, Rule, compile_rule
from raycp.embedded.strategy.cel.operators import Optional
from raycp.embedded.strategy.cel.values import value_converter
from raycp.embedded.strategy.field_paths import field_path
from raycp.embedded.strategy.schema_nodes import NO_OLD, Schema, by_key, item_key, join

_MESSAGE_LIMIT = 5 * 1024
"""bytes of the result of a messageExpression (``MaxEvaluatedMessageExpressionSizeBytes``)"""
_NO_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class RuleSet:
    """The CEL rules of a schema node and of the nodes below it. False if there are none."""

    def __init__(self, schema: Schema, root: bool = False) -> None:
        self.rules: list[tuple[Schema, Rule, Rule | None]] = []
        for one in schema.get("x-kubernetes-validations") or ():
            message = one.get("messageExpression")
            self.rules.append((one, compile_rule(one["rule"]), compile_rule(message) if message else None))
        self._convert = value_converter(schema) if self.rules else None
        self._paths = {path: field_path(path, schema) or path for one, _, _ in self.rules if (path := one.get("fieldPath"))}
        self._type = str(schema.get("type") or "")
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
        """Append the errors of ``value``. ``old`` is ``NO_OLD`` if there is no old value. No rule runs after one that cost too
        much."""
        if value is None or budget().stopped:
            return
        unchanged = old is not NO_OLD and value == old
        for spec, rule, message in self.rules:
            if rule.transition and old is NO_OLD and not spec.get("optionalOldSelf"):
                continue
            if unchanged and not rule.transition:
                continue
            self._one(spec, rule, message, value, old, path, errors)
            if budget().stopped:
                return
        if type(value) is dict:
            was = old if type(old) is dict else {}
            for key, inner in value.items():
                if (judge := self.properties.get(key)) is not None:
                    judge.check(inner, was.get(key, NO_OLD), join(path, key), errors)
                elif self.others:  # a key of a map, where the other checks of a schema write a field
                    self.others.check(inner, was.get(key, NO_OLD), f"{path}[{key}]", errors)
        elif type(value) is list and self.items:
            before = by_key(old, self.keys) if self.correlates else {}
            for index, inner in enumerate(value):
                self.items.check(inner, before.get(item_key(inner, self.keys), NO_OLD), f"{path}[{index}]", errors)

    def _one(self, spec: Schema, rule: Rule, message: Rule | None, value: Any, old: Any, path: str, errors: Errors) -> None:
        named = (spec.get("message") or rule.text).strip()
        try:
            before = None if old is NO_OLD else old
            now = value
            if self._convert is not None:
                now, before = self._convert(value), self._convert(before)
            if spec.get("optionalOldSelf"):
                before = Optional(old is not NO_OLD, before)
            if rule.holds(now, before) is True:
                return
            text = _message(message, now, before) or (spec.get("message") or "").strip() or f"failed rule: {rule.text.strip()}"
        except CelError as error:
            overload = str(error).startswith("no such overload")
            does_not = "call arguments did not match a supported operator, function or macro signature for rule"
            text = f"'{error}': {does_not}: {named}" if overload else f"{error} evaluating rule: {named}"
            errors.append(wrong(path, self._type, text))
            return
        except CostExceeded:
            left = budget()
            left.stopped = True
            cancelled = "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to"
            over = f"{cancelled} call cost exceeds limit for rule: {named}" if left.units > 0 else _NO_BUDGET
            errors.append(wrong(path, self._type, over))
            return
        field = (path + self._paths.get(spec.get("fieldPath") or "", "")).removeprefix("" if path else ".")
        errors.append(_failed(field, value, text, spec.get("reason")))


def _message(message: Rule | None, value: Any, old: Any) -> str:
    """The text that a messageExpression makes; empty if it makes none that may be shown."""
    if message is None:
        return ""
    try:
        made = message.holds(value, old)
    except CelError:
        return ""
    text = made.strip() if isinstance(made, str) else ""
    return "" if "\n" in text or len(text.encode()) > _MESSAGE_LIMIT else text


def _failed(field: str, value: Any, text: str, reason: str | None) -> FieldError:
    """``fieldErrorForReason``. A value that is an object or a list is not shown."""
    if reason == "FieldValueForbidden":
        return forbidden(field, text)
    if reason == "FieldValueRequired":
        return required(field, text)
    whole = type(value) in (dict, list)
    if reason == "FieldValueDuplicate":
        return FieldError(reason, field, "Duplicate value") if whole else duplicate(field, value)
    return FieldError("FieldValueInvalid", field, f"Invalid value: {text}") if whole else wrong(field, value, text)
