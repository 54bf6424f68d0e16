"""The part of CEL that ``x-kubernetes-validations`` use: ``parser`` (text to tree), ``compiler`` (tree to closure), with
``operators`` and ``functions``.

Supported: all operators and macros, has(), strings, lists, maps, regular expressions, times and durations, optional
fields. ``compile_rule`` refuses a rule that uses anything else (URLs, IPs, CIDRs, quantities, formats, authorizer), and
thereby the CRD: no rule is silently ignored.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raycp.embedded.strategy.budget import CALL_LIMIT, budget
from raycp.embedded.strategy.cel.compiler import METER, CelRefused, Program, compile_node, cost, uses
from raycp.embedded.strategy.cel.operators import CelError, CostExceeded, Meter
from raycp.embedded.strategy.cel.parser import CelSyntaxError, parse

__all__ = ["CelError", "CelRefused", "CostExceeded", "Rule", "compile_rule"]


@dataclass(frozen=True)
class Rule:
    """A compiled expression. ``transition``: it uses ``oldSelf``. ``cost``: of one evaluation without its loops."""

    text: str
    program: Program
    transition: bool
    cost: float

    def holds(self, value: Any, old: Any = None) -> Any:
        """The value of the expression for ``self`` and ``oldSelf``. Raises ``CelError``, ``CostExceeded``."""
        left = budget()
        meter = Meter(min(CALL_LIMIT, left.units))
        try:
            meter.spend(self.cost)
            return self.program({"self": value, "oldSelf": old, METER: meter})
        except RecursionError:
            raise CelError("expression recursion limit exceeded") from None
        finally:
            left.units -= meter.spent


@lru_cache(maxsize=1024)
def compile_rule(text: str) -> Rule:
    """Compile an expression. Raises ``CelRefused`` for a syntax error, an unknown name or an unknown function."""
    try:
        tree = parse(text)
        return Rule(text, compile_node(tree, frozenset({"self", "oldSelf"})), uses(tree, "oldSelf"), cost(tree))
    except CelSyntaxError as error:
        raise CelRefused(str(error)) from None
    except RecursionError:
        raise CelRefused("expression recursion limit exceeded") from None
