"""The expressions of a policy: compiled once, evaluated for a request (``apiserver/pkg/admission/plugin/cel``)."""

from collections.abc import Callable
from typing import Any

from raycp.embedded.access import Access, Attributes
from raycp.embedded.auth import User
from raycp.embedded.policies.constraints import AdmissionRequest
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.strategy.budget import budget
from raycp.embedded.strategy.cel import CelError, CelRefused, CostExceeded, Expression, compile_expression
from raycp.embedded.strategy.cel.admission import admission_environment
from raycp.embedded.strategy.cel.authorization import Asked, AuthorizationCheck
from raycp.embedded.strategy.cel.types import Type

Object = dict[str, Any]
OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class OutOfBudget(Exception):
    """The expressions of one request have cost as much as they may."""


class EvaluationError(Exception):
    """An expression has no value. The message is kube-apiserver's."""


class _Variables(dict[str, Any]):
    """``variables``: each is evaluated when it is first asked for."""

    def __init__(self, compiled: dict[str, Expression | str], scope: dict[str, Any]) -> None:
        super().__init__()
        self._compiled = compiled
        self._scope = scope

    def __contains__(self, name: object) -> bool:
        return name in self._compiled

    def __missing__(self, name: str) -> Any:
        one = self._compiled[name]
        if isinstance(one, str):
            raise CelError(f'composited variable "{name}" fails to compile: {one}')
        try:
            found = self[name] = one.value(self._scope)
        except CelError as error:
            raise CelError(f'composited variable "{name}" fails to evaluate: {error}') from None
        return found


class PolicyExpressions:
    """The environment of one policy's expressions: its parameters' kind, and its variables."""

    def __init__(self, spec: Object) -> None:
        self._params = bool(spec.get("paramKind"))
        self.variables: dict[str, Expression | str] = {}
        self._types: dict[str, Type] | None = None
        for one in spec.get("variables") or ():
            self._types = self._types if self._types is not None else {}
            made = self.compiled(one["expression"])
            self.variables[one["name"]] = made
            self._types[one["name"]] = Type("dyn") if isinstance(made, str) else made.result

    def compiled(self, text: str, *, authorizer: bool = True, patches: bool = False) -> Expression | str:
        """The expression, or why it does not compile. ``patches``: it makes objects or JSON patches."""
        environment = admission_environment(
            params=self._params, authorizer=authorizer, variables=self._types, patches=patches
        )
        try:
            return compile_expression(text, environment)
        except CelRefused as error:
            return str(error)

    def scope(self, values: dict[str, Any]) -> dict[str, Any]:
        """The variables of an evaluation."""
        made = dict(values)
        made["variables"] = _Variables(self.variables, made)
        return made


def evaluate(one: Expression | str, scope: dict[str, Any]) -> Any:
    """The value of an expression. Raises ``EvaluationError``, ``OutOfBudget``."""
    if isinstance(one, str):
        raise EvaluationError(f"compilation error: {one}")
    try:
        return one.value(scope)
    except CelError as error:
        raise EvaluationError(f"expression '{one.text}' resulted in error: {error}") from None
    except CostExceeded:
        if budget().units <= 0:
            raise OutOfBudget from None
        text = "operation cancelled: actual cost limit exceeded"
        raise EvaluationError(f"expression '{one.text}' resulted in error: {text}") from None


def applies(conditions: list[Expression | str], scope: dict[str, Any]) -> bool:
    """Whether all matchConditions hold. One that is false decides, whatever others fail with. Raises ``EvaluationError``,
    ``OutOfBudget``."""
    failed: list[str] = []
    for condition in conditions:
        try:
            if evaluate(condition, scope) is not True:
                return False
        except EvaluationError as error:
            failed.append(str(error))
    if failed:
        raise EvaluationError(failed[0] if len(failed) == 1 else "[" + ", ".join(failed) + "]")
    return True


def values_of(registry: Registry, access: Access, request: AdmissionRequest, matched: ServedResource) -> dict[str, Any]:
    """The variables of a request, but for ``params``. ``matched``: the version that the policy is for."""
    namespace = None
    own = request.resource.info.plural == "namespaces" and not request.resource.info.group
    if request.ns and not own:
        namespaces = registry.find("", "v1", "namespaces")
        record = namespaces.table.get("", request.ns) if namespaces is not None else None
        namespace = record.decode() if record is not None else None
    info = request.resource.info
    decide = _decider(access, request.user)
    asked = Asked(group=info.group, resource=info.plural, subresource=request.sub, namespace=request.ns, name=request.name)
    return {
        "object": request.converted(matched, request.obj),
        "oldObject": request.converted(matched, request.old),
        "request": request.attributes(matched),
        "namespaceObject": namespace,
        "authorizer": AuthorizationCheck(decide),
        "authorizer.requestResource": AuthorizationCheck(decide, asked, "resource"),
    }


def _decider(access: Access, user: User) -> Callable[[Asked], tuple[bool, str]]:
    def decide(asked: Asked) -> tuple[bool, str]:
        who = user
        if asked.user:
            _, _, namespace, name = asked.user.split(":", 3)
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
            who = User(f"system:serviceaccount:{namespace}:{name}", groups)
        if asked.path:
            return access.may_path(who, asked.verb, asked.path), ""
        attributes = Attributes(asked.verb, asked.group, "*", asked.resource, asked.subresource, asked.namespace, asked.name)
        found = access.decide(who, attributes)
        return found.allowed, found.reason

    return decide
