"""What an object uses of a ResourceQuota's resources. Pure.

After the evaluators of ``k8s.io/kubernetes/pkg/quota/v1/evaluator/core`` and the object counts of
``k8s.io/apiserver/pkg/quota/v1/generic``. A Pod past its grace period is counted until it is removed: usage depends on the object
alone, never on the time.
"""

from fractions import Fraction
from typing import Any

from raycp.embedded.quota.podtotals import Amounts, pod_totals, quantities
from raycp.embedded.store import TableKey
from raycp.embedded.strategy.kinds.limits import COMPUTE, COUNTED, HUGE, OF_CLAIMS, OF_PODS, OF_SERVICES
from raycp.embedded.strategy.scalars import Quantity

PODS, SERVICES, CLAIMS = (TableKey("", plural) for plural in ("pods", "services", "persistentvolumeclaims"))
DEVICES = TableKey("resource.k8s.io", "resourceclaims")
WEIGHED = frozenset({PODS, SERVICES, CLAIMS, DEVICES})
"""tables whose objects use by what they hold; any other object uses one of its kind"""
ONE = Quantity(Fraction(1), "decimal")
NONE = Quantity(Fraction(0), "decimal")
IGNORED = frozenset({"events"})
"""plurals that quotas never count (``install.DefaultIgnoredResources``)"""

_BY_CLASS = ".storageclass.storage.k8s.io/"
_OF_DEVICES = ".deviceclass.resource.k8s.io/devices"
_MOST_DEVICES = 32
"""what a claim for all devices counts (``resource.AllocationResultsMaxSize``)"""
_DEMANDED = frozenset(
    {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"},
)
"""what each container has to state when a quota counts it (``validationSet``)"""


def home(name: str) -> TableKey | None:
    """The table of the objects that use the resource ``name`` of a quota; None if quotas do not know the name."""
    if name.startswith("count/"):
        plural, _, group = name.removeprefix("count/").partition(".")
        return None if plural in IGNORED else TableKey(group, plural)
    if name in COUNTED:
        return TableKey("", name)
    if name in OF_SERVICES:
        return SERVICES
    if name in OF_CLAIMS or any(name.endswith(_BY_CLASS + each) for each in OF_CLAIMS):
        return CLAIMS
    if name.endswith(_OF_DEVICES):
        return DEVICES
    if name in OF_PODS or name.startswith(HUGE) or (name.startswith("requests.") and not _native(name)):
        return PODS
    return None


def usage(key: TableKey, obj: dict[str, Any]) -> Amounts:
    """What one object of that table uses of every resource."""
    count = f"count/{key.plural}.{key.group}" if key.group else f"count/{key.plural}"
    used = {count: ONE}
    if key == PODS:
        used |= _pod(obj)
    elif key == SERVICES:
        used |= _service(obj.get("spec") or {})
    elif key == CLAIMS:
        used |= _claim(obj)
    elif key == DEVICES:
        used |= _devices(obj.get("spec") or {})
    elif not key.group and key.plural in COUNTED:
        used[key.plural] = ONE
    return used


def missing(spec: dict[str, Any], names: frozenset[str]) -> str:
    """The message about what the containers of a Pod do not state of ``names``; empty if nothing is missing."""
    own = spec.get("resources") or {}
    stated = _compute(quantities(own.get("requests")), quantities(own.get("limits"))).keys()
    demanded = (names & _DEMANDED) - stated
    lacking: dict[str, set[str]] = {}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        has = _compute(quantities(resources.get("requests")), quantities(resources.get("limits"))).keys()
        for name in demanded - has:
            lacking.setdefault(name, set()).add(container["name"])
    if not lacking:
        return ""
    return "must specify " + "; ".join(f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking))


def _native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _compute(requests: Amounts, limits: Amounts) -> Amounts:
    used: Amounts = {}
    for name, amount in requests.items():
        if name in COMPUTE or name.startswith(HUGE[0]):
            used[name] = used[f"requests.{name}"] = amount
        elif not _native(name):
            used[f"requests.{name}"] = amount
    for name in COMPUTE:
        if name in limits:
            used[f"limits.{name}"] = limits[name]
    return used


def _pod(pod: dict[str, Any]) -> Amounts:
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    spec = pod.get("spec") or {}
    return {"pods": ONE, **_compute(pod_totals(spec, "requests"), pod_totals(spec, "limits"))}


def _service(spec: dict[str, Any]) -> Amounts:
    kind = spec.get("type")
    ports = spec.get("ports") or ()
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        taken = sum(1 for port in ports if port.get("nodePort"))
    else:
        taken = len(ports) if kind in ("NodePort", "LoadBalancer") else 0
    return {
        "services": ONE,
        "services.nodeports": Quantity(Fraction(taken), "decimal"),
        "services.loadbalancers": ONE if kind == "LoadBalancer" else NONE,
    }


def _claim(claim: dict[str, Any]) -> Amounts:
    used = {"persistentvolumeclaims": ONE}
    spec = claim.get("spec") or {}
    storage = quantities((spec.get("resources") or {}).get("requests")).get("storage")
    if storage is not None:
        allocated = quantities((claim.get("status") or {}).get("allocatedResources")).get("storage", storage)
        used["requests.storage"] = max(storage, allocated, key=lambda each: each.value)
    annotations = claim["metadata"].get("annotations") or {}
    storage_class = annotations.get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName")
    if storage_class:
        used |= {f"{storage_class}{_BY_CLASS}{name}": amount for name, amount in used.items()}
    return used


def _devices(spec: dict[str, Any]) -> Amounts:
    """Devices by class. A request with alternatives counts the most that any of them takes of each class."""
    total: dict[str, int] = {}
    for request in (spec.get("devices") or {}).get("requests") or ():
        most: dict[str, int] = {}
        for each in request.get("firstAvailable") or [request.get("exactly")]:
            name = (each or {}).get("deviceClassName")
            if name:
                most[name] = max(most.get(name, 0), _number(each))
        for name, number in most.items():
            total[name] = total.get(name, 0) + number
    return {f"{name}{_OF_DEVICES}": Quantity(Fraction(number), "decimal") for name, number in total.items()}


def _number(request: dict[str, Any]) -> int:
    mode = request.get("allocationMode") or "ExactCount"
    if mode == "All":
        return _MOST_DEVICES
    return int(request.get("count") or 1) if mode == "ExactCount" else 0
