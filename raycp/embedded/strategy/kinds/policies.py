"""Validation of admission policies and their bindings (``pkg/apis/admissionregistration/validation``)."""

import re
from collections.abc import Callable
from typing import Any

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import Errors, duplicate, forbidden, not_supported, required, too_many, wrong
from raycp.embedded.strategy.cel import CelRefused, check_expression
from raycp.embedded.strategy.cel.admission import admission_environment
from raycp.embedded.strategy.cel.patches import OBJECT, PATCHES
from raycp.embedded.strategy.cel.types import BOOL, DYN, NULL, STRING, Type
from raycp.embedded.strategy.kinds.placement_validation import label_selector
from raycp.embedded.strategy.rules import register

Object = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
_MAX_CONDITIONS, _MAX_ANNOTATIONS, _MAX_VALUE = 64, 20, 5 * 1024
POLICY_LIMIT = 50_000
"""characters of all expressions of a policy: half a second of checks and compilation"""
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")


def _match_defaults(given: Object | None) -> None:
    if given is None:
        return
    for key, value in (("matchPolicy", "Equivalent"), ("namespaceSelector", {}), ("objectSelector", {})):
        if given.get(key) is None:
            given[key] = value
    for rule in (*(given.get("resourceRules") or ()), *(given.get("excludeResourceRules") or ())):
        if rule.get("scope") is None:
            rule["scope"] = "*"


def _policy_defaults(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("failurePolicy") is None:
        spec["failurePolicy"] = "Fail"
    _match_defaults(spec.get("matchConstraints"))


def _binding_defaults(obj: Object) -> None:
    _match_defaults((obj.get("spec") or {}).get("matchResources"))


def match_resources(given: Object, field: str, errors: Errors) -> None:
    """``validateMatchResources``."""
    if given.get("matchPolicy") not in ("Equivalent", "Exact"):
        errors.append(not_supported(f"{field}.matchPolicy", given.get("matchPolicy"), ("Equivalent", "Exact")))
    for key in ("namespaceSelector", "objectSelector"):
        label_selector(given.get(key) or {}, f"{field}.{key}", errors)
    for key in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(given.get(key) or ()):
            _rule(rule, f"{field}.{key}[{index}]", errors)


def _rule(rule: Object, field: str, errors: Errors) -> None:
    seen: set[str] = set()
    for index, name in enumerate(rule.get("resourceNames") or ()):
        errors.extend(wrong(f"{field}.resourceNames[{index}]", name, text) for text in names.path_segment(name))
        if name in seen:
            errors.append(duplicate(f"{field}.resourceNames[{index}]", name))
        seen.add(name)
    for key in ("operations", "apiGroups", "apiVersions", "resources"):
        given = rule.get(key) or []
        if not given:
            errors.append(required(f"{field}.{key}"))
        elif "*" in given and len(given) > 1 and key != "resources":
            errors.append(wrong(f"{field}.{key}", given, "if '*' is present, must not specify other " + _PLURALS[key]))
    for index, one in enumerate(rule.get("operations") or ()):
        if one not in _OPERATIONS:
            errors.append(not_supported(f"{field}.operations[{index}]", one, _OPERATIONS))
    for key in ("apiVersions", "resources"):
        errors.extend(required(f"{field}.{key}[{index}]") for index, one in enumerate(rule.get(key) or ()) if not one)
    if rule.get("scope") not in ("Cluster", "Namespaced", "*"):
        errors.append(not_supported(f"{field}.scope", rule.get("scope"), ("*", "Cluster", "Namespaced")))


_PLURALS = {"operations": "operations", "apiGroups": "API groups", "apiVersions": "API versions"}


class ExpressionChecks:
    """The expressions of one policy. An error's value is the expression, its detail cel-go's."""

    def __init__(self, spec: Object, errors: Errors) -> None:
        self._params = bool(spec.get("paramKind"))
        self._errors = errors
        self._variables: dict[str, Type] | None = None
        self._characters = 0

    def check(
        self,
        text: str,
        field: str,
        wanted: tuple[Type, ...] = (),
        *,
        authorizer: bool = True,
        variables: bool = True,
        patches: bool = False,
    ) -> Type:
        """The expression's type, which must be one of ``wanted``. A dyn is of no type that is wanted."""
        if self._characters > POLICY_LIMIT:
            return DYN  # told already
        self._characters += len(text)
        if self._characters > POLICY_LIMIT:
            self._errors.append(forbidden(field, f"the expressions of a policy may have {POLICY_LIMIT} characters together"))
            return DYN
        known = self._variables if variables else None
        environment = admission_environment(params=self._params, authorizer=authorizer, variables=known, patches=patches)
        try:
            result = check_expression(text, environment).result
        except CelRefused as error:
            self._errors.append(wrong(field, text, str(error)))
            return DYN
        if wanted and result not in wanted:
            one = f"must evaluate to {wanted[0]} but got {result}"
            many = f"must evaluate to one of [{' '.join(map(str, wanted))}] but got {result}"
            self._errors.append(wrong(field, text, one if len(wanted) == 1 else many))
        return result

    def variables(self, spec: Object) -> None:
        """``validateVariable`` of each, in their order: one may use those before it."""
        for index, one in enumerate(spec.get("variables") or ()):
            field = f"spec.variables[{index}]"
            name, text = one.get("name") or "", one.get("expression") or ""
            if not name.strip():
                self._errors.append(required(f"{field}.name", "name is not specified"))
            elif not _IDENTIFIER.fullmatch(name):
                self._errors.append(wrong(f"{field}.name", name, "name is not a valid CEL identifier"))
            self._variables = self._variables if self._variables is not None else {}
            if not text.strip():
                self._errors.append(required(f"{field}.expression", "expression is not specified"))
            else:
                self._variables[name] = self.check(text, f"{field}.expression")

    def conditions(self, spec: Object, whose: str) -> None:
        """``validateMatchConditions`` of ``whose`` field: they see no variables."""
        given = spec.get("matchConditions") or []
        if len(given) > _MAX_CONDITIONS:
            self._errors.append(too_many(f"{whose}.matchConditions", len(given), _MAX_CONDITIONS))
        seen: set[str] = set()
        for index, one in enumerate(given):
            field = f"{whose}.matchConditions[{index}]"
            text, name = (one.get("expression") or "").strip(), one.get("name") or ""
            if not text:
                self._errors.append(required(f"{field}.expression"))
            else:
                self.check(text, f"{field}.expression", (BOOL,), variables=False)
            if not name:
                self._errors.append(required(f"{field}.name"))
            else:
                self._errors.extend(wrong(f"{field}.name", name, why) for why in names.qualified_name(name))
                if name in seen:
                    self._errors.append(duplicate(f"{field}.name", name))
                seen.add(name)


def param_kind(kind: Object, errors: Errors) -> None:
    """``validateParamKind``."""
    version = kind.get("apiVersion") or ""
    if not version:
        errors.append(required("spec.paramKind.apiVersion"))
    elif version.count("/") > 1:
        errors.append(wrong("spec.paramKind.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    else:
        group, _, number = version.rpartition("/")
        if group:
            errors.extend(wrong("spec.paramKind.apiVersion", group, text) for text in names.dns_subdomain(group))
        errors.extend(wrong("spec.paramKind.apiVersion", number, text) for text in names.dns_1035_label(number))
    name = kind.get("kind") or ""
    if not name:
        errors.append(required("spec.paramKind.kind"))
    for text in names.dns_1035_label(name.lower()) if name else ():
        errors.append(wrong("spec.paramKind.kind", name, "may have mixed case, but should otherwise match: " + text))


def policy_head(spec: Object, errors: Errors) -> None:
    """What policies of both kinds have: failurePolicy, paramKind, matchConstraints."""
    if spec.get("failurePolicy") not in ("Fail", "Ignore"):
        errors.append(not_supported("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore")))
    if spec.get("paramKind") is not None:
        param_kind(spec["paramKind"], errors)
    constraints = spec.get("matchConstraints")
    if constraints is None:
        errors.append(required("spec.matchConstraints"))
        return
    match_resources(constraints, "spec.matchConstraints", errors)
    if not constraints.get("resourceRules"):
        errors.append(required("spec.matchConstraints.resourceRules"))


def _validating_policy(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    policy_head(spec, errors)
    checks = ExpressionChecks(spec, errors)
    checks.conditions(spec, "spec")
    checks.variables(spec)
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        for key in ("validations", "auditAnnotations"):
            errors.append(required(f"spec.{key}", "validations or auditAnnotations must contain at least one item"))
    for index, one in enumerate(spec.get("validations") or ()):
        _validation(checks, one, f"spec.validations[{index}]", errors)
    given = spec.get("auditAnnotations") or []
    if len(given) > _MAX_ANNOTATIONS:
        errors.append(wrong("spec.auditAnnotations", given, f"must not have more than {_MAX_ANNOTATIONS} auditAnnotations"))
    seen: set[str] = set()
    for index, one in enumerate(given):
        _annotation(checks, one, obj["metadata"].get("name") or "", f"spec.auditAnnotations[{index}]", errors)
        if one.get("key") in seen:
            errors.append(duplicate(f"spec.auditAnnotations[{index}].key", one.get("key")))
        seen.add(str(one.get("key")))


def _validation(checks: ExpressionChecks, one: Object, field: str, errors: Errors) -> None:
    text, message, said = one.get("expression") or "", one.get("messageExpression") or "", one.get("message") or ""
    if not text.strip():
        errors.append(required(f"{field}.expression", "expression is not specified"))
    else:
        checks.check(text, f"{field}.expression", (BOOL,))
    if message and not message.strip():
        errors.append(wrong(f"{field}.messageExpression", message, "must be non-empty if specified"))
    elif message:
        checks.check(message, f"{field}.messageExpression", (STRING,), authorizer=False)
    if said and not said.strip():
        errors.append(wrong(f"{field}.message", said, "message must be non-empty if specified"))
    elif "\n" in said.strip() or "\r" in said.strip():
        errors.append(wrong(f"{field}.message", said, "message must not contain line breaks"))
    if one.get("reason") is not None and one["reason"] not in _REASONS:
        errors.append(not_supported(f"{field}.reason", one["reason"], _REASONS))


def _annotation(checks: ExpressionChecks, one: Object, policy: str, field: str, errors: Errors) -> None:
    key, text = one.get("key") or "", (one.get("valueExpression") or "").strip()
    if policy:
        errors.extend(wrong(f"{field}.key", f"{policy}/{key}", why) for why in names.qualified_name(f"{policy}/{key}"))
    else:
        errors.append(wrong(f"{field}.key", key, "requires metadata.name be non-empty"))
    if not text:
        errors.append(required(f"{field}.valueExpression", "valueExpression is not specified"))
    elif len(text) > _MAX_VALUE:
        errors.append(required(f"{field}.valueExpression", f"must not exceed {_MAX_VALUE} bytes in length"))
    else:
        checks.check(text, f"{field}.valueExpression", (STRING, NULL))


def binding_head(spec: Object, errors: Errors) -> None:
    """What bindings of both kinds have: policyName, paramRef, matchResources."""
    name = spec.get("policyName") or ""
    if not name:
        errors.append(required("spec.policyName"))
    errors.extend(wrong("spec.policyName", name, text) for text in (names.dns_subdomain(name) if name else ()))
    ref = spec.get("paramRef")
    if ref is not None:
        _param_ref(ref, "spec.paramRef", errors)
    if spec.get("matchResources") is not None:
        match_resources(spec["matchResources"], "spec.matchResouces", errors)  # spelled so by kube-apiserver


def _param_ref(ref: Object, field: str, errors: Errors) -> None:
    name, selector = ref.get("name") or "", ref.get("selector")
    errors.extend(wrong(f"{field}.name", name, text) for text in names.path_segment(name))
    if name and selector is not None:
        errors.append(forbidden(f"{field}.name", "name and selector are mutually exclusive"))
    if selector is not None:
        label_selector(selector, f"{field}.selector", errors)
        if name:
            errors.append(forbidden(f"{field}.selector", "name and selector are mutually exclusive"))
    if not name and selector is None:
        errors.append(required(field, "one of name or selector must be specified"))
    action = ref.get("parameterNotFoundAction")
    if not action:
        errors.append(required(f"{field}.parameterNotFoundAction"))
    elif action not in ("Deny", "Allow"):
        errors.append(not_supported(f"{field}.parameterNotFoundAction", action, ("Deny", "Allow")))


def _validating_binding(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    binding_head(spec, errors)
    seen: list[str] = []
    for index, action in enumerate(spec.get("validationActions") or ()):
        if action not in ("Audit", "Deny", "Warn"):
            errors.append(not_supported(f"spec.validationActions[{index}]", action, ("Audit", "Deny", "Warn")))
        if action in seen:
            errors.append(duplicate(f"spec.validationActions[{index}]", action))
        seen.append(action)
    if "Deny" in seen and "Warn" in seen:
        why = "repeating the same validation failure information in the API response and headers serves no purpose"
        errors.append(wrong("spec.validationActions", seen, f"must not contain both Deny and Warn ({why})"))
    if not seen:
        errors.append(required("spec.validationActions", "at least one validation action is required"))


def again(validate: Callable[[Object, Errors], None]) -> Callable[[Object, Object, Errors], None]:
    """The validation of an update: of the new object, unless its spec is the old one."""
    return lambda new, old, errors: validate(new, errors) if new.get("spec") != old.get("spec") else None


register(
    GROUP,
    "ValidatingAdmissionPolicy",
    generation=True,
    defaults=_policy_defaults,
    validate=_validating_policy,
    validate_update=again(_validating_policy),
)
register(
    GROUP,
    "ValidatingAdmissionPolicyBinding",
    generation=True,
    defaults=_binding_defaults,
    validate=_validating_binding,
    validate_update=again(_validating_binding),
)


def _mutating_defaults(obj: Object) -> None:
    _policy_defaults(obj)
    if not obj["spec"].get("reinvocationPolicy"):
        obj["spec"]["reinvocationPolicy"] = "Never"


_MUTATIONS = {"ApplyConfiguration": ("applyConfiguration", OBJECT), "JSONPatch": ("jsonPatch", PATCHES)}


def _mutating_policy(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    policy_head(spec, errors)
    checks = ExpressionChecks(spec, errors)
    checks.conditions(spec, "spec")
    checks.variables(spec)
    if not spec.get("mutations"):
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for index, one in enumerate(spec.get("mutations") or ()):
        field, kind = f"spec.mutations[{index}]", one.get("patchType") or ""
        if not kind:
            errors.append(required(f"{field}.patchType"))
        elif kind not in _MUTATIONS:
            errors.append(not_supported(f"{field}.patchType", kind, _MUTATIONS))
        else:
            _mutation(checks, one, kind, field, errors)
    policy = spec.get("reinvocationPolicy")
    if policy not in ("IfNeeded", "Never"):
        errors.append(not_supported("spec.reinvocationPolicy", policy, ("IfNeeded", "Never")))


def _mutation(checks: ExpressionChecks, one: Object, kind: str, field: str, errors: Errors) -> None:
    for name, (key, wanted) in _MUTATIONS.items():
        given = one.get(key)
        if name != kind:
            if given is not None:
                errors.append(forbidden(f"{field}.{key}", f"must not be specified when patchType is {kind}"))
            continue
        if given is None:
            errors.append(required(f"{field}.{key}", f"must be specified when patchType is {kind}"))
        elif not (given.get("expression") or "").strip():
            errors.append(required(f"{field}.{key}.expression", "expression is not specified"))
        else:
            checks.check(given["expression"], f"{field}.{key}.expression", (wanted,), patches=True)


def _mutating_binding(obj: Object, errors: Errors) -> None:
    binding_head(obj.get("spec") or {}, errors)


register(
    GROUP,
    "MutatingAdmissionPolicy",
    generation=True,
    defaults=_mutating_defaults,
    validate=_mutating_policy,
    validate_update=again(_mutating_policy),
)
register(
    GROUP,
    "MutatingAdmissionPolicyBinding",
    generation=True,
    defaults=_binding_defaults,
    validate=_mutating_binding,
    validate_update=again(_mutating_binding),
)
