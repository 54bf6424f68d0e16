"""CEL as ``x-kubernetes-validations`` and admission policies use it: Kubernetes' dialect, as of 1.36.

From a text to its value: ``parser`` (text to tree), ``checker`` (its types, by ``signatures`` and by what ``declared`` reads from a
schema, and ``literals``), ``estimate`` (what it may cost at most, by ``callcosts``), ``compiler`` (tree to closure), which calls
``operators``,
``functions`` and Kubernetes' libraries: ``addresses``, ``versions``, ``sequences``, ``times``. ``values`` makes CEL values of JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raycp.embedded.strategy.budget import CALL_LIMIT, budget
from raycp.embedded.strategy.cel.checker import Checked, Environment, TypeErrors, check
from raycp.embedded.strategy.cel.compiler import METER, CelRefused, Program, compile_node, cost, uses
from raycp.embedded.strategy.cel.operators import CelError, CostExceeded, Meter
from raycp.embedded.strategy.cel.parser import CelSyntaxError, parse, shown
from raycp.embedded.strategy.cel.types import Type

__all__ = ["CelError", "CelRefused", "CostExceeded", "Expression", "Rule", "check_expression", "compile_expression", "compile_rule"]


_TOO_DEEP = "expression recursion limit exceeded"


@dataclass(frozen=True)
class Expression:
    """A checked and compiled expression. ``cost``: of one evaluation without its loops."""

    text: str
    program: Program
    cost: float
    result: Type

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Its value. Raises ``CelError``, ``CostExceeded``."""
        return _evaluate(self.program, self.cost, variables)


@dataclass(frozen=True)
class Rule:
    """A compiled expression. ``transition``: it uses ``oldSelf``. ``cost``: of one evaluation without its loops."""

    text: str
    program: Program
    transition: bool
    cost: float

    def holds(self, value: Any, old: Any = None) -> Any:
        """The value of the expression for ``self`` and ``oldSelf``. Raises ``CelError``, ``CostExceeded``."""
        return _evaluate(self.program, self.cost, {"self": value, "oldSelf": old})


def _evaluate(program: Program, cost: float, variables: Mapping[str, Any]) -> Any:
    left = budget()
    meter = Meter(min(CALL_LIMIT, left.units))
    try:
        meter.spend(cost)
        return program({**variables, METER: meter})
    except RecursionError:
        raise CelError("expression recursion limit exceeded") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # of a function that was given a dynamic value of a type that it does not take
        raise CelError(f"no such overload: {error}") from None
    finally:
        left.units -= meter.spent


@lru_cache(maxsize=1024)
def compile_rule(text: str) -> Rule:
    """Compile an expression. Raises ``CelRefused`` for a syntax error, an unknown name or an unknown function."""
    try:
        tree = parse(text)
        return Rule(text, compile_node(tree, frozenset({"self", "oldSelf"})), uses(tree, "oldSelf"), cost(tree))
    except CelSyntaxError as error:
        raise CelRefused(shown(text, error.at, str(error))) from None
    except RecursionError:
        raise CelRefused(_TOO_DEEP) from None


def check_expression(text: str, environment: Environment) -> Checked:
    """Check an expression's types. Raises ``CelRefused`` with the words of kube-apiserver."""
    try:
        return check(parse(text), text, environment)
    except CelSyntaxError as error:
        raise CelRefused(f"compilation failed: {shown(text, error.at, str(error))}") from None
    except TypeErrors as error:
        raise CelRefused(f"compilation failed: {error}") from None
    except RecursionError:
        raise CelRefused(f"compilation failed: ERROR: <input>:-1:0: {_TOO_DEEP}") from None


def compile_expression(text: str, environment: Environment) -> Expression:
    """Check and compile an expression. Raises ``CelRefused`` with the words of kube-apiserver."""
    checked = check_expression(text, environment)
    try:
        program = compile_node(checked.tree, frozenset(environment.variables))
    except RecursionError:
        raise CelRefused(f"compilation failed: ERROR: <input>:-1:0: {_TOO_DEEP}") from None
    return Expression(text, program, cost(checked.tree), checked.result)
