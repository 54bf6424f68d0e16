"""Conversion between versions of built-in resources that share one storage: Events, and HorizontalPodAutoscalers.

Custom resources convert by strategy ``None``: only ``apiVersion`` changes.
"""

from collections.abc import Callable
from typing import Any

from raycp.embedded.resources import ResourceInfo

Converter = Callable[[dict[str, Any]], dict[str, Any]]

# core/v1 name -> events.k8s.io/v1 name (k8s.io/kubernetes/pkg/apis/events/v1/conversion.go)
_EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}


def _renamed(obj: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in obj.items()}


def _event_out(obj: dict[str, Any]) -> dict[str, Any]:
    return _renamed(obj, _EVENT_NAMES)


def _event_in(obj: dict[str, Any]) -> dict[str, Any]:
    core = _renamed(obj, {new: old for old, new in _EVENT_NAMES.items()})
    core.setdefault("source", {})
    core.setdefault("firstTimestamp", None)
    core.setdefault("lastTimestamp", None)
    core.setdefault("involvedObject", {})
    return core


def _scaler_out(obj: dict[str, Any]) -> dict[str, Any]:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    for metric in spec.pop("metrics", None) or ():
        target = (metric.get("resource") or {}).get("target") or {}
        if metric.get("type") == "Resource" and metric["resource"].get("name") == "cpu" and "averageUtilization" in target:
            spec["targetCPUUtilizationPercentage"] = target["averageUtilization"]
    spec.pop("behavior", None)
    for metric in status.pop("currentMetrics", None) or ():
        current = (metric.get("resource") or {}).get("current") or {}
        if metric.get("type") == "Resource" and "averageUtilization" in current:
            status["currentCPUUtilizationPercentage"] = current["averageUtilization"]
    status.pop("conditions", None)
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    return {**obj, "spec": spec, "status": status}


def _scaler_in(obj: dict[str, Any]) -> dict[str, Any]:
    spec = dict(obj.get("spec") or {})
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    if percent is not None:
        target = {"type": "Utilization", "averageUtilization": percent}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    status = dict(obj.get("status") or {})
    status.pop("currentCPUUtilizationPercentage", None)
    return {**obj, "spec": spec, **({"status": status} if status else {})}


_CONVERTERS: dict[tuple[str, str], Converter] = {
    ("v1/Event", "events.k8s.io/v1/Event"): _event_out,
    ("events.k8s.io/v1/Event", "v1/Event"): _event_in,
    ("autoscaling/v2/HorizontalPodAutoscaler", "autoscaling/v1/HorizontalPodAutoscaler"): _scaler_out,
    ("autoscaling/v1/HorizontalPodAutoscaler", "autoscaling/v2/HorizontalPodAutoscaler"): _scaler_in,
}


def converter(source: ResourceInfo, target: ResourceInfo) -> Converter | None:
    """The function that converts an object from ``source`` to ``target``; None if at most ``apiVersion`` differs."""
    return _CONVERTERS.get((f"{source.api_version}/{source.kind}", f"{target.api_version}/{target.kind}"))
