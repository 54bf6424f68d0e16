"""RBAC as kube-apiserver enforces it: nobody grants or binds more than is allowed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from test_server_http import CMS, Api, config_map, spec

from raycp.embedded.cluster import EmbeddedCluster

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROLES, BINDINGS = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"
CLUSTER_ROLES, CLUSTER_BINDINGS = f"{RBAC}/clusterroles", f"{RBAC}/clusterrolebindings"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
GROUP = "rbac.authorization.k8s.io"


class Rbac(Api):
    """A client of a cluster that enforces RBAC."""

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        status, told = await self.ask(method, path, body)
        assert status < 300, told
        return told

    async def user(self, name: str, *rules: dict[str, Any], namespace: str = "") -> str:
        """The token of a user with a role of these rules, cluster-wide or in ``namespace``."""
        roles, bindings = (ROLES, BINDINGS) if namespace else (CLUSTER_ROLES, CLUSTER_BINDINGS)
        kind = "Role" if namespace else "ClusterRole"
        await self.admin("POST", roles, {"metadata": {"name": f"of-{name}"}, "rules": list(rules)})
        await self.admin("POST", bindings, binding(f"of-{name}", kind, f"of-{name}", name))
        return self.cluster.add_user(name)


def rule(verbs: str, resources: str, group: str = "", names: str = "") -> dict[str, Any]:
    made = {"apiGroups": group.split(","), "resources": resources.split(","), "verbs": verbs.split(",")}
    return {**made, **({"resourceNames": names.split(",")} if names else {})}


def binding(name: str, kind: str, role: str, user: str) -> dict[str, Any]:
    ref = {"apiGroup": GROUP, "kind": kind, "name": role}
    return {"metadata": {"name": name}, "roleRef": ref, "subjects": [{"kind": "User", "name": user, "apiGroup": GROUP}]}


def role(name: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": {"name": name}, "rules": list(rules), **more}


WRITES_RBAC = rule("get,create,update,patch,delete", "roles,rolebindings,clusterroles,clusterrolebindings", GROUP)
READS_PODS = rule("get,list", "pods")


@contextlib.asynccontextmanager
async def enforced() -> AsyncIterator[Rbac]:
    """A cluster that enforces RBAC."""
    cluster = EmbeddedCluster("t", spec(rbac=True))
    await cluster.start()
    client = Rbac(cluster)
    yield client
    await client.http.close()
    await cluster.stop()


@pytest.fixture
async def api() -> AsyncIterator[Rbac]:
    async with enforced() as client:
        yield client


# ---- roles


async def test_a_role_grants_what_its_writer_has(api: Rbac) -> None:
    eve = await api.user("eve", WRITES_RBAC, READS_PODS)
    assert (await api.ask("POST", ROLES, role("fine", rule("get", "pods")), token=eve))[0] == 201
    status, told = await api.ask("POST", ROLES, role("more", rule("get,delete", "pods"), rule("get", "secrets")), token=eve)
    assert (status, told["reason"]) == (403, "Forbidden")
    assert told["message"] == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "eve" (groups=["system:authenticated"]) is attempting to grant '
        'RBAC permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
    )
    assert (await api.ask("GET", ROLES + "/more"))[0] == 404


@pytest.mark.parametrize(
    ("method", "kind"), [("PUT", "application/json"), ("PATCH", MERGE), ("PATCH", APPLY), ("PATCH", "application/json-patch+json")]
)
async def test_no_way_of_writing_a_role_grants_more(api: Rbac, method: str, kind: str) -> None:
    eve = await api.user("eve", WRITES_RBAC, READS_PODS)
    await api.admin("POST", ROLES, role("mine", rule("get", "pods")))
    more: Any = role("mine", rule("*", "*", "*"))
    if kind.startswith("application/json-patch"):
        more = [{"op": "replace", "path": "/rules", "value": more["rules"]}]
    path = ROLES + "/mine?fieldManager=eve&force=true" if kind == APPLY else ROLES + "/mine"
    assert (await api.ask(method, path, json.dumps(more).encode(), token=eve, Content_Type=kind))[0] == 403
    assert (await api.ask(method, path, json.dumps(more).encode(), Content_Type=kind))[0] == 200, "the administrator may"


@pytest.mark.parametrize(
    ("held", "asked", "allowed"),
    [
        (rule("*", "*", "*"), rule("get", "pods/exec"), True),
        (rule("get", "*/status"), rule("get", "pods/status"), True),
        (rule("get", "*/status"), rule("get", "pods"), False),
        (rule("get", "pods"), rule("get", "pods/log"), False),
        (rule("get", "pods", names="a,b"), rule("get", "pods", names="a"), True),
        (rule("get", "pods", names="a"), rule("get", "pods", names="a,b"), False),
        (rule("get", "pods", names="a"), rule("get", "pods"), False),
        (rule("get", "pods"), rule("get", "pods", names="a"), True),
        (rule("get", "pods"), rule("*", "pods"), False),
        (rule("get", "pods"), rule("get", "pods", "apps"), False),
        ({"nonResourceURLs": ["/a/*"], "verbs": ["get"]}, {"nonResourceURLs": ["/a/b"], "verbs": ["get"]}, True),
        ({"nonResourceURLs": ["/a"], "verbs": ["get"]}, {"nonResourceURLs": ["/a/b"], "verbs": ["get"]}, False),
        (rule("get", "*", "*"), {"nonResourceURLs": ["/a"], "verbs": ["get"]}, False),
        ({"nonResourceURLs": ["*"], "verbs": ["*"]}, rule("get", "pods"), False),
    ],
)
async def test_what_covers_what(api: Rbac, held: dict[str, Any], asked: dict[str, Any], allowed: bool) -> None:
    eve = await api.user("eve", rule("create", "clusterroles", GROUP), held)
    assert (await api.ask("POST", CLUSTER_ROLES, role("x", asked, kind="ClusterRole"), token=eve))[0] == (201 if allowed else 403)


async def test_rules_of_another_namespace_do_not_count(api: Rbac) -> None:
    eve = await api.user("eve", WRITES_RBAC)
    await api.admin("POST", ROLES, role("pods", READS_PODS))
    await api.admin("POST", BINDINGS, binding("pods", "Role", "pods", "eve"))
    assert (await api.ask("POST", ROLES, role("a", READS_PODS), token=eve))[0] == 201
    elsewhere = ROLES.replace("default", "kube-system")
    assert (await api.ask("POST", elsewhere, role("a", READS_PODS), token=eve))[0] == 403
    assert (await api.ask("POST", CLUSTER_ROLES, role("a", READS_PODS, kind="ClusterRole"), token=eve))[0] == 403


async def test_a_list_of_one_name_needs_no_right_to_the_others(api: Rbac) -> None:
    """As ``RequestInfo`` of the API server: such a request has that name."""
    eve = await api.user("eve", rule("get,list", "clusterroles", GROUP, names="admin"))
    for query, status in (
        ("?fieldSelector=metadata.name%3Dadmin", 200),
        ("?fieldSelector=metadata.name%3Dview", 403),
        ("?fieldSelector=metadata.name%21%3Dadmin", 403),
        ("?fieldSelector=%3D%3D%3D", 403),
        ("", 403),
    ):
        assert (await api.ask("GET", CLUSTER_ROLES + query, token=eve))[0] == status, query


async def test_who_may_watch_one_object_watches_no_other(api: Rbac) -> None:
    """The name on the path was authorized, and the selector of the query was used."""
    for name in ("mine", "other"):
        await api.admin("POST", CMS, config_map(name))
    eve = await api.user("eve", rule("watch", "configmaps", names="mine"), namespace="default")
    paths = (f"{CMS}/mine?watch=1", f"{CMS.replace('/v1/', '/v1/watch/')}/mine?")
    others = ("metadata.name%3Dother", "metadata.name%21%3Dmine", "metadata.namespace%3Ddefault")
    for path in paths:
        for selector in others:
            status, told = await api.ask("GET", f"{path}&timeoutSeconds=1&fieldSelector={selector}", token=eve)
            assert (status, told["message"]) == (400, "fieldSelector metadata.name doesn't match requested name")
    harmless = ("", f"&fieldSelector={others[0]}", "metadata.name%3Dmine")
    asked = [f"{path}&timeoutSeconds=1&fieldSelector={selector}" for path in paths for selector in harmless]
    for status, told in await asyncio.gather(*(api.ask("GET", path, token=eve) for path in asked)):
        assert status == 200
        found = [told["object"]] if isinstance(told, dict) else list(map(as_object, told.splitlines()))
        assert {each["metadata"]["name"] for each in found} == {"mine"}
    assert (await api.ask("GET", f"{CMS}?watch=1&fieldSelector={others[0]}", token=eve))[0] == 403


def as_object(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)["object"]
    return found


async def test_escalate_is_a_verb_of_its_own(api: Rbac) -> None:
    eve = await api.user("eve", WRITES_RBAC, rule("escalate", "roles", GROUP, names="this"))
    await api.admin("POST", ROLES, role("this"))
    await api.admin("POST", ROLES, role("that"))
    more = json.dumps({"rules": [rule("*", "*", "*")]}).encode()
    assert (await api.ask("PATCH", ROLES + "/this", more, token=eve, Content_Type=MERGE))[0] == 200
    assert (await api.ask("PATCH", ROLES + "/that", more, token=eve, Content_Type=MERGE))[0] == 403
    bob = await api.user("bob", WRITES_RBAC, rule("escalate", "roles", GROUP))
    assert (await api.ask("POST", ROLES, role("new", rule("*", "*", "*")), token=bob))[0] == 201
    assert (await api.ask("POST", CLUSTER_ROLES, role("new", rule("*", "*", "*"), kind="ClusterRole"), token=bob))[0] == 403


async def test_aggregation_needs_everything(api: Rbac) -> None:
    gathers = {"kind": "ClusterRole", "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    eve = await api.user("eve", WRITES_RBAC, rule("get,create,update,patch", "*", "*"))
    status, told = await api.ask("POST", CLUSTER_ROLES, role("all", **gathers), token=eve)
    assert status == 403
    assert told["message"].endswith("must have cluster-admin privileges to use the aggregationRule")
    await api.admin("POST", CLUSTER_ROLES, role("all", **gathers))
    without = json.dumps({"aggregationRule": None}).encode()
    assert (await api.ask("PATCH", CLUSTER_ROLES + "/all", without, token=eve, Content_Type=MERGE))[0] == 403, "nor taken away"
    bob = await api.user("bob", rule("*", "*", "*"))
    assert (await api.ask("POST", CLUSTER_ROLES, role("own", **gathers), token=bob))[0] == 201


async def test_what_garbage_collection_changes_is_not_judged(api: Rbac) -> None:
    eve = await api.user("eve", WRITES_RBAC)
    meta = {"name": "strong", "finalizers": ["example.com/x"]}
    await api.admin("POST", ROLES, role("strong", rule("*", "*", "*"), metadata=meta))
    finalized = b'{"metadata":{"finalizers":null}}'
    assert (await api.ask("PATCH", ROLES + "/strong", finalized, token=eve, Content_Type=MERGE))[0] == 200
    labels = b'{"metadata":{"labels":{"a":"b"}}}'
    assert (await api.ask("PATCH", ROLES + "/strong", labels, token=eve, Content_Type=MERGE))[0] == 403
    assert (await api.ask("DELETE", ROLES + "/strong", token=eve))[0] == 200


# ---- bindings


async def test_a_binding_grants_what_its_writer_has_or_may_bind(api: Rbac) -> None:
    eve = await api.user("eve", WRITES_RBAC, READS_PODS, rule("bind", "clusterroles", GROUP, names="view"))
    await api.admin("POST", ROLES, role("pods", READS_PODS))
    await api.admin("POST", ROLES, role("secrets", rule("get", "secrets")))
    assert (await api.ask("POST", BINDINGS, binding("a", "Role", "pods", "eve"), token=eve))[0] == 201
    status, told = await api.ask("POST", BINDINGS, binding("b", "Role", "secrets", "eve"), token=eve)
    assert (status, told["details"]) == (403, {"name": "b", "group": GROUP, "kind": "rolebindings"})
    assert 'Resources:["secrets"], Verbs:["get"]' in told["message"]
    assert (await api.ask("POST", CLUSTER_BINDINGS, binding("c", "ClusterRole", "cluster-admin", "eve"), token=eve))[0] == 403
    assert (await api.ask("POST", BINDINGS, binding("d", "ClusterRole", "cluster-admin", "eve"), token=eve))[0] == 403
    assert (await api.ask("POST", BINDINGS, binding("e", "ClusterRole", "view", "eve"), token=eve))[0] == 201
    status, told = await api.ask("POST", BINDINGS, binding("f", "Role", "none", "eve"), token=eve)
    assert (status, told["message"]) == (404, 'roles.rbac.authorization.k8s.io "none" not found')
    await api.admin("POST", BINDINGS, binding("f", "Role", "none", "eve"))


async def test_bind_in_a_namespace_is_bind_there_only(api: Rbac) -> None:
    await api.user("eve", rule("create", "rolebindings,clusterrolebindings", GROUP))
    eve = await api.user("eve", rule("bind", "clusterroles", GROUP), namespace="default")
    assert (await api.ask("POST", BINDINGS, binding("a", "ClusterRole", "cluster-admin", "eve"), token=eve))[0] == 201
    elsewhere = BINDINGS.replace("default", "kube-system")
    assert (await api.ask("POST", elsewhere, binding("a", "ClusterRole", "cluster-admin", "eve"), token=eve))[0] == 403
    assert (await api.ask("POST", CLUSTER_BINDINGS, binding("a", "ClusterRole", "cluster-admin", "eve"), token=eve))[0] == 403


async def test_subjects_are_added_only_by_who_may_bind(api: Rbac) -> None:
    eve = await api.user("eve", WRITES_RBAC)
    await api.admin("POST", BINDINGS, binding("strong", "ClusterRole", "cluster-admin", "someone"))
    more = json.dumps({"subjects": [{"kind": "User", "name": "eve", "apiGroup": GROUP}]}).encode()
    assert (await api.ask("PATCH", BINDINGS + "/strong", more, token=eve, Content_Type=MERGE))[0] == 403


async def test_an_update_that_creates_needs_create(api: Rbac) -> None:
    eve = await api.user("eve", rule("get,update,patch", "configmaps"), rule("update,patch", "roles", GROUP), READS_PODS)
    made = {**config_map("new"), "data": {"a": "b"}}
    path = CMS + "/new?fieldManager=eve"
    status, told = await api.ask("PATCH", path, json.dumps(made).encode(), token=eve, Content_Type=APPLY)
    assert status == 403
    assert 'User "eve" cannot create resource "configmaps"' in told["message"]
    assert (await api.ask("PUT", ROLES + "/new", role("new", READS_PODS), token=eve))[0] == 403
    assert (await api.ask("PATCH", path, json.dumps(made).encode(), Content_Type=APPLY))[0] == 201
    assert (await api.ask("PATCH", path, json.dumps(made).encode(), token=eve, Content_Type=APPLY))[0] == 200
