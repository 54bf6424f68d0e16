"""What the validation of one object may cost: expressions of a CRD's author on values of any client must not stop the server.

The cost of CEL is counted in cel-go's units. The limit of an expression is kube-apiserver's
(``apiextensions-apiserver/pkg/apiserver/schema/cel``); that of an object is a fifth, since here all requests wait meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CALL_LIMIT = 1_000_000
"""units of one CEL expression (``PerCallLimit``)"""
OBJECT_LIMIT = 2_000_000
"""units of all CEL expressions of one validation (``RuntimeCELCostBudget``): about a second"""
MATCH_LIMIT = 1_000_000_000
"""steps of all regular expressions of one validation, one instruction of a pattern on one byte each: a second or two at worst"""


class ValidationBudget:
    """What is left to one validation."""

    def __init__(self) -> None:
        self.units = float(OBJECT_LIMIT)
        self.steps = MATCH_LIMIT
        self.stopped = False
        """no further CEL rule runs"""


_current: ContextVar[ValidationBudget | None] = ContextVar("validation budget", default=None)


@contextmanager
def validation_budget() -> Iterator[ValidationBudget]:
    """All validation within shares one budget."""
    made = ValidationBudget()
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)


def budget() -> ValidationBudget:
    """The budget of the validation that runs; a fresh one outside of one."""
    return _current.get() or ValidationBudget()
