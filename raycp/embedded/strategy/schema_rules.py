"""``x-kubernetes-validations``: the CEL rules of a structural schema."""

from typing import Any

from raycp.embedded.strategy.budget import budget
from raycp.embedded.strategy.causes import (
    Errors,
    wrong,
)
from raycp.embedded.strategy.cel import CelError, CostExceeded, Rule, compile_rule
from raycp.embedded.strategy.schema_nodes import NO_OLD, Schema, by_key, item_key, join, json_type


class RuleSet:
    """The CEL rules of a schema node and of the nodes below it. False if there are none."""

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
                judge = self.properties.get(key) or self.others
                if judge:
                    judge.check(inner, was.get(key, NO_OLD), join(path, key), errors)
        elif type(value) is list and self.items:
            before = by_key(old, self.keys) if self.correlates else {}
            for index, inner in enumerate(value):
                self.items.check(inner, before.get(item_key(inner, self.keys), NO_OLD), f"{path}[{index}]", errors)

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
        except CostExceeded:
            left = budget()
            left.stopped = True
            kind = "FieldValueInvalid"
            text = "validation failed due to running out of cost budget, no further validation rules will be run"
            if left.units > 0:
                text = (
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost "
                    f"exceeds limit for rule: {(spec.get('message') or rule.text).strip()}"
                )
        shown = wrong(field, value if type(value) not in (dict, list) else json_type(value), text)
        errors.append(shown._replace(type=kind))
