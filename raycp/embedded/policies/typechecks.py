"""The controller that checks the types of policies' expressions (``validatingadmissionpolicystatus`` of kube-controller-manager).

It writes ``status.typeChecking`` of each ValidatingAdmissionPolicy: a warning for each expression that does not fit one of the
types that the policy's rules name. It changes nothing of what the policy does.
"""

import asyncio
from typing import Any

from raycp.embedded.localapi import LocalApi
from raycp.embedded.name_queue import NamesToSettle
from raycp.embedded.policies.constraints import GROUP
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.store import StoreChange
from raycp.embedded.strategy.cel import CelRefused, check_expression
from raycp.embedded.strategy.cel.admission import admission_environment
from raycp.embedded.strategy.cel.declared import Declared, declare
from raycp.embedded.strategy.cel.types import DYN, Type
from raycp.embedded.strategy.kind_schemas import resource_schema

Object = dict[str, Any]
POLICIES = f"validatingadmissionpolicies.{GROUP}"
_TYPES = 10
"""how many types are checked (``maxTypesToCheck``)"""


async def expression_warnings(registry: Registry, spec: Object) -> list[Object]:
    """``status.typeChecking.expressionWarnings`` of a policy. Others run between the checks."""
    kinds = [(resource, made) for resource in _resources(registry, spec) if (made := _declared(resource)) is not None]
    params = _params(registry, spec)
    found: list[Object] = []
    for index, validation in enumerate(spec.get("validations") or ()):
        for key in ("expression", "messageExpression"):
            text = validation.get(key)
            told: list[str] = []
            for resource, kind in kinds if text else ():
                await asyncio.sleep(0)
                why = _check(spec, text, kind, params)
                if why:
                    told.append(f"{_shown(resource)}: {why}\n")
            if told:
                found.append({"fieldRef": f"spec.validations[{index}].{key}", "warning": "\n".join(told)})
    return found


def _check(spec: Object, text: str, kind: Declared, params: Declared | None) -> str:
    """What does not fit in an expression; variables are checked first, and one that does not fit is of no type."""
    variables: dict[str, Type] = {}
    has_params = bool(spec.get("paramKind"))
    for one in spec.get("variables") or ():
        environment = admission_environment(
            params=has_params, authorizer=True, variables=variables, kind=kind, params_kind=params
        )
        try:
            variables[one["name"]] = check_expression(one["expression"], environment).result
        except CelRefused:
            variables[one["name"]] = DYN
    environment = admission_environment(params=has_params, authorizer=True, variables=variables, kind=kind, params_kind=params)
    try:
        check_expression(text, environment)
    except CelRefused as error:
        return str(error).removeprefix("compilation failed: ")
    return ""


def _shown(resource: ServedResource) -> str:
    info = resource.info
    return f"{info.group}/{info.version}, Kind={info.kind}"


def _resources(registry: Registry, spec: Object) -> list[ServedResource]:
    """The resources that the rules name, without those of rules with wildcards, in the order of their kinds."""
    found: dict[tuple[str, str, str], ServedResource] = {}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        if any("*" in one for one in (*groups, *versions)):
            continue
        for group in sorted(groups):
            for version in sorted(versions):
                for plural in sorted(one for one in rule.get("resources") or () if "*" not in one and "/" not in one):
                    resource = registry.find(group, version, plural)
                    if resource is not None and len(found) < _TYPES:
                        found[group, version, resource.info.kind] = resource
    return [found[key] for key in sorted(found)]


def _declared(resource: ServedResource) -> Declared | None:
    schema = resource_schema(resource.info)
    made = declare(schema) if schema is not None else None
    return made.named(resource.info.kind) if made is not None else None


def _params(registry: Registry, spec: Object) -> Declared | None:
    kind = spec.get("paramKind") or {}
    resource = registry.by_kind(kind.get("apiVersion") or "", kind.get("kind") or "")
    return _declared(resource) if resource is not None else None


class TypeChecks:
    """Subscribes to policies and writes their status in a later turn of the event loop."""

    def __init__(self, registry: Registry, api: LocalApi) -> None:
        self._registry = registry
        self._api = api.as_manager("kube-controller-manager")
        found = registry.find(GROUP, "v1", "validatingadmissionpolicies")
        assert found is not None
        self._policies = found
        self._unsubscribe: Any = None
        self._names = NamesToSettle(self._settle)

    def start(self) -> None:
        self._unsubscribe = self._policies.table.subscribe("", self._on_change)
        for record in self._policies.table.records(""):
            self._names.put(record.name)

    def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._names.stop()

    def _on_change(self, change: StoreChange) -> None:
        if change.type != "DELETED":
            self._names.put(change.record.name)

    async def _settle(self, name: str) -> None:
        record = self._policies.table.get("", name)
        if record is None:
            return
        policy = self._policies.read(record)
        generation = policy["metadata"].get("generation")
        status = policy.get("status") or {}
        if status.get("observedGeneration") == generation and status.get("typeChecking") is not None:
            return
        warnings = await expression_warnings(self._registry, policy.get("spec") or {})
        checked: Object = {"expressionWarnings": warnings} if warnings else {}
        policy["status"] = {**status, "observedGeneration": generation, "typeChecking": checked}
        await self._api.update(POLICIES, policy, subresource="status")
