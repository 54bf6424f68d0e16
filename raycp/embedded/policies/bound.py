"""The policies of one kind with their bindings, each compiled once."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from raycp.embedded.policies.constraints import GROUP
from raycp.embedded.registry import Registry

Object = dict[str, Any]


class Policy(Protocol):
    """A compiled policy."""

    name: str
    spec: Object


P = TypeVar("P", bound=Policy)
Bound = list[tuple[P, list[tuple[str, Object]]]]
"""policies in the order of their names, each with the names and specs of its bindings"""


def bound_policies(registry: Registry, kind: str, make: Callable[[str, Object], P], before: "Bound[P]") -> "Bound[P]":
    """The policies that have a binding. ``before``: those that are compiled already. ``kind``: "validating" or "mutating"."""
    policies = registry.find(GROUP, "v1", f"{kind}admissionpolicies")
    bindings = registry.find(GROUP, "v1", f"{kind}admissionpolicybindings")
    assert policies is not None
    assert bindings is not None
    by_policy: dict[str, list[tuple[str, Object]]] = {}
    for record in bindings.table.records(""):
        spec = bindings.read(record).get("spec") or {}
        by_policy.setdefault(spec.get("policyName") or "", []).append((record.name, spec))
    known = {policy.name: policy for policy, _ in before}
    found: Bound[P] = []
    for record in sorted(policies.table.records(""), key=lambda one: one.name):
        if record.name in by_policy:
            spec = policies.read(record).get("spec") or {}
            old = known.get(record.name)
            policy = old if old is not None and old.spec == spec else make(record.name, spec)
            found.append((policy, sorted(by_policy[record.name], key=lambda one: one[0])))
    return found
