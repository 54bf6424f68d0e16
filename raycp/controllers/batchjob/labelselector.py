"""``LabelSelector`` of ``metav1``: of Pods (``spec.selector``), and of clusters (``spec.placement``)."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from raycp.controllers.batchjob.podtemplate import LabelValue
from raycp.controllers.batchjob.validation import INVALID, REQUIRED, SpecRule, cel_rules
from raycp.controllers.crdmodel import CrdModel

SELECTOR_LIMIT = 64
"""Labels, expressions, and values of one expression."""

LabelKey = Annotated[str, Field(max_length=317)]

SELECTOR_RULES: Sequence[SpecRule] = (
    SpecRule(
        ".values",
        REQUIRED,
        "must be specified when `operator` is 'In' or 'NotIn'",
        "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
        lambda each: each.operator not in ("In", "NotIn") or bool(each.values),
    ),
    SpecRule(
        ".values",
        INVALID,
        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        "self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",
        lambda each: each.operator in ("In", "NotIn") or not each.values,
    ),
)
"""Of each expression (``ValidateLabelSelectorRequirement`` of apimachinery)."""


class SelectorRequirement(CrdModel):
    """One requirement on a label."""

    model_config = ConfigDict(json_schema_extra=cel_rules(SELECTOR_RULES))
    key: LabelKey = Field(description="The label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label relates to the values.")
    values: list[LabelValue] | None = Field(default=None, max_length=SELECTOR_LIMIT, description="For In and NotIn.")


class LabelSelector(CrdModel):
    """Labels that must be there; all requirements hold together."""

    match_labels: dict[str, LabelValue] | None = Field(
        default=None, max_length=SELECTOR_LIMIT, description="Labels and their values."
    )
    match_expressions: list[SelectorRequirement] | None = Field(
        default=None, max_length=SELECTOR_LIMIT, description="All must hold."
    )


def expressions_of(selector: LabelSelector | None, path: str) -> list[tuple[Sequence[SpecRule], Any, str]]:
    """(rules, value, path) of each of its expressions, to be checked."""
    expressions = (selector.match_expressions if selector is not None else None) or ()
    return [(SELECTOR_RULES, each, f"{path}.matchExpressions[{at}]") for at, each in enumerate(expressions)]
