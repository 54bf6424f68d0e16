"""The expressions of a CRD: regular expressions and CEL rules. Each is compiled when the CRD is written, and what all of them may
cost is bounded.
"""

from collections.abc import Iterator
from typing import Any

from raycp.embedded.errors import FieldError
from raycp.embedded.strategy.causes import Errors, forbidden, wrong
from raycp.embedded.strategy.cel import CelRefused, check_expression
from raycp.embedded.strategy.cel.checker import Environment
from raycp.embedded.strategy.cel.compiler import uses
from raycp.embedded.strategy.cel.declared import Declared, declare
from raycp.embedded.strategy.cel.estimate import estimate
from raycp.embedded.strategy.cel.sizes import UNLIMITED
from raycp.embedded.strategy.cel.types import BOOL, STRING, optional_of
from raycp.embedded.strategy.patterns import Pattern, PatternRefused
from raycp.embedded.strategy.rule_costs import Place, RuleCosts
from raycp.embedded.strategy.rule_forms import refused_rule, rule_form

Schema = dict[str, Any]

PATTERN_LIMIT = 500_000
"""instructions of all patterns of a CRD: less than a second of compilation"""
RULE_LIMIT = 150_000
"""characters of all CEL expressions of a CRD: about a second of checks and compilation"""


class Expressions:
    """Of one CRD, over all its versions."""

    def __init__(self) -> None:
        self._instructions = 0
        self._characters = 0

    def patterns(self, schema: Schema, field: str, errors: Errors) -> None:
        """Compile the patterns; the first one that is refused ends it."""
        for path, text in _patterns(schema, field):
            try:
                self._instructions += Pattern(text).size
            except PatternRefused as error:
                errors.append(wrong(path, text, f"must be a valid regular expression, but isn't: {error}"))
                return
            if self._instructions > PATTERN_LIMIT:
                errors.append(forbidden(path, f"the patterns of a CRD may have {PATTERN_LIMIT} instructions together"))
                return

    def rules(self, schema: Schema, field: str, errors: Errors) -> None:
        """Check every CEL rule of a whole schema: its form, its types, and what it may cost."""
        found: Errors = []
        costs = RuleCosts()
        self._node(schema, field, Place(), None, True, costs, found)
        costs.finish(field, found)
        errors.extend(found)

    def _node(
        self, schema: Schema, field: str, place: Place, declared: Declared | None, root: bool, costs: RuleCosts, errors: Errors
    ) -> None:
        """A node, after those below it. ``declared``: what a node above with rules says of it."""
        validations = schema.get("x-kubernetes-validations") or ()
        if declared is None and validations:
            declared = declare(schema, root or bool(schema.get("x-kubernetes-embedded-resource")))
        below = place.below(schema, field)
        before = len(errors)
        inner = declared.items if declared is not None else None
        for key, one in (schema.get("properties") or {}).items():
            if isinstance(one, dict) and not (root and key == "metadata"):
                known = declared.fields.get(key) if declared is not None else None
                self._node(one, f"{field}.properties[{key}]", below, known, False, costs, errors)
        for key in ("additionalProperties", "items"):
            if isinstance(schema.get(key), dict):
                self._node(schema[key], f"{field}.{key}", below, inner, False, costs, errors)
        for index, rule in enumerate(validations):
            rule_form(rule, schema, f"{field}.x-kubernetes-validations[{index}]", errors)
        if not validations or len(errors) > before:
            return
        if declared is None:
            text = "internal error: failed to retrieve type information for x-kubernetes-validations"
            errors.append(FieldError("InternalError", f"{field}.x-kubernetes-validations", f"Internal error: {text}"))
            return
        named = declared.named("selfType")
        for index, rule in enumerate(validations):
            self._rule(rule, named, place, f"{field}.x-kubernetes-validations[{index}]", costs, errors)

    def _rule(self, rule: Schema, declared: Declared, place: Place, field: str, costs: RuleCosts, errors: Errors) -> None:
        texts = [rule["rule"], *([rule["messageExpression"]] if rule.get("messageExpression") else [])]
        told = self._characters > RULE_LIMIT
        self._characters += sum(map(len, texts))
        if self._characters > RULE_LIMIT:
            if not told:
                errors.append(forbidden(f"{field}.rule", f"the CEL expressions of a CRD may have {RULE_LIMIT} characters together"))
            return
        old = optional_of(declared.type) if rule.get("optionalOldSelf") else declared.type
        environment = Environment({"self": declared.type, "oldSelf": old}, declared.objects())
        for key, text, wanted in zip(("rule", "messageExpression"), texts, (BOOL, STRING), strict=False):
            try:
                checked = check_expression(text, environment)
                if checked.result != wanted:
                    what = "cel expression must evaluate to a bool"
                    raise CelRefused(what if key == "rule" else "messageExpression must evaluate to a string")
            except CelRefused as error:
                prefix = "messageExpression " if key != "rule" and str(error).startswith("compilation failed") else ""
                errors.append(refused_rule(f"{field}.{key}", rule, f"{prefix}{error}"))
                continue
            cost = estimate(checked, declared) * (place.times(declared.smallest) if key == "rule" else 1)
            costs.add(key, min(cost, UNLIMITED), f"{field}.{key}", errors)
            if key == "rule":
                self._old(rule, uses(checked.tree, "oldSelf"), place, field, errors)

    @staticmethod
    def _old(rule: Schema, used: bool, place: Place, field: str, errors: Errors) -> None:
        if used and place.uncorrelated:
            text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelated}"
            errors.append(wrong(f"{field}.rule", rule["rule"], text))
        elif not used and rule.get("optionalOldSelf") is not None:
            text = "may not be set if oldSelf is not used in rule"
            errors.append(wrong(f"{field}.optionalOldSelf", rule["optionalOldSelf"], text))


def _patterns(schema: Schema, field: str) -> Iterator[tuple[str, str]]:
    """Each pattern below a schema node, with its path."""
    if schema.get("pattern"):
        yield f"{field}.pattern", schema["pattern"]
    for key, one in (schema.get("properties") or {}).items():
        if isinstance(one, dict):
            yield from _patterns(one, f"{field}.properties[{key}]")
    for key in ("additionalProperties", "items", "not"):
        if isinstance(schema.get(key), dict):
            yield from _patterns(schema[key], f"{field}.{key}")
    for key in ("allOf", "anyOf", "oneOf"):
        for index, one in enumerate(schema.get(key) or ()):
            if isinstance(one, dict):
                yield from _patterns(one, f"{field}.{key}[{index}]")
