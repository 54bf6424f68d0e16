"""Validation of what constrains a Pod's placement: selectors, affinity, topology spread, tolerations."""

from collections.abc import Iterable
from typing import Any

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import (
    Errors,
    forbidden,
    not_supported,
    required,
    wrong,
)
from raycp.embedded.strategy.metadata import check_labels
from raycp.embedded.strategy.rules import Object

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _selector(selector: Any, field: str, errors: Errors) -> None:
    if selector:
        label_selector(selector, field, errors)


def label_selector(selector: Object, field: str, errors: Errors) -> None:
    """``ValidateLabelSelector``."""
    if selector.get("matchLabels"):
        check_labels(selector["matchLabels"], f"{field}.matchLabels", errors)
    for index, term in enumerate(selector.get("matchExpressions") or ()):
        here = f"{field}.matchExpressions[{index}]"
        operator, values = term.get("operator"), term.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                errors.append(forbidden(f"{here}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
        else:
            errors.append(wrong(f"{here}.operator", operator or "", "not a valid selector operator"))
        for text in names.qualified_name(term.get("key", "")):
            errors.append(wrong(f"{here}.key", term.get("key", ""), text))
        for number, value in enumerate(values):
            for text in names.label_value(value):
                errors.append(wrong(f"{here}.values[{number}]", value, text))


def affinity_terms(affinity: Any, field: str, errors: Errors) -> None:
    if not affinity:
        return
    node = affinity.get("nodeAffinity") or {}
    wanted = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if wanted is not None and not wanted.get("nodeSelectorTerms"):
        here = f"{field}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        errors.append(required(here, "must have at least one node selector term"))
    for kind in ("podAffinity", "podAntiAffinity"):
        part = affinity.get(kind) or {}
        for index, term in enumerate(part.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            here = f"{field}.{kind}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"
            _selector(term.get("labelSelector"), f"{here}.labelSelector", errors)
            if not term.get("topologyKey"):
                errors.append(required(f"{here}.topologyKey", "can not be empty"))


def topology_spread(constraints: Iterable[Object], field: str, errors: Errors) -> None:
    for index, one in enumerate(constraints):
        here = f"{field}[{index}]"
        if one.get("maxSkew", 0) <= 0:
            errors.append(wrong(f"{here}.maxSkew", one.get("maxSkew", 0), "must be greater than zero"))
        if not one.get("topologyKey"):
            errors.append(required(f"{here}.topologyKey", "can not be empty"))
        action = one.get("whenUnsatisfiable", "")
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            errors.append(not_supported(f"{here}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway")))
        _selector(one.get("labelSelector"), f"{here}.labelSelector", errors)


def tolerations(found: Iterable[Object], field: str, errors: Errors) -> None:
    """``ValidateTolerations``."""
    for index, one in enumerate(found):
        here = f"{field}[{index}]"
        key, operator = one.get("key", ""), one.get("operator", "")
        if key:
            for text in names.qualified_name(key):
                errors.append(wrong(f"{here}.key", key, text))
        elif operator != "Exists":
            errors.append(
                wrong(
                    f"{here}.operator",
                    operator,
                    'operator must be Exists when `key` is empty, which means "match all values and all keys"',
                )
            )
        if one.get("tolerationSeconds") is not None and one.get("effect") != "NoExecute":
            errors.append(
                wrong(
                    f"{here}.effect",
                    one.get("effect", ""),
                    "effect must be 'NoExecute' when `tolerationSeconds` is set",
                )
            )
        if operator in ("Equal", ""):
            for text in names.label_value(one.get("value", "")):
                errors.append(wrong(f"{here}.operator", one.get("value", ""), text))
        elif operator == "Exists":
            if one.get("value"):
                errors.append(wrong(f"{here}.operator", one, "value must be empty when `operator` is 'Exists'"))
        elif operator not in ("Lt", "Gt"):
            errors.append(not_supported(f"{here}.operator", operator, ("Equal", "Exists")))
        if one.get("effect") and one["effect"] not in _EFFECTS:
            errors.append(not_supported(f"{here}.effect", one["effect"], _EFFECTS))
