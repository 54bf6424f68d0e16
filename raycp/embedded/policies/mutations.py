"""MutatingAdmissionPolicy (``apiserver/pkg/admission/plugin/policy/mutating``)."""

from dataclasses import dataclass
from typing import Any

from raycp.embedded.access import Access
from raycp.embedded.auth import User
from raycp.embedded.errors import StatusError, forbidden
from raycp.embedded.fixed_fields import keep_fixed
from raycp.embedded.managed.apply import check_typed, merge
from raycp.embedded.patches import json_patch
from raycp.embedded.pipeline import Draft
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
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.strategy import shapes
from raycp.embedded.strategy.budget import validation_budget
from raycp.embedded.strategy.cel import Expression
from raycp.embedded.strategy.cel.patches import TypedObject, misnamed
from raycp.embedded.strategy.shapes import Shape
from raycp.embedded.strategy.structural import deep_copy

Object = dict[str, Any]


class MutatingPolicy:
    """A compiled policy."""

    def __init__(self, name: str, spec: Object) -> None:
        self.name = name
        self.spec = spec
        self.constraints: Object = spec.get("matchConstraints") or {}
        self.fails = spec.get("failurePolicy", "Fail") == "Fail"
        self.again = spec.get("reinvocationPolicy") == "IfNeeded"
        self._expressions = made = PolicyExpressions(spec)
        self._conditions = [made.compiled(one["expression"]) for one in spec.get("matchConditions") or ()]
        self._mutations: list[tuple[str, Expression | str]] = []
        for one in spec.get("mutations") or ():
            kind = "jsonPatch" if one.get("patchType") == "JSONPatch" else "applyConfiguration"
            text = (one.get(kind) or {}).get("expression") or ""
            self._mutations.append((kind, made.compiled(text, patches=True)))

    def mutate(self, values: Object, params: Object | None, resource: ServedResource) -> tuple[Object, list[str]]:
        """The object after the policy's mutations, and why some of them failed. Each sees what those before it made."""
        obj: Object = values["object"]
        errors: list[str] = []
        try:
            if not applies(self._conditions, self._expressions.scope({**values, "params": params})):
                return obj, []
        except EvaluationError as error:
            return obj, [str(error)]
        for kind, expression in self._mutations:
            try:
                made = evaluate(expression, self._expressions.scope({**values, "object": obj, "params": params}))
                obj = self._patched(obj, made, resource) if kind == "jsonPatch" else self._applied(obj, made, resource)
            except (EvaluationError, StatusError) as error:
                errors.append(str(error))
        return obj, errors

    @staticmethod
    def _patched(obj: Object, made: Any, resource: ServedResource) -> Object:
        if not all(isinstance(one, dict) for one in made):
            raise EvaluationError("JSON Patch: an element is no JSONPatch")
        patch = [dict(one) for one in made]
        for one in patch:
            value = one.get("value")
            told = misnamed(value, value.type_name) if isinstance(value, TypedObject) else []
            if told:
                raise EvaluationError("type mismatch: " + "\n".join(told))
        try:
            changed = json_patch.apply(deep_copy(obj), [_plain(one) for one in patch])
        except json_patch.TestFailed:
            return obj
        except (json_patch.JsonPatchFailed, json_patch.MalformedJsonPatch) as error:
            raise EvaluationError(f"JSON Patch: {error}") from None
        if not isinstance(changed, dict):
            raise EvaluationError("JSON Patch: the result is no object")
        return resource.strategy.convert(changed)

    @staticmethod
    def _applied(obj: Object, made: Any, resource: ServedResource) -> Object:
        told = misnamed(made, "Object")
        if told:
            raise EvaluationError("type mismatch: " + "\n".join(told))
        shape, patch = resource.strategy.shape, _plain(made)
        info = resource.info
        problems: list[str] = []
        check_typed(shape, {**patch, "apiVersion": info.api_version, "kind": info.kind}, "", problems)
        if problems:
            text = "failed to convert patch object to typed object: " + "\n".join(problems)
            raise EvaluationError(f"error applying patch: {text}")
        atomic = _atomic(shape, patch, "")
        if atomic:
            text = f"may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
            raise EvaluationError(f"error applying patch: invalid ApplyConfiguration: {text}")
        return resource.strategy.convert(merge(shape, deep_copy(obj), patch))


def _plain(value: Any) -> Any:
    """A value of CEL as JSON's."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value) is float or type(value) is int:
        return value
    return int(value) if isinstance(value, int) else str(value)


def _atomic(shape: Shape, value: Any, path: str) -> list[str]:
    """The paths of what is atomic in a patch: to set a part of it would remove the rest."""
    if isinstance(value, dict):
        found = [path] if shape.atomic else []
        for key, one in value.items():
            inner = shape.fields.get(key) if shape.kind == shapes.OBJECT else None
            if inner is not None:
                found += _atomic(inner, one, f"{path}.{key}")
        return found
    if isinstance(value, list) and shape.kind == shapes.LIST:
        found = [path] if shape.list_type not in ("map", "set") else []
        if shape.item is not None:
            for index, one in enumerate(value):
                found += _atomic(shape.item, one, f"{path}[{index}]")
        return found
    return []


@dataclass(frozen=True)
class _Invocation:
    policy: MutatingPolicy
    binding: str
    params: Object | None
    matched: ServedResource


class MutatingPolicies:
    """The policies with bindings. ``any``: see ``BoundPolicies``."""

    def __init__(self, registry: Registry, access: Access) -> None:
        self._registry = registry
        self._access = access
        self._bound = BoundPolicies(registry, "mutating", MutatingPolicy)

    @property
    def any(self) -> bool:
        return self._bound.any

    def mutate(self, draft: Draft, user: User) -> Draft:
        """The draft as the policies that match change it. Raises ``StatusError`` if one fails that must not."""
        if exempt(draft.resource.info):
            return draft
        with validation_budget():
            return self._mutate(draft, user)

    def _mutate(self, draft: Draft, user: User) -> Draft:
        errors: list[tuple[MutatingPolicy, str, str]] = []
        obj, invocations = draft.obj, self._invocations(draft, user, errors)
        changed_at = -1
        for index, one in enumerate(invocations):
            made = self._invoke(one, draft, obj, user, errors)
            if made != obj:
                obj, changed_at = made, index
        for index, one in enumerate(invocations):
            # what others changed after it, one that asks for it sees once more
            if one.policy.again and index < changed_at:
                obj = self._invoke(one, draft, obj, user, errors)
        denied = [(policy, binding, why) for policy, binding, why in errors if policy.fails]
        if denied:
            raise _refused(draft, denied)
        return draft if obj is draft.obj else draft._replace(obj=keep_fixed(draft, obj))

    def _request(self, draft: Draft, obj: Object, user: User) -> AdmissionRequest:
        operation = "CREATE" if draft.old is None else "UPDATE"
        return AdmissionRequest(draft.resource, operation, draft.subresource, obj, draft.old, user, draft.options.dry_run)

    def _invocations(self, draft: Draft, user: User, errors: list[tuple[MutatingPolicy, str, str]]) -> list[_Invocation]:
        request = self._request(draft, draft.obj, user)
        found: list[_Invocation] = []
        for policy, bindings in self._bound:
            matched = matches(self._registry, policy.constraints, request)
            if matched is None:
                continue
            for name, binding in bindings:
                if matches(self._registry, binding.get("matchResources") or {}, request) is None:
                    continue
                try:
                    params = params_of(self._registry, policy.spec.get("paramKind"), binding.get("paramRef"), request.ns)
                except Misconfigured as error:
                    errors.append((policy, name, f"failed to configure binding: {error}"))
                    continue
                found += [_Invocation(policy, name, one, matched) for one in params]
        return found

    def _invoke(
        self, one: _Invocation, draft: Draft, obj: Object, user: User, errors: list[tuple[MutatingPolicy, str, str]]
    ) -> Object:
        request = self._request(draft, obj, user)
        values = values_of(self._registry, self._access, request, one.matched)
        try:
            made, failed = one.policy.mutate(values, one.params, one.matched)
        except OutOfBudget:
            made, failed = values["object"], [OUT_OF_BUDGET]
        errors += [(one.policy, one.binding, why) for why in failed]
        if made is values["object"] or made == values["object"]:
            return obj
        back = AdmissionRequest(one.matched, request.operation, request.sub, made, None, user, False)
        return back.converted(draft.resource, made) or obj


def _refused(draft: Draft, denied: list[tuple[MutatingPolicy, str, str]]) -> StatusError:
    texts = [f"policy '{policy.name}' with binding '{binding}' denied request: {why}" for policy, binding, why in denied]
    name = draft.obj["metadata"].get("name") or draft.obj["metadata"].get("generateName") or ""
    error = forbidden(draft.resource.info, name, "admission request denied by policy")
    error.reason, error.message = "Invalid", texts[0]
    error.details = {**(error.details or {}), "causes": [{"message": text} for text in texts]}
    return error
