"""CEL, as far as ``x-kubernetes-validations`` need it: ``parser`` (text to tree), ``evaluate`` (tree to closure).

What is known: all operators and macros, has(), strings, lists, maps, regular expressions, times and durations, optional
fields. What is not (URLs, IPs, CIDRs, quantities, formats, authorizer) makes ``compile_rule`` refuse the rule, and
so the CRD: a rule is never silently ignored.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raycp.embedded.strategy.cel.compiler import CelRefused, Program, compile_node, uses
from raycp.embedded.strategy.cel.operators import CelError
from raycp.embedded.strategy.cel.parser import CelSyntaxError, parse

__all__ = ["CelError", "CelRefused", "Rule", "compile_rule"]


@dataclass(frozen=True)
class Rule:
    """A compiled expression. ``transition`` says that it needs ``oldSelf``."""

    text: str
    program: Program
    transition: bool

    def holds(self, value: Any, old: Any = None) -> Any:
        """What the expression gives for ``self`` and ``oldSelf``. Raises ``CelError``."""
        return self.program({"self": value, "oldSelf": old})


@lru_cache(maxsize=1024)
def compile_rule(text: str) -> Rule:
    """Raises ``CelRefused`` with a reason: a syntax error, an unknown name or function."""
    try:
        tree = parse(text)
    except CelSyntaxError as error:
        raise CelRefused(str(error)) from None
    return Rule(text, compile_node(tree, frozenset({"self", "oldSelf"})), uses(tree, "oldSelf"))
