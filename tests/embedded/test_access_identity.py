"""Who a client is: impersonation is authorized piece by piece, and a token ends with its account."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from test_access_rbac import BINDINGS, ROLES, Rbac, binding, enforced, role, rule

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture
async def api() -> AsyncIterator[Rbac]:
    async with enforced() as client:
        yield client


# ---- impersonation


async def me(api: Rbac, token: str, *headers: tuple[str, str]) -> tuple[int, Any]:
    """Who the server takes the client for, with these headers, of which names may repeat."""
    sent = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json"), *headers]
    async with api.http.post(api.server + WHOAMI, data=b"{}", headers=sent) as answer:
        told = await answer.json()
    return answer.status, told["status"]["userInfo"] if answer.status == 201 else told["message"]


U, G, ID = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid"


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ([(U, "alice")], 'users "alice"'),
        ([(U, "bob"), (G, "system:masters")], 'groups "system:masters"'),
        ([(U, "bob"), (G, "devs"), (G, "ops")], 'groups "ops"'),
        ([(U, "bob"), (G, "system:authenticated-evil")], 'groups "system:authenticated-evil"'),
        ([(U, "bob"), (G, "system:serviceaccounts")], 'groups "system:serviceaccounts"'),
        ([(U, "bob"), (ID, "1")], 'uids.authentication.k8s.io "1"'),
        ([(U, "bob"), ("Impersonate-Extra-Scopes", "write")], 'userextras.authentication.k8s.io "write"'),
        ([(U, "bob"), ("Impersonate-Extra-Other", "read")], 'userextras.authentication.k8s.io "read"'),
        ([(U, "system:serviceaccount:kube-system:robot")], 'serviceaccounts "robot"'),
        ([(U, "system:serviceaccount:default:robot"), (G, "system:masters")], 'groups "system:masters"'),
        ([(U, "system:serviceaccount:x")], 'users "system:serviceaccount:x"'),
    ],
)
async def test_each_that_is_impersonated_is_authorized(api: Rbac, headers: list[tuple[str, str]], what: str) -> None:
    await api.admin("POST", ROLES, role("robot", rule("impersonate", "serviceaccounts", names="robot")))
    await api.admin("POST", BINDINGS, binding("robot", "Role", "robot", "eve"))
    eve = await api.user(
        "eve",
        rule("impersonate", "users", names="bob"),
        rule("impersonate", "groups", names="devs"),
        rule("impersonate", "userextras/scopes", "authentication.k8s.io", names="read"),
    )
    fine = [(U, "bob"), (G, "devs"), ("Impersonate-Extra-Scopes", "read")]
    assert await me(api, eve, *fine) == (
        201,
        {"username": "bob", "groups": ["devs", "system:authenticated"], "extra": {"scopes": ["read"]}},
    )
    status, told = await me(api, eve, *headers)
    assert status == 403
    assert what in told
    assert 'User "eve" cannot impersonate resource' in told


async def test_groups_of_who_is_impersonated(api: Rbac) -> None:
    def groups(told: Any) -> list[str]:
        return list(told["groups"])

    _, robot = await me(api, api.token, (U, "system:serviceaccount:default:robot"))
    assert groups(robot) == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    _, chosen = await me(api, api.token, (U, "system:serviceaccount:default:robot"), (G, "devs"))
    assert groups(chosen) == ["devs", "system:authenticated"]
    await api.user("bob", rule("create", "selfsubjectreviews", "authentication.k8s.io"))
    _, unknown = await me(api, api.token, (U, "bob"), (G, "system:unauthenticated"), (ID, "7"))
    assert groups(unknown) == ["system:unauthenticated"]
    assert unknown["uid"] == "7"
    for header in ((G, "devs"), (ID, "1"), ("Impersonate-Extra-A", "b")):
        status, told = await me(api, api.token, header)
        assert status == 400
        assert "without impersonating a user" in told


# ---- tokens


async def token_of(api: Rbac, name: str, **given: Any) -> str:
    return str((await api.admin("POST", f"{ACCOUNTS}/{name}/token", {"spec": given}))["status"]["token"])


async def account(api: Rbac, name: str) -> None:
    await api.admin("POST", ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})


async def reviewed(api: Rbac, token: str, *audiences: str) -> Any:
    asked = {"spec": {"token": token, "audiences": list(audiences)}}
    return (await api.admin("POST", "/apis/authentication.k8s.io/v1/tokenreviews", asked))["status"]


async def test_a_token_ends_with_its_account(api: Rbac) -> None:
    await account(api, "robot")
    token = await token_of(api, "robot")
    assert (await api.ask("POST", WHOAMI, {}, token=token))[0] == 201
    await api.admin("DELETE", f"{ACCOUNTS}/robot")
    assert (await api.ask("POST", WHOAMI, {}, token=token))[0] == 401
    await account(api, "robot")
    assert (await api.ask("POST", WHOAMI, {}, token=token))[0] == 401, "another one of the same name"
    assert "authenticated" not in await reviewed(api, token)
    assert (await api.ask("POST", WHOAMI, {}, token=await token_of(api, "robot")))[0] == 201


async def test_a_token_ends_a_minute_after_its_account_was_deleted_and_waits_for_a_finalizer(api: Rbac) -> None:
    meta = {"name": "robot", "finalizers": ["example.com/x"]}
    await api.admin("POST", ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    token = await token_of(api, "robot")
    await api.admin("DELETE", f"{ACCOUNTS}/robot")
    assert (await api.ask("POST", WHOAMI, {}, token=token))[0] == 201
    api.cluster.pipeline.times.skew = 61.0
    assert (await api.ask("POST", WHOAMI, {}, token=token))[0] == 401


async def test_a_token_ends_with_what_it_is_bound_to(api: Rbac) -> None:
    secrets = "/api/v1/namespaces/default/secrets"
    await account(api, "robot")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    await api.admin("POST", secrets, secret)
    token = await token_of(api, "robot", boundObjectRef={"apiVersion": "v1", "kind": "Secret", "name": "s"})
    assert (await api.ask("POST", WHOAMI, {}, token=token))[0] == 201
    await api.admin("DELETE", secrets + "/s")
    await api.admin("POST", secrets, secret)
    assert (await api.ask("POST", WHOAMI, {}, token=token))[0] == 401
    for ref, status in (
        ({"apiVersion": "v1", "kind": "Secret", "name": "none"}, 404),
        ({"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": "other"}, 409),
        ({"apiVersion": "v1", "kind": "ConfigMap", "name": "s"}, 400),
    ):
        assert (await api.ask("POST", f"{ACCOUNTS}/robot/token", {"spec": {"boundObjectRef": ref}}))[0] == status


async def test_a_token_of_a_pod_is_of_its_account_and_says_so(api: Rbac) -> None:
    await account(api, "robot")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    made = {**pod, "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]}}
    uid = (await api.admin("POST", "/api/v1/namespaces/default/pods", made))["metadata"]["uid"]
    ref = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}
    _, told = await api.ask("POST", WHOAMI, {}, token=await token_of(api, "robot", boundObjectRef=ref))
    extra = told["status"]["userInfo"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [uid]
    await account(api, "other")
    assert (await api.ask("POST", f"{ACCOUNTS}/other/token", {"spec": {"boundObjectRef": ref}}))[0] == 400


async def test_a_token_is_for_its_audience(api: Rbac) -> None:
    await account(api, "robot")
    token = await token_of(api, "robot", audiences=["vault"])
    assert (await api.ask("POST", WHOAMI, {}, token=token))[0] == 401
    assert "authenticated" not in await reviewed(api, token)
    assert (await reviewed(api, token, "vault", "other"))["audiences"] == ["vault"]
    plain = await token_of(api, "robot")
    assert (await reviewed(api, plain))["authenticated"] is True
    assert "authenticated" not in await reviewed(api, plain, "vault")
