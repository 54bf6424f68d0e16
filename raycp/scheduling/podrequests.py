"""What a Pod requests, from its spec, by the rule of the scheduler of Kubernetes (``component-helpers/resource``): containers
together, but at least what each init container needs while it runs; sidecars (KEP-753) count in both; plus overhead. Requests of
the Pod as a whole (KEP-2837) replace those of its containers."""

from collections.abc import Mapping
from typing import Any

from raycp.base.quantities import PODS, QuantityError, added, parse_resources


def pod_requests(spec: Mapping[str, Any]) -> dict[str, int]:
    """In the units of ``quantities``, one of ``pods`` included. Raises ``QuantityError``, whose text names the field."""
    steady: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for at, container in enumerate(spec.get("initContainers") or ()):
        request = _requests(container, f"initContainers[{at}].resources")
        if container.get("restartPolicy") == "Always":
            sidecars = added(sidecars, request)
            peak = _larger(peak, sidecars)
        else:
            peak = _larger(peak, added(sidecars, request))
    for at, container in enumerate(spec.get("containers") or ()):
        steady = added(steady, _requests(container, f"containers[{at}].resources"))
    total = _larger(added(steady, sidecars), peak)
    total |= _requests(spec, "resources")
    total = added(total, _parsed(spec.get("overhead"), "overhead"))
    return {PODS: 1} | {name: amount for name, amount in total.items() if amount}


def _requests(holder: Mapping[str, Any], where: str) -> dict[str, int]:
    """Requests; where only a limit is given, the API server's default for them, which is the limit."""
    resources = holder.get("resources") or {}
    if not isinstance(resources, Mapping):
        raise QuantityError(f"{where} is no mapping")
    limits = _parsed(resources.get("limits"), f"{where}.limits")
    return limits | _parsed(resources.get("requests"), f"{where}.requests")


def _parsed(amounts: Any, where: str) -> dict[str, int]:
    if amounts is not None and not isinstance(amounts, Mapping):
        raise QuantityError(f"{where} is no mapping")
    try:
        return parse_resources(amounts or {})
    except QuantityError as error:
        raise QuantityError(f"{where}.{error}") from None


def _larger(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}
