"""Kubernetes quantities (``500m``, ``1Gi``, ``2e3``) as integers in thousandths, for adding and comparing.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import re
from decimal import Decimal
from functools import lru_cache

_SHAPE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i|[numkMGTPE])|)")
_SUFFIX = {
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    "k": Decimal(10) ** 3,
    **{letter: Decimal(10) ** (3 * power) for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}


@lru_cache(maxsize=4096)
def milli(quantity: str | int | float) -> int:
    """``quantity`` in thousandths, rounded up as Kubernetes rounds. Raises ``ValueError`` for an invalid quantity."""
    if isinstance(quantity, int):
        return quantity * 1000
    match = _SHAPE.fullmatch(str(quantity).strip())
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity")
    number = Decimal(match[1] + (match[2] or "")) * _SUFFIX.get(match[3] or "", Decimal(1)) * 1000
    whole = int(number)
    return whole + 1 if number > whole else whole
