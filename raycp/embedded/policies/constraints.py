"""Which requests a policy or a webhook wants (``apiserver/pkg/admission/plugin/policy/matching``)."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raycp.embedded.auth import User
from raycp.embedded.convert import converter
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.selectors import parse_label_dict

Object = dict[str, Any]
GROUP = "admissionregistration.k8s.io"


@dataclass(frozen=True)
class AdmissionRequest:
    """A request under admission. ``obj`` is None for DELETE, ``old`` for CREATE; both are in the version of ``resource``."""

    resource: ServedResource
    operation: str
    sub: str
    obj: Object | None
    old: Object | None
    user: User
    dry_run: bool
    kind: Object | None = None
    """that of the objects, where it is not that of ``resource``"""

    @property
    def meta(self) -> Object:
        found: Object = (self.obj if self.obj is not None else self.old or {})["metadata"]
        return found

    @property
    def name(self) -> str:
        return str(self.meta.get("name") or "")

    @property
    def ns(self) -> str:
        return str(self.meta.get("namespace") or "")

    def attributes(self, matched: ServedResource | None = None) -> Object:
        """The fields of an AdmissionReview's request, without the objects. ``matched``: the version that a policy is for."""
        own, other = self.resource.info, (matched or self.resource).info
        found: Object = {
            "kind": self.kind or _kind(other),
            "resource": _plural(other),
            "requestKind": self.kind or _kind(own),
            "requestResource": _plural(own),
            "name": self.name,
            "operation": self.operation,
            "userInfo": self.user.info(),
            "dryRun": self.dry_run,
            "options": {"kind": f"{self.operation.title()}Options", "apiVersion": "meta.k8s.io/v1"},
        }
        if self.sub:
            found["subResource"] = found["requestSubResource"] = self.sub
        if self.ns:
            found["namespace"] = self.ns
        return found

    def review(self) -> Object:
        """The AdmissionReview that webhooks are asked."""
        request = {"uid": str(uuid.uuid4()), **self.attributes(), "object": self.obj, "oldObject": self.old}
        return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}

    def converted(self, matched: ServedResource, obj: Object | None) -> Object | None:
        """One of the request's objects in the version of ``matched``."""
        if obj is None or matched is self.resource:
            return obj
        change = converter(self.resource.info, matched.info)
        return {**(obj if change is None else change(obj)), "apiVersion": matched.info.api_version}


def _kind(info: ResourceInfo) -> Object:
    return {"group": info.group, "version": info.version, "kind": info.kind}


def _plural(info: ResourceInfo) -> Object:
    return {"group": info.group, "version": info.version, "resource": info.plural}


def exempt(info: ResourceInfo) -> bool:
    """Whether the resource configures admission, and is itself under no policy and no webhook."""
    return info.group == GROUP


def rule_covers(rule: Object, info: ResourceInfo, sub: str, operation: str, name: str = "") -> bool:
    """Whether a rule is for a resource, subresource, operation and name."""

    def has(key: str, wanted: str) -> bool:
        given = rule.get(key) or ()
        return "*" in given or wanted in given

    resources = rule.get("resources") or ()
    if sub:
        wanted = {f"{info.plural}/{sub}", "*/*", f"*/{sub}", f"{info.plural}/*"}
    else:
        wanted = {info.plural, "*", "*/*", f"{info.plural}/*"}
    scope = rule.get("scope") or "*"
    names = rule.get("resourceNames") or ()
    return (
        not wanted.isdisjoint(resources)
        and (scope == "*" or (scope == "Namespaced") == info.namespaced)
        and has("operations", operation)
        and has("apiGroups", info.group)
        and has("apiVersions", info.version)
        and (not names or name in names)
    )


def selected(registry: Registry, given: Object, request: AdmissionRequest) -> bool:
    """Whether the namespaceSelector and the objectSelector select a request, by its object or the old one."""
    objects = [one for one in (request.obj, request.old) if one is not None]
    own: list[Mapping[str, str]] = [one["metadata"].get("labels") or {} for one in objects]
    selector = given.get("namespaceSelector")
    if selector:
        info = request.resource.info
        labels: list[Mapping[str, str]] = []
        if info.plural == "namespaces" and not info.group:
            labels = own
        elif request.ns:
            namespaces = registry.find("", "v1", "namespaces")
            record = namespaces.table.get("", request.ns) if namespaces is not None else None
            labels = [record.labels if record is not None else {}]
        if labels and not any(map(parse_label_dict(selector), labels)):
            return False
    selector = given.get("objectSelector")
    return not selector or any(map(parse_label_dict(selector), own))


def matches(registry: Registry, given: Object, request: AdmissionRequest) -> ServedResource | None:
    """The resource, in the version that the rules name, as which a request matches ``MatchResources``; None if it does not."""
    if not selected(registry, given, request):
        return None
    equivalent = given.get("matchPolicy") != "Exact"
    if _by_rules(registry, given.get("excludeResourceRules") or (), equivalent, request) is not None:
        return None
    rules = given.get("resourceRules") or ()
    return _by_rules(registry, rules, equivalent, request) if rules else request.resource


def _by_rules(registry: Registry, rules: Any, equivalent: bool, request: AdmissionRequest) -> ServedResource | None:
    for rule in rules:
        if rule_covers(rule, request.resource.info, request.sub, request.operation, request.name):
            return request.resource
    if not equivalent:
        return None
    own = request.resource
    others = [other for other in registry.resources.values() if other.table is own.table and other is not own]
    for other in others:
        if any(rule_covers(rule, other.info, request.sub, request.operation, request.name) for rule in rules):
            return other
    return None
