"""ValidatingAdmissionPolicy (``apiserver/pkg/admission/plugin/policy/validating``)."""

import logging
from dataclasses import dataclass, field
from typing import Any

import msgspec

from raycp.embedded.access import Access
from raycp.embedded.errors import StatusError, forbidden
from raycp.embedded.policies.bound import BoundPolicies
from raycp.embedded.policies.constraints import AdmissionRequest, exempt, matches
from raycp.embedded.policies.evaluation import (
    OUT_OF_BUDGET,
    EvaluationError,
    OutOfBudget,
    PolicyExpressions,
    applies,
    evaluate,
    values_of,
)
from raycp.embedded.policies.params import Misconfigured, params_of
from raycp.embedded.registry import Registry
from raycp.embedded.strategy.budget import validation_budget
from raycp.embedded.strategy.cel import Expression

log = logging.getLogger(__name__)

Object = dict[str, Any]
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
MESSAGE_LIMIT = 5 * 1024
"""bytes of the result of a messageExpression (``MaxEvaluatedMessageExpressionSizeBytes``)"""
_ANNOTATION_LIMIT = 10 * 1024


@dataclass(frozen=True)
class Denial:
    """Why a validation failed. ``reason`` is that of the Status; ``index`` is the validation's."""

    message: str
    reason: str = "Invalid"
    index: int = 0


@dataclass
class PolicyVerdict:
    """What a policy says of a request with one object of parameters."""

    denials: list[Denial] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    """of audit annotations: they deny the request, whatever the binding's actions are"""


class ValidatingPolicy:
    """A compiled policy."""

    def __init__(self, name: str, spec: Object) -> None:
        self.name = name
        self.spec = spec
        self.constraints: Object = spec.get("matchConstraints") or {}
        self.fails = spec.get("failurePolicy", "Fail") == "Fail"
        self._expressions = made = PolicyExpressions(spec)
        self._conditions = [made.compiled(one["expression"]) for one in spec.get("matchConditions") or ()]
        self._validations: list[tuple[Object, Expression | str, Expression | str | None]] = []
        for one in spec.get("validations") or ():
            text = one.get("messageExpression")
            message = made.compiled(text, authorizer=False) if text else None
            self._validations.append((one, made.compiled(one["expression"]), message))
        self._annotations = [(one, made.compiled(one["valueExpression"])) for one in spec.get("auditAnnotations") or ()]

    def judge(self, values: Object, params: Object | None) -> PolicyVerdict:
        """What the policy says of a request."""
        scope = self._expressions.scope({**values, "params": params})
        verdict = PolicyVerdict()
        try:
            if applies(self._conditions, scope):
                for index, (spec, expression, message) in enumerate(self._validations):
                    denial = self._denial(index, spec, expression, message, scope)
                    if denial is not None:
                        verdict.denials.append(denial)
                self._annotate(scope, verdict)
        except OutOfBudget:
            return PolicyVerdict([Denial(OUT_OF_BUDGET)] if self.fails else [])
        except EvaluationError as error:
            return PolicyVerdict([Denial(str(error))] if self.fails else [])
        return verdict

    def _denial(
        self, index: int, spec: Object, expression: Expression | str, message: Expression | str | None, scope: Object
    ) -> Denial | None:
        try:
            if evaluate(expression, scope) is True:
                return None
        except EvaluationError as error:
            return Denial(str(error), index=index) if self.fails else None
        text = _message(message, scope) or (spec.get("message") or "").strip() or f"failed expression: {spec['expression'].strip()}"
        return Denial(text, spec.get("reason") or "Invalid", index)

    def _annotate(self, scope: Object, verdict: PolicyVerdict) -> None:
        for spec, expression in self._annotations:
            try:
                value = evaluate(expression, scope)
            except EvaluationError as error:
                if self.fails:
                    verdict.errors.append(str(error))
                continue
            if isinstance(value, str) and value.strip():
                verdict.annotations[f"{self.name}/{spec['key']}"] = value.strip()[:_ANNOTATION_LIMIT]
            elif value is not None and not isinstance(value, str):
                what = f"valueExpression '{spec['valueExpression']}' resulted in unsupported return type"
                verdict.errors.append(f"{what}: {type(value).__name__}. Return type must be either string or null.")


def _message(message: Expression | str | None, scope: Object) -> str:
    """The text that a messageExpression makes; empty if it makes none that may be shown."""
    if message is None:
        return ""
    try:
        made = evaluate(message, scope)
    except EvaluationError:
        return ""
    text = made.strip() if isinstance(made, str) else ""
    return "" if "\n" in text or len(text.encode()) > MESSAGE_LIMIT else text


class ValidatingPolicies:
    """The policies with bindings. ``any``: see ``BoundPolicies``."""

    def __init__(self, registry: Registry, access: Access) -> None:
        self._registry = registry
        self._access = access
        self._bound = BoundPolicies(registry, "validating", ValidatingPolicy)

    @property
    def any(self) -> bool:
        return self._bound.any

    def admit(self, request: AdmissionRequest, warnings: list[str]) -> None:
        """Evaluate the policies that match. Raises ``StatusError`` if one denies the request."""
        if exempt(request.resource.info):
            return
        with validation_budget():
            self._admit(request, warnings)

    def _admit(self, request: AdmissionRequest, warnings: list[str]) -> None:
        denied: list[tuple[str, Denial]] = []
        failures: list[Object] = []
        annotations: dict[str, str] = {}
        for policy, bindings in self._bound:
            matched = matches(self._registry, policy.constraints, request)
            if matched is None:
                continue
            values: Object | None = None
            for name, binding in bindings:
                if matches(self._registry, binding.get("matchResources") or {}, request) is None:
                    continue
                who = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{name}'"
                try:
                    params = params_of(self._registry, policy.spec.get("paramKind"), binding.get("paramRef"), request.ns)
                except Misconfigured as error:
                    if policy.fails:
                        denied.append((who, Denial(f"failed to configure binding: {error}")))
                    continue
                if values is None:
                    values = values_of(self._registry, self._access, request, matched)
                verdicts = [policy.judge(values, one) for one in params]
                for verdict in verdicts:
                    annotations.update(verdict.annotations)
                    denied += [(who, Denial(text)) for text in verdict.errors]
                    for denial in verdict.denials:
                        actions = binding.get("validationActions") or ()
                        if "Deny" in actions:
                            denied.append((who, denial))
                        if "Warn" in actions:
                            warnings.append(f"Validation failed for {who}: {denial.message}")
                        if "Audit" in actions:
                            failures.append(_failure(policy.name, name, denial, list(actions)))
        self._audit(request, annotations, failures)
        if denied:
            raise _refused(request, *denied[0])

    @staticmethod
    def _audit(request: AdmissionRequest, annotations: dict[str, str], failures: list[Object]) -> None:
        """Log what an audit event would be annotated with: embedded clusters have no audit log."""
        if failures:
            key = "validation.policy.admission.k8s.io/validation_failure"
            annotations = {**annotations, key: msgspec.json.encode(failures).decode()}
        if annotations:
            info = request.resource.info
            log.info("audit of %s %s %s/%s: %s", request.operation, info.name, request.ns, request.name, annotations)


def _failure(policy: str, binding: str, denial: Denial, actions: list[str]) -> Object:
    return {
        "message": denial.message,
        "policy": policy,
        "binding": binding,
        "expressionIndex": denial.index,
        "validationActions": actions,
    }


def _refused(request: AdmissionRequest, who: str, denial: Denial) -> StatusError:
    text = f"{who} denied request: {denial.message}"
    error = forbidden(request.resource.info, request.name, text)
    error.code, error.reason = _CODES.get(denial.reason, 422), denial.reason
    error.details = {**(error.details or {}), "causes": [{"message": text}]}
    return error
