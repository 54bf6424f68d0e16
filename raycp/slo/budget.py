"""Error budget, burn rates and burn alerts: pure functions of counts.

A burn rate of 1 spends exactly the whole budget over the objective's window. The alerts are those of Google's SRE
workbook, chapter 5 ("multiwindow, multi-burn-rate"): the long window shows that the burn matters, the short one that it
continues. With few changes ("low-traffic services", there) single ones would burn a budget: hence ``FEWEST``.
"""

from collections.abc import Callable
from typing import NamedTuple

from raycp.slo.objectives import Objective
from raycp.slo.windows import SPANS


class BurnAlert(NamedTuple):
    """Fires when both windows burn at a rate that spends ``spent`` of the budget within ``long``."""

    severity: str
    spent: float
    long: str
    short: str

    def factor(self, objective: Objective) -> float:
        """The burn rate that spends ``spent`` of the budget in the long window: 14.4 for 2 % in 1 h of 30 d."""
        return self.spent * objective.window / SPANS[self.long][0]

    def threshold(self, objective: Objective) -> float:
        """The share of missed changes at which it fires; below 1, since an objective of 90 % can burn at most 10-fold."""
        return min(self.factor(objective) * objective.budget, 0.99)


BURN_ALERTS = (
    BurnAlert("page", 0.02, "1h", "5m"),
    BurnAlert("page", 0.05, "6h", "30m"),
    BurnAlert("ticket", 0.10, "1d", "2h"),
    BurnAlert("ticket", 0.10, "3d", "6h"),
)

FEWEST = 10
"""Changes that must have missed an objective in the long window: a few of few are a large share, and no reason to wake anybody."""

Sum = Callable[[str], tuple[float, float]]
"""Window name → (total, bad)."""


def ratio(total: float, bad: float) -> float | None:
    """The share within the objective; None without changes."""
    return 1.0 - bad / total if total > 0 else None


def burn_rate(objective: Objective, total: float, bad: float) -> float:
    """How many times faster than allowed the budget is spent; 0 without changes."""
    return bad / total / objective.budget if total > 0 and objective.budget > 0 else 0.0


class ErrorBudget(NamedTuple):
    """Of ``total`` changes in the window ``allowed`` may miss and ``missed`` did; ``remaining`` is the remaining share of the
    budget, negative when overspent."""

    total: float
    allowed: float
    missed: float
    remaining: float


def error_budget(objective: Objective, total: float, bad: float) -> ErrorBudget:
    allowed = total * objective.budget
    if allowed <= 0:
        return ErrorBudget(total, allowed, bad, 1.0 if bad <= 0 else -1.0)
    return ErrorBudget(total, allowed, bad, 1.0 - bad / allowed)


def firing(objective: Objective, window: Sum) -> list[BurnAlert]:
    """The alerts that fire on these windows, the most severe first."""
    found = []
    for alert in BURN_ALERTS:
        limit = alert.threshold(objective)
        pair = (window(alert.long), window(alert.short))
        if pair[0][1] >= FEWEST and all(total > 0 and bad / total > limit for total, bad in pair):
            found.append(alert)
    return found
