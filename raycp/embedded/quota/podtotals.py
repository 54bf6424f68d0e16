"""The requests or limits of a whole Pod, from those of its containers (``k8s.io/component-helpers/resource``)."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

from raycp.embedded.strategy.scalars import Quantity, parse_quantity

Number = TypeVar("Number", int, Fraction)
Amounts = dict[str, Quantity]

_POD_LEVEL = ("cpu", "memory")
_HUGE = "hugepages-"


def combined(containers: Iterable[Mapping[str, Number]], inits: Iterable[tuple[Mapping[str, Number], bool]]) -> dict[str, Number]:
    """The larger of containers with sidecars, and any init container with the sidecars before it. ``inits`` says of each init
    container whether it is a sidecar."""
    total: dict[str, Number] = {}
    for amounts in containers:
        _add(total, amounts)
    peak: dict[str, Number] = {}
    sidecars: dict[str, Number] = {}
    for amounts, sidecar in inits:
        if sidecar:
            _add(sidecars, amounts)
            _add(total, amounts)
            step = sidecars
        else:
            step = dict(sidecars)
            _add(step, amounts)
        for name, amount in step.items():
            if name not in peak or amount > peak[name]:
                peak[name] = amount
    for name, amount in peak.items():
        if name not in total or amount > total[name]:
            total[name] = amount
    return total


def _add(total: dict[str, Number], amounts: Mapping[str, Number]) -> None:
    for name, amount in amounts.items():
        total[name] = total[name] + amount if name in total else amount


def quantities(given: Any) -> Amounts:
    """A ``ResourceList``."""
    return {name: parse_quantity(str(text)) for name, text in (given or {}).items()}


def pod_totals(spec: Mapping[str, Any], part: str) -> Amounts:
    """The ``requests`` or ``limits`` (``part``) of a Pod: of its containers, in place of which its own count, and overhead."""
    forms: dict[str, str] = {}

    def of(owner: Mapping[str, Any]) -> dict[str, Fraction]:
        found = quantities((owner.get("resources") or {}).get(part))
        for name, each in found.items():
            forms.setdefault(name, each.form)
        return {name: each.value for name, each in found.items()}

    inits = [(of(one), one.get("restartPolicy") == "Always") for one in spec.get("initContainers") or ()]
    total = combined([of(one) for one in spec.get("containers") or ()], inits)
    for name, value in of(spec).items():
        if name in _POD_LEVEL or name.startswith(_HUGE):
            total[name] = value
    for name, each in quantities(spec.get("overhead")).items():
        if part == "requests" or total.get(name):
            total[name] = total.get(name, Fraction(0)) + each.value
            forms.setdefault(name, each.form)
    return {name: Quantity(value, forms[name]) for name, value in total.items()}
