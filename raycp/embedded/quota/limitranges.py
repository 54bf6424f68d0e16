"""LimitRanges: the requests and limits that they give to containers, and the bounds that Pods and claims have to keep.

After the LimitRanger admission plugin (``k8s.io/kubernetes/plugin/pkg/admission/limitranger``), in its wording.
"""

from collections.abc import Callable, Iterator
from typing import Any

from raycp.embedded.errors import forbidden
from raycp.embedded.quota.podtotals import Amounts, pod_totals, quantities
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.strategy.scalars import Quantity

Object = dict[str, Any]

ANNOTATION = "kubernetes.io/limit-ranger"
_GROUPS = (("containers", "container"), ("initContainers", "init container"))


class LimitRanges:
    """The LimitRanges of a cluster, read from the store at each write that they concern: without any, a look into a dict."""

    def __init__(self, registry: Registry) -> None:
        found = registry.find("", "v1", "limitranges")
        assert found is not None
        self._ranges = found

    def default(self, resource: ServedResource, ns: str, obj: Object) -> None:
        """Give a new Pod's containers what they do not state."""
        if ns in self._ranges.table.buckets and _limited(resource) == "pods":
            for limits in self._of(ns):
                set_defaults(limits, obj)

    def admit(self, resource: ServedResource, obj: Object, old: Object | None, subresource: str) -> None:
        """Refuse (403) a create or an update that is out of bounds. Only ``resize`` changes the resources of a Pod."""
        meta = obj["metadata"]
        ns = meta.get("namespace", "")
        if ns not in self._ranges.table.buckets:
            return
        plural = _limited(resource)
        if not plural or (old is not None and subresource != ("resize" if plural == "pods" else "")):
            return
        if old is not None and "deletionTimestamp" in meta:
            return
        for limits in self._of(ns):
            faults = list(dict.fromkeys(_pod_faults(limits, obj) if plural == "pods" else _claim_faults(limits, obj)))
            if faults:
                told = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
                raise forbidden(resource.info, meta.get("name") or meta.get("generateName") or "", told)

    def _of(self, ns: str) -> Iterator[list[Object]]:
        for record in self._ranges.table.records(ns):
            yield (record.decode().get("spec") or {}).get("limits") or []


def _limited(resource: ServedResource) -> str:
    """``pods``, ``persistentvolumeclaims``, or nothing."""
    info = resource.info
    return info.plural if not info.group and info.plural in ("pods", "persistentvolumeclaims") else ""


def set_defaults(limits: list[Object], pod: Object) -> None:
    """``mergePodResourceRequirements``: the defaults of one LimitRange, and the annotation that names them."""
    requests: Object = {}
    maxima: Object = {}
    for limit in limits:
        if limit.get("type") == "Container":
            requests |= limit.get("defaultRequest") or {}
            maxima |= limit.get("default") or {}
    told = []
    spec = pod.get("spec") or {}
    for group, noun in _GROUPS:
        for container in spec.get(group) or ():
            for part, defaults in (("requests", requests), ("limits", maxima)):
                names = _fill(container, part, defaults)
                if names:
                    told.append(f"{', '.join(names)} {part.removesuffix('s')} for {noun} {container.get('name', '')}")
    if told:
        meta = pod["metadata"]
        meta["annotations"] = {**(meta.get("annotations") or {}), ANNOTATION: "LimitRanger plugin set: " + "; ".join(told)}


def _fill(container: Object, part: str, defaults: Object) -> list[str]:
    """Add the defaults that are not stated. Returns their names."""
    resources = container.get("resources") or {}
    stated = resources.get(part) or {}
    names = sorted(name for name in defaults if name not in stated)
    if names:
        container["resources"] = {**resources, part: {**stated, **{name: defaults[name] for name in names}}}
    return names


def _pod_faults(limits: list[Object], pod: Object) -> Iterator[str]:
    spec = pod.get("spec") or {}
    for limit in limits:
        if limit.get("type") == "Container":
            for group, _ in _GROUPS:
                for container in spec.get(group) or ():
                    resources = container.get("resources") or {}
                    yield from _faults(limit, quantities(resources.get("requests")), quantities(resources.get("limits")))
        elif limit.get("type") == "Pod":
            yield from _faults(limit, pod_totals(spec, "requests"), pod_totals(spec, "limits"))


def _claim_faults(limits: list[Object], claim: Object) -> Iterator[str]:
    resources = (claim.get("spec") or {}).get("resources") or {}
    requests = quantities(resources.get("requests"))
    for limit in limits:
        if limit.get("type") == "PersistentVolumeClaim":
            yield from _bounded(limit, "min", _minimum, requests, {})
            yield from _bounded(limit, "max", _maximum_request, requests, {})


def _faults(limit: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    yield from _bounded(limit, "min", _minimum, requests, limits)
    yield from _bounded(limit, "max", _maximum, requests, limits)
    yield from _bounded(limit, "maxLimitRequestRatio", _ratio, requests, limits)


Rule = Callable[[Quantity, Quantity | None, Quantity | None], str]
"""(bound, request, limit) to what is wrong, or nothing"""


def _bounded(limit: Object, key: str, rule: Rule, requests: Amounts, limits: Amounts) -> Iterator[str]:
    words = {"min": "minimum {} usage per {} is {}", "max": "maximum {} usage per {} is {}"}
    start = words.get(key, "{} max limit to request ratio per {} is {}")
    for name, bound in sorted(quantities(limit.get(key)).items()):
        why = rule(bound, requests.get(name), limits.get(name))
        if why:
            yield start.format(name, limit["type"], bound) + why


def _minimum(bound: Quantity, request: Quantity | None, limit: Quantity | None) -> str:
    if request is None:
        return ".  No request is specified"
    if request.value < bound.value:
        return f", but request is {request}"
    return f", but limit is {limit}" if limit is not None and limit.value < bound.value else ""


def _maximum(bound: Quantity, request: Quantity | None, limit: Quantity | None) -> str:
    if limit is None:
        return ".  No limit is specified"
    if limit.value > bound.value:
        return f", but limit is {limit}"
    return f", but request is {request}" if request is not None and request.value > bound.value else ""


def _maximum_request(bound: Quantity, request: Quantity | None, limit: Quantity | None) -> str:
    if request is None:
        return ".  No request is specified"
    return f", but request is {request}" if request.value > bound.value else ""


def _ratio(bound: Quantity, request: Quantity | None, limit: Quantity | None) -> str:
    if request is None or not request.value:
        return ", but no request is specified or request is 0"
    if limit is None or not limit.value:
        return ", but no limit is specified or limit is 0"
    found = limit.value / request.value
    return f", but provided ratio is {float(found):f}" if found > bound.value else ""
