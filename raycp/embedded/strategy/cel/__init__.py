"""The part of CEL that ``x-kubernetes-validations`` use: ``parser`` (text to tree), ``compiler`` (tree to closure), with
``operators`` and ``functions``.

Supported: all operators and macros, has(), strings, lists, maps, regular expressions, times and durations, optional
fields. ``compile_rule`` refuses a rule that uses anything else (URLs, IPs, CIDRs, quantities, formats, authorizer), and
thereby the CRD: no rule is silently ignored.
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
    """A compiled expression. ``transition``: it uses ``oldSelf``."""

    text: str
    program: Program
    transition: bool

    def holds(self, value: Any, old: Any = None) -> Any:
        """The value of the expression for ``self`` and ``oldSelf``. Raises ``CelError``."""
        return self.program({"self": value, "oldSelf": old})


@lru_cache(maxsize=1024)
def compile_rule(text: str) -> Rule:
    """Compile an expression. Raises ``CelRefused`` for a syntax error, an unknown name or an unknown function."""
    try:
        tree = parse(text)
    except CelSyntaxError as error:
        raise CelRefused(str(error)) from None
    return Rule(text, compile_node(tree, frozenset({"self", "oldSelf"})), uses(tree, "oldSelf"))
