"""Admission webhooks on a real HTTPS server: mutation, validation, denial, failure."""

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded import tls
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError

Review = dict[str, Any]


class Hook:
    """A webhook server. ``answer`` returns the response to a request; ``seen`` has the requests."""

    def __init__(self) -> None:
        self.seen: list[Review] = []
        self.answer: Callable[[Review], Review] = lambda request: {"allowed": True}
        self.authority = tls.Authority()
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/", self._serve)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server_context(self.authority, "127.0.0.1"))
        await site.start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        return runner

    async def _serve(self, request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        self.seen.append(asked)
        response = {"uid": asked["uid"], **self.answer(asked)}
        return web.json_response({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})

    def configuration(self, kind: str, **more: Any) -> dict[str, Any]:
        rule = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
        hook = {
            "name": "hook.example.com",
            "clientConfig": {"url": self.url, "caBundle": base64.b64encode(self.authority.pem.encode()).decode()},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }
        return {"metadata": {"name": f"{kind.lower()}-hook"}, "webhooks": [hook]}


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    made = Hook()
    runner = await made.start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    made = EmbeddedCluster("t", EmbeddedSpec(controllers=EmbeddedControllers.none()))
    await made.start()
    yield made
    await made.stop()


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


async def test_a_mutating_webhook_changes_the_stored_object(cluster: EmbeddedCluster, hook: Hook) -> None:
    patch = base64.b64encode(json.dumps([{"op": "add", "path": "/data", "value": {"by": "hook"}}]).encode()).decode()
    hook.answer = lambda request: {"allowed": True, "patchType": "JSONPatch", "patch": patch}
    await cluster.api.create("mutatingwebhookconfigurations.admissionregistration.k8s.io", hook.configuration("Mutating"))
    await cluster.api.create("configmaps", config_map("a"), "default")
    stored = cluster.api.get("configmaps", "default", "a")
    assert stored is not None
    assert stored["data"] == {"by": "hook"}
    assert hook.seen[0]["operation"] == "CREATE"
    assert hook.seen[0]["namespace"] == "default"


async def test_a_validating_webhook_denies(cluster: EmbeddedCluster, hook: Hook) -> None:
    await cluster.api.create("configmaps", config_map("a"), "default")
    await cluster.api.create("validatingwebhookconfigurations.admissionregistration.k8s.io", hook.configuration("Validating"))
    hook.answer = lambda request: {"allowed": False, "status": {"code": 403, "message": "not today"}}
    for attempt in (
        cluster.api.create("configmaps", config_map("b"), "default"),
        cluster.api.patch_merge("configmaps", "default", "a", b'{"data":{"x":"y"}}'),
        cluster.api.delete("configmaps", "default", "a"),
    ):
        with pytest.raises(StatusError) as refused:
            await attempt
        assert refused.value.code == 403
        assert 'admission webhook "hook.example.com" denied the request: not today' in refused.value.message
    assert [r["operation"] for r in hook.seen] == ["CREATE", "UPDATE", "DELETE"]


async def test_selectors_and_failure_policy(cluster: EmbeddedCluster, hook: Hook) -> None:
    dead = "https://127.0.0.1:1/"
    selective = hook.configuration(
        "Validating", objectSelector={"matchLabels": {"checked": "yes"}}, clientConfig={"url": dead}, timeoutSeconds=1
    )
    name = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    made = await cluster.api.create(name, selective)
    await cluster.api.create("configmaps", config_map("free"), "default")
    with pytest.raises(StatusError) as refused:
        await cluster.api.create("configmaps", config_map("held", checked="yes"), "default")
    assert (refused.value.code, refused.value.reason) == (500, "InternalError")
    made["webhooks"][0]["failurePolicy"] = "Ignore"
    await cluster.api.update(name, made)
    await cluster.api.create("configmaps", config_map("held", checked="yes"), "default")


async def test_a_patch_is_retried_when_the_object_changes_during_a_webhook(cluster: EmbeddedCluster, hook: Hook) -> None:
    await cluster.api.create("configmaps", config_map("a"), "default")
    await cluster.api.create(
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        hook.configuration("Validating", objectSelector={"matchLabels": {"checked": "yes"}}),
    )

    def move(request: Review) -> Review:
        if len(hook.seen) == 1:
            record = cluster.registry.named("configmaps")
            assert record is not None
            stored = record.table.get("default", "a")
            assert stored is not None
            moved = record.read(stored)
            moved["data"] = {"by": "another"}
            cluster.pipeline.commit_update(record, stored, moved)
        return {"allowed": True}

    hook.answer = move
    assert cluster.endpoint is not None
    tls_context = ssl.create_default_context(cadata=cluster.endpoint.ca_pem)
    headers = {
        "Authorization": f"Bearer {cluster.endpoint.token}",
        "Content-Type": "application/merge-patch+json",
    }
    url = f"{cluster.endpoint.server}/api/v1/namespaces/default/configmaps/a"
    patch = json.dumps({"metadata": {"labels": {"checked": "yes"}}})
    async with ClientSession() as http, http.patch(url, data=patch, headers=headers, ssl=tls_context) as answer:
        assert answer.status == 200
        told = await answer.json()
    assert told["metadata"]["labels"] == {"checked": "yes"}
    assert told["data"] == {"by": "another"}
    assert len(hook.seen) == 2


async def test_match_conditions_narrow_what_a_webhook_is_asked(cluster: EmbeddedCluster, hook: Hook) -> None:
    """``apiserver/pkg/admission/plugin/webhook/matchconditions``: all must hold, and one that fails denies under ``Fail``."""
    name = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    conditions = [
        {"name": "labelled", "expression": "object.metadata.labels['ask'] == 'yes'"},
        {"name": "other", "expression": "!object.metadata.name.startsWith('skip')"},
        {"name": "may", "expression": "authorizer.requestResource.check('get').allowed()"},
    ]
    made = await cluster.api.create(name, hook.configuration("Validating", matchConditions=conditions))
    await cluster.api.create("configmaps", config_map("a", ask="yes"), "default")
    await cluster.api.create("configmaps", config_map("b", ask="no"), "default")
    await cluster.api.create("configmaps", config_map("skip", ask="yes"), "default")
    assert [one["name"] for one in hook.seen] == ["a"]
    with pytest.raises(StatusError) as refused:
        await cluster.api.create("configmaps", config_map("c"), "default")
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    assert refused.value.message.endswith("resulted in error: no such key: labels")
    made["webhooks"][0]["failurePolicy"] = "Ignore"
    await cluster.api.update(name, made)
    await cluster.api.create("configmaps", config_map("c"), "default")
    assert len(hook.seen) == 1
    broken = hook.configuration("Other", matchConditions=[{"name": "x", "expression": "objct.a"}])
    with pytest.raises(StatusError) as refused:
        await cluster.api.create(name, broken)
    assert (refused.value.details or {})["causes"][0]["field"] == "webhooks[0].matchConditions[0].expression"


def json_patch_of(*operations: Review) -> Review:
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text}


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize(
    "answer",
    [
        {"allowed": "false"},
        {"allowed": True, "uid": "of another review"},
        {"allowed": True, "warnings": 5},
        {"allowed": False, "status": "no"},
        {"allowed": False, "status": {"code": "x"}},
        {"allowed": True, "patchType": "JSONPatch", "patch": "%"},
        {"allowed": True, "patch": "W10="},
        {"allowed": True, "patchType": "MergePatch", "patch": "e30="},
    ],
)
async def test_what_is_no_answer_is_a_failed_call(cluster: EmbeddedCluster, hook: Hook, answer: Review, policy: str) -> None:
    """``VerifyAdmissionResponse`` (apiserver/pkg/admission/plugin/webhook/request): the policy of the webhook decides."""
    hook.answer = lambda request: answer
    made = hook.configuration("Mutating", failurePolicy=policy)
    await cluster.api.create("mutatingwebhookconfigurations.admissionregistration.k8s.io", made)
    write = cluster.api.create("configmaps", config_map("a"), "default")
    if policy == "Ignore":
        await write
        assert hook.seen
    else:
        with pytest.raises(StatusError, match="failed calling webhook") as refused:
            await write
        assert refused.value.code == 500


async def test_the_code_of_a_denial_is_an_error(cluster: EmbeddedCluster, hook: Hook) -> None:
    await cluster.api.create("validatingwebhookconfigurations.admissionregistration.k8s.io", hook.configuration("Validating"))
    for told, code in ((0, 403), (200, 400), (9999, 400), (422, 422)):
        hook.answer = lambda request, told=told: {"allowed": False, "status": {"code": told}}  # type: ignore[misc]
        with pytest.raises(StatusError) as refused:
            await cluster.api.create("configmaps", config_map("a"), "default")
        assert refused.value.code == code


async def test_a_patch_that_can_not_be_applied_is_an_error_of_the_server(cluster: EmbeddedCluster, hook: Hook) -> None:
    await cluster.api.create("mutatingwebhookconfigurations.admissionregistration.k8s.io", hook.configuration("Mutating"))
    for patch in ("e30=", "NQ==", "WzVd", "bm9uZQ==", base64.b64encode(b'[{"op":"remove","path":"/nope"}]').decode()):
        hook.answer = lambda request, patch=patch: {"allowed": True, "patchType": "JSONPatch", "patch": patch}  # type: ignore[misc]
        with pytest.raises(StatusError, match="patch of webhook") as refused:
            await cluster.api.create("configmaps", config_map("a"), "default")
        assert refused.value.code == 500


async def test_a_webhook_can_not_set_what_the_server_sets(cluster: EmbeddedCluster, hook: Hook) -> None:
    """``rest.BeforeCreate`` and the check of the namespace come after admission on a real server."""
    await cluster.api.create("mutatingwebhookconfigurations.admissionregistration.k8s.io", hook.configuration("Mutating"))
    hook.answer = lambda request: json_patch_of({"op": "replace", "path": "/metadata/namespace", "value": "kube-system"})
    with pytest.raises(StatusError, match="does not match the namespace sent on the request") as refused:
        await cluster.api.create("configmaps", config_map("a"), "default")
    assert refused.value.code == 400
    assert cluster.api.get("configmaps", "kube-system", "a") is None
    hook.answer = lambda request: json_patch_of(
        {"op": "add", "path": "/metadata/uid", "value": "mine"},
        {"op": "add", "path": "/metadata/deletionTimestamp", "value": "2020-01-01T00:00:00Z"},
        {"op": "add", "path": "/metadata/creationTimestamp", "value": "2020-01-01T00:00:00Z"},
        {"op": "replace", "path": "/kind", "value": "Secret"},
        {"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}},
    )
    await cluster.api.create("configmaps", config_map("a"), "default")
    made = cluster.api.get("configmaps", "default", "a")
    assert made is not None
    meta = made["metadata"]
    assert (made["kind"], meta["labels"], "deletionTimestamp" in meta) == ("ConfigMap", {"by": "hook"}, False)
    assert meta["uid"] != "mine"
    assert not meta["creationTimestamp"].startswith("2020")
    hook.answer = lambda request: json_patch_of({"op": "replace", "path": "/kind", "value": "Secret"})
    await cluster.api.patch_merge("configmaps", "default", "a", b'{"data":{"x":"y"}}')
    assert (cluster.api.get("configmaps", "default", "a") or {})["kind"] == "ConfigMap"


async def test_the_deletion_of_a_collection_asks_for_each_object(cluster: EmbeddedCluster, hook: Hook) -> None:
    for name in ("a", "b"):
        await cluster.api.create("configmaps", config_map(name, mine="yes"), "default")
    await cluster.api.create("validatingwebhookconfigurations.admissionregistration.k8s.io", hook.configuration("Validating"))
    hook.answer = lambda request: {"allowed": request["name"] != "b", "status": {"message": "kept"}}
    assert cluster.endpoint is not None
    tls_context = ssl.create_default_context(cadata=cluster.endpoint.ca_pem)
    headers = {"Authorization": f"Bearer {cluster.endpoint.token}"}
    url = f"{cluster.endpoint.server}/api/v1/namespaces/default/configmaps?labelSelector=mine"
    async with ClientSession() as http:
        async with http.delete(url, headers=headers, ssl=tls_context) as answer:
            assert (answer.status, "kept" in await answer.text()) == (403, True)
        assert cluster.api.get("configmaps", "default", "b") is not None
        hook.answer = lambda request: {"allowed": True}
        async with http.delete(url, headers=headers, ssl=tls_context) as answer:
            assert answer.status == 200
    assert cluster.api.get("configmaps", "default", "b") is None
    assert {one["operation"] for one in hook.seen} == {"DELETE"}


async def test_an_eviction_is_asked_for_and_no_deletion(cluster: EmbeddedCluster, hook: Hook) -> None:
    """pkg/registry/core/pod/storage/eviction.go: admission is of the Eviction, and the deletion is under none."""
    group = "admissionregistration.k8s.io"
    rules = [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/eviction"]},
        {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]},
    ]
    await cluster.api.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}, "default")
    await cluster.api.create(f"validatingwebhookconfigurations.{group}", hook.configuration("Validating", rules=rules))
    expression = "request.operation == 'CREATE' && object.deleteOptions.gracePeriodSeconds != 7"
    spec = {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": expression, "message": "by policy"}]}
    await cluster.api.create(f"validatingadmissionpolicies.{group}", {"metadata": {"name": "v"}, "spec": spec})
    binding = {"policyName": "v", "validationActions": ["Deny"]}
    await cluster.api.create(f"validatingadmissionpolicybindings.{group}", {"metadata": {"name": "v"}, "spec": binding})
    assert cluster.endpoint is not None
    tls_context = ssl.create_default_context(cadata=cluster.endpoint.ca_pem)
    headers = {"Authorization": f"Bearer {cluster.endpoint.token}"}
    url = f"{cluster.endpoint.server}/api/v1/namespaces/default/pods/p/eviction"

    async def evict(grace: int) -> tuple[int, str]:
        body = {"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": grace}}
        async with http.post(url, json=body, headers=headers, ssl=tls_context) as answer:
            return answer.status, await answer.text()

    async with ClientSession() as http:
        hook.answer = lambda request: {"allowed": False, "status": {"message": "drained by hand"}}
        status, told = await evict(1)
        assert (status, "drained by hand" in told) == (403, True)
        hook.answer = lambda request: {"allowed": True}
        status, told = await evict(7)
        assert (status, "by policy" in told) == (422, True)
        assert "conditions" not in (cluster.api.get("pods", "default", "p") or {})["status"]
        assert (await evict(0))[0] == 201
    assert cluster.api.get("pods", "default", "p") is None
    seen = [(one["operation"], one["subResource"], one["kind"]["kind"], one["object"]["kind"]) for one in hook.seen]
    assert set(seen) == {("CREATE", "eviction", "Eviction", "Eviction")}
