"""ResourceQuota and LimitRange."""

from fractions import Fraction
from typing import Any

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import Errors, duplicate, forbidden, immutable, required, wrong
from raycp.embedded.strategy.rules import register
from raycp.embedded.strategy.scalars import parse_quantity, quantity_value

Object = dict[str, Any]

_POD_SCOPES = frozenset(
    {"Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"}
)
_CLAIM_SCOPE = "VolumeAttributesClass"
_EXCLUSIVE = (frozenset({"BestEffort", "NotBestEffort"}), frozenset({"Terminating", "NotTerminating"}))
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
COMPUTE = ("cpu", "memory", "ephemeral-storage")
HUGE = ("hugepages-", "requests.hugepages-")
"""prefixes of the resources of huge pages"""
COUNTED = frozenset({"configmaps", "replicationcontrollers", "resourcequotas", "secrets"})
"""core resources whose count has a name without ``count/`` too"""
OF_PODS = frozenset({"pods", *COMPUTE, *(f"{part}.{name}" for part in ("requests", "limits") for name in COMPUTE)})
OF_SERVICES = frozenset({"services", "services.nodeports", "services.loadbalancers"})
OF_CLAIMS = frozenset({"persistentvolumeclaims", "requests.storage"})
_WHOLE = COUNTED | OF_SERVICES | {"pods", "persistentvolumeclaims"}
_STANDARD = COUNTED | OF_PODS | OF_SERVICES | OF_CLAIMS


def _quota(obj: Object, errors: Errors) -> None:
    """``ValidateResourceQuotaSpec``."""
    spec = obj.get("spec") or {}
    hard = spec.get("hard") or {}
    for name, amount in hard.items():
        field = f"spec.hard[{name}]"
        faults = names.qualified_name(name)
        errors.extend(wrong(field, name, text) for text in faults)
        if not faults and "/" not in name and name not in _STANDARD and not name.startswith(HUGE):
            errors.append(wrong(field, name, "must be a standard resource for quota"))
        value = quantity_value(amount)
        if value < 0:
            errors.append(wrong(field, amount, "must be greater than or equal to 0"))
        if (name in _WHOLE or name.startswith("count/")) and value.denominator != 1:
            errors.append(wrong(field, amount, "must be an integer"))
    if spec.get("scopes"):
        _scopes(list(spec["scopes"]), hard, "spec.scopes", spec["scopes"], errors)
    if spec.get("scopeSelector") is not None:
        _selector(spec["scopeSelector"], hard, errors)


def _scopes(scopes: list[str], hard: Object, field: str, shown: Any, errors: Errors) -> None:
    for scope in scopes:
        if scope not in _POD_SCOPES and scope != _CLAIM_SCOPE:
            errors.append(wrong(field, shown, "unsupported scope"))
            continue
        unfit = [name for name in hard if name in _STANDARD and not _scoped(scope, name)]
        errors.extend(wrong(field, shown, "unsupported scope applied to resource") for _ in unfit)
    if any(pair <= set(scopes) for pair in _EXCLUSIVE):
        errors.append(wrong(field, shown, "conflicting scopes"))


def _scoped(scope: str, name: str) -> bool:
    """Whether a quota with the scope may limit a standard resource (``IsResourceQuotaScopeValidForResource``)."""
    if scope == "BestEffort":
        return name == "pods"
    return name in (OF_CLAIMS if scope == _CLAIM_SCOPE else OF_PODS)


def _selector(selector: Object, hard: Object, errors: Errors) -> None:
    field = "spec.scopeSelector.matchExpressions"
    expressions = selector.get("matchExpressions") or ()
    for one in expressions:
        scope, operator, values = one.get("scopeName", ""), one.get("operator", ""), one.get("values") or ()
        if scope not in ("PriorityClass", _CLAIM_SCOPE) and scope in _POD_SCOPES and operator != "Exists":
            text = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
            text += "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            errors.append(wrong(f"{field}.operator", operator, text))
        if operator in ("In", "NotIn") and not values:
            text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            errors.append(required(f"{field}.values", text))
        elif operator in ("Exists", "DoesNotExist") and values:
            text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            errors.append(wrong(f"{field}.values", list(values), text))
        elif operator not in _OPERATORS:
            errors.append(wrong(f"{field}.operator", operator, "not a valid selector operator"))
    _scopes([one.get("scopeName", "") for one in expressions], hard, field, list(expressions), errors)


def _quota_update(new: Object, old: Object, errors: Errors) -> None:
    _quota(new, errors)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if set(spec.get("scopes") or ()) != set(before.get("scopes") or ()):
        errors.append(immutable("spec.scopes", spec.get("scopes")))
    if (spec.get("scopeSelector") or None) != (before.get("scopeSelector") or None):
        errors.append(immutable("spec.scopeSelector", spec.get("scopeSelector")))


register("", "ResourceQuota", validate=_quota, validate_update=_quota_update)


def _limit_defaults(obj: Object) -> None:
    """``SetDefaults_LimitRangeItem``: of a container, the maximum is the default, and that or the minimum the default request."""
    for limit in (obj.get("spec") or {}).get("limits") or ():
        if limit.get("type") != "Container":
            continue
        default = {**(limit.get("max") or {}), **(limit.get("default") or {})}
        request = {**(limit.get("min") or {}), **default, **(limit.get("defaultRequest") or {})}
        for key, amounts in (("default", default), ("defaultRequest", request)):
            if amounts:
                limit[key] = amounts


def _limit_range(obj: Object, errors: Errors) -> None:
    """``ValidateLimitRange``."""
    seen: set[str] = set()
    for index, limit in enumerate((obj.get("spec") or {}).get("limits") or ()):
        field = f"spec.limits[{index}]"
        kind = limit.get("type", "")
        errors.extend(wrong(f"{field}.type", kind, text) for text in names.qualified_name(kind))
        if kind in seen:
            errors.append(duplicate(f"{field}.type", kind))
        seen.add(kind)
        if kind == "Pod":
            for part in ("default", "defaultRequest"):
                if limit.get(part):
                    errors.append(forbidden(f"{field}.{part}", "may not be specified when `type` is 'Pod'"))
        if kind == "PersistentVolumeClaim" and "storage" not in {**(limit.get("min") or {}), **(limit.get("max") or {})}:
            text = "either minimum or maximum storage value is required, but neither was provided"
            errors.append(required(f"{field}.limits", text))
        _ordered(limit, field, errors)


_ORDER = (
    ("min", "max", "min", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "defaultRequest", "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "defaultRequest", "default request value {} is greater than max value {}"),
    ("defaultRequest", "default", "defaultRequest", "default request value {} is greater than default limit value {}"),
    ("min", "default", "default", "min value {} is greater than default value {}"),
    ("default", "max", "default", "default value {} is greater than max value {}"),
)
"""(what has to be less, what more, the field that is wrong, the text)"""


def _ordered(limit: Object, field: str, errors: Errors) -> None:
    for low, high, blamed, text in _ORDER:
        less, more = limit.get(low) or {}, limit.get(high) or {}
        for name in sorted(less.keys() & more.keys()):
            if quantity_value(less[name]) > quantity_value(more[name]):
                told = text.format(parse_quantity(less[name]), parse_quantity(more[name]))
                errors.append(wrong(f"{field}.{blamed}[{name}]", (limit[blamed])[name], told))
    for name, ratio in sorted((limit.get("maxLimitRequestRatio") or {}).items()):
        if quantity_value(ratio) < Fraction(1):
            errors.append(wrong(f"{field}.maxLimitRequestRatio[{name}]", ratio, f"ratio {ratio} is less than 1"))


register("", "LimitRange", defaults=_limit_defaults, validate=_limit_range, metadata_again=True)
