"""Amounts of resources: integers by resource name, ``cpu`` in millicores, all others in their own unit (bytes, devices, Pods).

``parse_quantity`` reads the notation of Kubernetes (``k8s.io/apimachinery/pkg/api/resource``): decimal and binary suffixes, ``m``,
exponents. Fractions are rounded up, as the scheduler of Kubernetes does with requests.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

Resources = Mapping[str, int]
"""Amounts by resource name."""

PODS = "pods"
"""Every Pod takes one of these."""

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_DECIMAL = {name: Decimal(1000) ** power for power, name in enumerate(("", "k", "M", "G", "T", "P", "E"))}
_BINARY = {name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_LARGEST = 1 << 63


class QuantityError(ValueError):
    """A value that is no quantity; the text is a predicate."""


def parse_quantity(value: object, resource: str = "") -> int:
    """``value`` in the unit of ``resource``, rounded up. Raises ``QuantityError``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 64:
        raise QuantityError('is no quantity; write one such as "500m", "4" or "16Gi"')
    found = _FORM.fullmatch(str(value).strip())
    if found is None:
        raise QuantityError(f'{str(value)[:40]!r} is no quantity; write one such as "500m", "4" or "16Gi"')
    suffix = found[2] or ""
    amount = Decimal(found[1])
    if suffix == "m":
        amount /= 1000
    elif suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix[1:] != "i":
        power = int(suffix[1:])
        if abs(power) > 30:
            raise QuantityError(f"{str(value)[:40]!r} is out of range")
        amount *= Decimal(10) ** power
    else:
        amount *= _BINARY.get(suffix) or _DECIMAL[suffix]
    if resource == "cpu":
        amount *= 1000
    if not 0 <= amount < _LARGEST:
        raise QuantityError(f"{str(value)[:40]!r} is out of range; write 0 or more, below 2^63")
    return math.ceil(amount)


def parse_resources(amounts: Mapping[str, Any]) -> dict[str, int]:
    """Each amount in the unit of its name. Raises ``QuantityError``, which names the resource."""
    parsed = {}
    for name, value in amounts.items():
        try:
            parsed[name] = parse_quantity(value, name)
        except QuantityError as error:
            raise QuantityError(f"{name}: {error}") from None
    return parsed


def shown_quantity(amount: float, resource: str) -> str:
    """For people: ``12.5`` cores, ``96Gi``, ``8``."""
    if resource == "cpu":
        return f"{amount / 1000:g}"
    for name, size in reversed(_BINARY.items()):
        if resource in ("memory", "ephemeral-storage", "storage") and amount >= size:
            return f"{amount / float(size):.4g}{name}"
    return f"{amount:g}"


def added(one: Resources, other: Resources, times: int = 1) -> dict[str, int]:
    """``one`` + ``times`` × ``other``; names that come to 0 are kept."""
    total = dict(one)
    for name, amount in other.items():
        total[name] = total.get(name, 0) + times * amount
    return total


def fits_times(free: Resources, request: Resources) -> int:
    """How many times ``request`` fits into ``free``. A request of nothing fits as often as ``pods`` allows; without such a limit,
    ``UNBOUNDED`` times."""
    times = UNBOUNDED
    for name, amount in request.items():
        if amount > 0:
            times = min(times, free.get(name, 0) // amount)
    return max(0, times)


UNBOUNDED = 1 << 30
"""More Pods than any job has."""
