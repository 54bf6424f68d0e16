"""Numbers of Pods that may be percentages (``ValidatePositiveIntOrPercent``, ``IsNotMoreThan100Percent``)."""

import re
from typing import Any

from raycp.embedded.strategy.causes import Errors, wrong

_PERCENT = re.compile("[0-9]+%")
_FORM = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%')"


def share(value: Any, field: str, errors: Errors, *, of_all: bool) -> None:
    """Append the errors of a share. ``of_all``: it is a part of what there is, and at most all of it."""
    if isinstance(value, int) and value < 0:
        errors.append(wrong(field, value, "must be greater than or equal to 0"))
    elif isinstance(value, str) and _PERCENT.fullmatch(value) is None:
        errors.append(wrong(field, value, _FORM))
    elif isinstance(value, str) and of_all and (len(value) > 20 or int(value[:-1]) > 100):
        errors.append(wrong(field, value, "must not be greater than 100%"))
