"""The policies of one kind with their bindings, each compiled once."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from raycp.embedded.policies.constraints import GROUP
from raycp.embedded.registry import Registry, ServedResource

Object = dict[str, Any]


class Policy(Protocol):
    """A compiled policy."""

    name: str
    spec: Object


P = TypeVar("P", bound=Policy)
Bound = list[tuple[P, list[tuple[str, Object]]]]
"""policies in the order of their names, each with the names and specs of its bindings"""


class BoundPolicies(Generic[P]):
    """The policies of a kind, "validating" or "mutating", that have a binding; followed as they change. ``any`` is false while
    there are none, and writes need no look at them."""

    def __init__(self, registry: Registry, kind: str, make: Callable[[str, Object], P]) -> None:
        self.any = False
        self._make = make
        self._bound: Bound[P] = []
        self._policies = _kind(registry, f"{kind}admissionpolicies")
        self._bindings = _kind(registry, f"{kind}admissionpolicybindings")
        for each in (self._policies, self._bindings):
            each.table.subscribe("", lambda change: self._load())
        self._load()

    def __iter__(self) -> Iterator[tuple[P, list[tuple[str, Object]]]]:
        """Each policy, by name, with its bindings: name and spec."""
        return iter(self._bound)

    def _load(self) -> None:
        by_policy: dict[str, list[tuple[str, Object]]] = {}
        for record in self._bindings.table.records(""):
            spec = self._bindings.read(record).get("spec") or {}
            by_policy.setdefault(spec.get("policyName") or "", []).append((record.name, spec))
        compiled = {policy.name: policy for policy, _ in self._bound}
        found: Bound[P] = []
        for record in sorted(self._policies.table.records(""), key=lambda one: one.name):
            if record.name in by_policy:
                spec = self._policies.read(record).get("spec") or {}
                old = compiled.get(record.name)
                policy = old if old is not None and old.spec == spec else self._make(record.name, spec)
                found.append((policy, sorted(by_policy[record.name], key=lambda one: one[0])))
        self._bound, self.any = found, bool(found)


def _kind(registry: Registry, plural: str) -> ServedResource:
    found = registry.find(GROUP, "v1", plural)
    assert found is not None
    return found
