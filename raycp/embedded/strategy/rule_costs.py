"""What the rules of a CRD are estimated to cost, and the limits of that (``ValidateCustomResourceDefinition``).

A rule's cost is that of one evaluation times the number of values that it may be evaluated for. Both are by the schema: what it
does not bound is as large as a request may be.
"""

from typing import Any, NamedTuple

from raycp.embedded.strategy.causes import Errors, forbidden
from raycp.embedded.strategy.cel.declared import MAX_REQUEST
from raycp.embedded.strategy.cel.sizes import UNLIMITED

Schema = dict[str, Any]
RULE_COST_LIMIT = 10_000_000
"""units of one rule (``StaticEstimatedCostLimit``)"""
CRD_COST_LIMIT = 100_000_000
"""units of all rules of one version's schema (``StaticEstimatedCRDCostLimit``)"""
_TOLD = 4


class Place(NamedTuple):
    """Where a schema node is: how often it may occur, and the node above that a change cannot be followed through."""

    occurs: int | None = 1
    """nothing if it is not bounded"""
    uncorrelated: str = ""

    def below(self, schema: Schema, field: str) -> "Place":
        """Of the values in ``schema``'s values."""
        lost = self.uncorrelated
        kind = schema.get("x-kubernetes-list-type")
        if schema.get("type") == "array" and kind != "map" and not lost:
            lost = field
        if isinstance(schema.get("additionalProperties"), dict) and schema.get("x-kubernetes-map-type") not in (
            None,
            "granular",
            "atomic",
        ):
            lost = lost or field
        most = _most(schema)
        count = None if self.occurs is None or most is None else min(self.occurs * most, UNLIMITED)
        return Place(count, lost)

    def times(self, smallest: int) -> int:
        """How many values there may be, each of at least ``smallest`` bytes."""
        return MAX_REQUEST // (smallest + 1) if self.occurs is None else self.occurs


def _most(schema: Schema) -> int | None:
    if schema.get("type") == "array":
        limit = schema.get("maxItems")
    elif isinstance(schema.get("additionalProperties"), dict):
        limit = schema.get("maxProperties")
    else:
        return 1
    return None if limit is None else max(0, int(limit))


class RuleCosts:
    """Of one schema."""

    def __init__(self) -> None:
        self.total = 0
        self._expensive: list[tuple[int, str]] = []

    def add(self, what: str, cost: int, field: str, errors: Errors) -> None:
        """Count a rule's cost; too much is an error. ``what``: "rule" or "messageExpression"."""
        if cost > RULE_COST_LIMIT:
            errors.append(forbidden(field, _exceeds(f"estimated {what} cost", cost, RULE_COST_LIMIT)))
        self.total = min(self.total + cost, UNLIMITED)
        if cost >= CRD_COST_LIMIT // 100:
            self._expensive = sorted([*self._expensive, (cost, field)], key=lambda one: -one[0])[:_TOLD]

    def finish(self, field: str, errors: Errors) -> None:
        """Too much for all together is an error of the most expensive ones and of the whole."""
        if self.total <= CRD_COST_LIMIT:
            return
        text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        errors.extend(forbidden(path, text) for _, path in self._expensive)
        whole = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        errors.append(forbidden(field, _exceeds(whole, self.total, CRD_COST_LIMIT)))


def exceeds_rule_budget(message: str) -> bool:
    """Whether an error is of one rule's estimated cost."""
    return message.startswith(("Forbidden: estimated rule cost exceeds", "Forbidden: estimated messageExpression cost exceeds"))


def _exceeds(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    times = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {times} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength "
        "where arrays, maps, and strings are declared)"
    )
