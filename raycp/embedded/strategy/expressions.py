"""The expressions of a CRD: regular expressions and CEL rules. Each is compiled when the CRD is written, and what all of them may
cost is bounded.
"""

from collections.abc import Iterator
from typing import Any

from raycp.embedded.strategy.causes import Errors, forbidden, required, wrong
from raycp.embedded.strategy.cel import CelRefused, compile_rule
from raycp.embedded.strategy.patterns import Pattern, PatternRefused

Schema = dict[str, Any]

PATTERN_LIMIT = 500_000
"""instructions of all patterns of a CRD: less than a second of compilation"""
RULE_LIMIT = 250_000
"""characters of all CEL expressions of a CRD: about a second of compilation"""


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
        """Compile every CEL rule; one that the interpreter does not support is an error, never skipped."""
        for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
            here = f"{field}.x-kubernetes-validations[{index}]"
            if not str(rule.get("rule", "")).strip():
                errors.append(required(f"{here}.rule", "rule is not specified"))
                continue
            for key in ("rule", "messageExpression"):
                if rule.get(key):
                    self._rule(rule[key], f"{here}.{key}", errors)
        for key, one in (schema.get("properties") or {}).items():
            if isinstance(one, dict):
                self.rules(one, f"{field}.properties[{key}]", errors)
        for key in ("additionalProperties", "items"):
            if isinstance(schema.get(key), dict):
                self.rules(schema[key], f"{field}.{key}", errors)

    def _rule(self, text: str, field: str, errors: Errors) -> None:
        told = self._characters > RULE_LIMIT
        self._characters += len(text)
        if self._characters > RULE_LIMIT:
            if not told:
                errors.append(forbidden(field, f"the CEL expressions of a CRD may have {RULE_LIMIT} characters together"))
            return
        try:
            compile_rule(text)
        except CelRefused as error:
            errors.append(wrong(field, text, f"compilation failed: ERROR: <input>: {error}"))


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
