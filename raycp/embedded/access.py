"""Authorization: every authenticated user may do everything, or RBAC if the cluster enforces it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from raycp.base.text_cache import LONGEST
from raycp.embedded.auth import ANONYMOUS, MASTERS, PUBLIC_PATHS, User
from raycp.embedded.errors import StatusError, not_found
from raycp.embedded.registry import Registry
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.store import StoreChange, StoredObject, Table

RBAC = "rbac.authorization.k8s.io"
_CACHED = 1024
"""users and namespaces whose rules are kept"""


class Attributes(NamedTuple):
    """The attributes of a request that authorization judges."""

    verb: str
    group: str
    version: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class AccessDecision(NamedTuple):
    """``reason`` as SubjectAccessReview reports it."""

    allowed: bool
    reason: str = ""


class Access:
    """The authorizer. Rules are decoded once and cached until a role or binding changes."""

    def __init__(self, registry: Registry, enforced: bool) -> None:
        self.enforced = enforced
        self._tables: dict[str, Table] = {}
        self._infos: dict[str, ResourceInfo] = {}
        self._cache: dict[tuple[str, tuple[str, ...], str], list[tuple[dict[str, Any], str]]] = {}
        for plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings"):
            found = registry.find(RBAC, "v1", plural)
            assert found is not None
            self._tables[plural] = found.table
            self._infos[plural] = found.info
            found.table.subscribe("", self._changed)

    def check(self, user: User, asked: Attributes) -> None:
        """Raises ``StatusError`` 403."""
        if self.decide(user, asked).allowed:
            return
        where = f' in the namespace "{asked.namespace}"' if asked.namespace else " at the cluster scope"
        what = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        named = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
        quoted = f' "{asked.name}"' if asked.name else ""
        message = (
            f'{named}{quoted} is forbidden: User "{user.name}" cannot {asked.verb} resource "{what}" in API group '
            f'"{asked.group}"{where}'
        )
        details = {"name": asked.name, "group": asked.group, "kind": asked.resource}
        raise StatusError(403, "Forbidden", message, details)

    def decide(self, user: User, asked: Attributes) -> AccessDecision:
        """Whether ``user`` is allowed to make the request."""
        if MASTERS in user.groups:
            return AccessDecision(True)
        if not self.enforced:
            return AccessDecision(user.name != ANONYMOUS.name)
        resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        for rule, reason in self.rules(user, asked.namespace):
            if _covers(rule, asked.verb, asked.group, resource, asked.subresource, asked.name):
                return AccessDecision(True, reason)
        return AccessDecision(False)

    def may_path(self, user: User, verb: str, path: str) -> bool:
        """Whether ``user`` may access a non-resource path."""
        if MASTERS in user.groups or (verb in ("get", "head") and path in PUBLIC_PATHS):
            return True
        if user.name == ANONYMOUS.name:
            return False
        if not self.enforced:
            return not path.startswith("/raycp/")
        open_to_all = ("/api", "/apis", "/openapi", "/healthz", "/livez", "/readyz", "/version")
        if verb in ("get", "head") and any(path == p or path.startswith(p + "/") for p in open_to_all):
            return True
        return any(
            _path_in(rule.get("nonResourceURLs") or (), path) and _has(rule.get("verbs") or (), verb)
            for rule, _ in self.rules(user, "")
        )

    def rules(self, user: User, namespace: str) -> list[tuple[dict[str, Any], str]]:
        """The rules that apply to ``user`` in ``namespace``, cluster-wide ones included, with the reason of each."""
        key = (user.name, user.groups, namespace)
        found = self._cache.get(key)
        if found is None:
            found = list(self._collect(user, namespace))
            if len(user.name) + len(namespace) + sum(map(len, user.groups)) <= LONGEST:
                if len(self._cache) >= _CACHED:
                    self._cache.clear()  # reviews and impersonation ask about any user
                self._cache[key] = found
        return found

    def _collect(self, user: User, namespace: str) -> Iterator[tuple[dict[str, Any], str]]:
        for record in self._tables["clusterrolebindings"].records(""):
            yield from self._bound(record.decode(), user, "", "ClusterRoleBinding", record.name)
        if namespace:
            for record in self._tables["rolebindings"].records(namespace):
                yield from self._bound(record.decode(), user, namespace, "RoleBinding", f"{record.name}/{namespace}")

    def _bound(
        self, binding: dict[str, Any], user: User, namespace: str, kind: str, shown: str
    ) -> Iterator[tuple[dict[str, Any], str]]:
        subject = next((s for s in binding.get("subjects") or () if _is(s, user, namespace)), None)
        if subject is None:
            return
        ref = binding["roleRef"]
        role = self._role(ref["kind"], namespace, ref["name"])
        if role is None:
            return
        subject_text = f'{subject["kind"]} "{subject["name"]}"'
        reason = f'RBAC: allowed by {kind} "{shown}" of {ref["kind"]} "{ref["name"]}" to {subject_text}'
        for rule in self._rules_of(role.decode()):
            yield rule, reason

    def rules_of_role(self, kind: str, namespace: str, name: str) -> list[dict[str, Any]]:
        """The rules of the role that a binding in ``namespace`` refers to. Raises ``StatusError`` 404."""
        role = self._role(kind, namespace, name)
        if role is None:
            raise not_found(self._infos["clusterroles" if kind == "ClusterRole" else "roles"], name)
        return list(self._rules_of(role.decode()))

    def _role(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        in_cluster = kind == "ClusterRole"
        return self._tables["clusterroles" if in_cluster else "roles"].get("" if in_cluster else namespace, name)

    def _rules_of(self, role: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from role.get("rules") or ()
        selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
        if selectors:
            from raycp.embedded.selectors import parse_label_dict

            for record in self._tables["clusterroles"].records(""):
                if any(parse_label_dict(s)(record.labels) for s in selectors):
                    yield from record.decode().get("rules") or ()

    def _changed(self, change: StoreChange) -> None:
        self._cache.clear()


def _is(subject: dict[str, Any], user: User, namespace: str) -> bool:
    kind, name = subject.get("kind"), subject.get("name", "")
    if kind == "User":
        return bool(name == user.name)
    if kind == "Group":
        return name in user.groups
    home = subject.get("namespace") or namespace
    return kind == "ServiceAccount" and bool(home) and user.name == f"system:serviceaccount:{home}:{name}"


def _has(given: Any, wanted: str) -> bool:
    return "*" in given or wanted in given


def _path_in(given: Any, path: str) -> bool:
    return any(p in ("*", path) or (p.endswith("*") and path.startswith(p[:-1])) for p in given)


def _covers(rule: dict[str, Any], verb: str, group: str, resource: str, sub: str, name: str) -> bool:
    if not _has(rule.get("verbs") or (), verb) or not _has(rule.get("apiGroups") or (), group):
        return False
    resources = rule.get("resources") or ()
    if not (_has(resources, resource) or (sub and f"*/{sub}" in resources)):
        return False
    names = rule.get("resourceNames")
    return not names or name in names
