"""The scopes of a ResourceQuota: which objects it counts. Pure, after ``podMatchesScopeFunc`` and ``pvcMatchesScopeFunc``."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from raycp.embedded.quota.usage import CLAIMS, PODS
from raycp.embedded.store import TableKey
from raycp.embedded.strategy.kinds.pod_defaults import qos_class


class QuotaScope(NamedTuple):
    """One scope of a quota, as a requirement: ``operator`` is In, NotIn, Exists or DoesNotExist."""

    name: str
    operator: str = "Exists"
    values: frozenset[str] = frozenset()


def scopes_of(spec: dict[str, Any]) -> tuple[QuotaScope, ...]:
    """The scopes of a quota: ``scopes``, and the expressions of ``scopeSelector``. An object has to match all."""
    expressions = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return (
        *(QuotaScope(name) for name in spec.get("scopes") or ()),
        *(QuotaScope(e.get("scopeName", ""), e.get("operator", ""), frozenset(e.get("values") or ())) for e in expressions),
    )


def in_scope(scopes: Iterable[QuotaScope], key: TableKey, obj: dict[str, Any]) -> bool:
    """Whether an object of that table matches all scopes. Only Pods and claims match any."""
    match = {PODS: _pod, CLAIMS: _claim}.get(key)
    return all(match is not None and match(scope, obj) for scope in scopes)


def _pod(scope: QuotaScope, pod: dict[str, Any]) -> bool:
    spec = pod.get("spec") or {}
    match scope.name:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return qos_class(spec) == "BestEffort"
        case "NotBestEffort":
            return qos_class(spec) != "BestEffort"
        case "PriorityClass":
            return _selected(scope, {spec["priorityClassName"]} if spec.get("priorityClassName") else set())
        case "CrossNamespacePodAffinity":
            return _crosses(spec.get("affinity") or {})
    return False


def _claim(scope: QuotaScope, claim: dict[str, Any]) -> bool:
    status = claim.get("status") or {}
    named = (
        (claim.get("spec") or {}).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return scope.name == "VolumeAttributesClass" and _selected(scope, {name for name in named if name})


def _selected(scope: QuotaScope, names: set[str]) -> bool:
    """As a label selector matches one label with any of these values."""
    match scope.operator:
        case "Exists":
            return bool(names)
        case "DoesNotExist":
            return not names
        case "In":
            return bool(names & scope.values)
    return not names or bool(names - scope.values)


def _crosses(affinity: dict[str, Any]) -> bool:
    """Whether any term of Pod affinity names namespaces."""
    for side in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(side) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [one.get("podAffinityTerm") or {} for one in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
