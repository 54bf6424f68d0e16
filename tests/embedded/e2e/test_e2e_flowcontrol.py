"""Kubernetes' e2e specs of API priority and fairness: the API operations in flowcontrol.go of test/e2e/apimachinery."""

import uuid
from typing import Any

import pytest
from e2e_driver import PROTOBUF, E2eClient, Object, delete_options, unless

from raycp.embedded.strategy.protobuf import decode_protobuf

GROUP = "flowcontrol.apiserver.k8s.io"
API_VERSION = f"{GROUP}/v1"

FLOW: Object = {
    "matchingPrecedence": 10000,
    "priorityLevelConfiguration": {"name": "global-default"},
    "distinguisherMethod": {"type": "ByUser"},
    "rules": [
        {
            "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
    ],
}
LEVEL: Object = {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}


def _shares(number: int) -> Object:
    return {"limited": {"nominalConcurrencyShares": number}}


def _condition(kind: str, told: Object) -> Any:
    return next((each for each in told["status"]["conditions"] if each["type"] == kind), None)


@pytest.mark.parametrize(
    ("kind", "plural", "spec", "patch", "update"),
    [
        pytest.param(
            "FlowSchema",
            "flowschemas",
            FLOW,
            {"matchingPrecedence": 9999},
            {"matchingPrecedence": 9000},
            id="should support FlowSchema API operations",
        ),
        pytest.param(
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
            LEVEL,
            _shares(4),
            _shares(6),
            id="should support PriorityLevelConfiguration API operations",
        ),
    ],
)
async def test_operations(e2e: E2eClient, kind: str, plural: str, spec: Object, patch: Object, update: Object) -> None:
    groups = (await e2e.dynamic("GET", "/apis"))["groups"]
    assert any(each["name"] == GROUP and "v1" in [v["version"] for v in each["versions"]] for each in groups)
    group = await e2e.typed("GET", f"/apis/{GROUP}")
    assert "v1" in [each["version"] for each in group["versions"]]
    resources = {each["name"] for each in (await e2e.dynamic("GET", f"/apis/{API_VERSION}"))["resources"]}
    assert {plural, f"{plural}/status"} <= resources

    path, label = f"/apis/{API_VERSION}/{plural}", f"example-e2e-label={uuid.uuid4().hex[:8]}"
    selected = f"{path}?labelSelector={label}"
    metadata = {"generateName": "e2e-example-", "labels": dict([label.split("=")])}
    template = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
    for _ in range(3):
        created = await e2e.typed("POST", path, template)
    own = f"{path}/{created['metadata']['name']}"
    read = await e2e.typed("GET", own)
    assert read["metadata"]["uid"] == created["metadata"]["uid"]
    assert int(read["metadata"]["resourceVersion"]) > 0
    _, _, encoded = await e2e.raw("GET", own, Accept=PROTOBUF)
    assert decode_protobuf(encoded, GROUP, "v1", kind)["spec"] == read["spec"]
    listed = await e2e.typed("GET", selected)
    assert len(listed["items"]) == 3

    async with e2e.watching(f"{selected}&watch=1&resourceVersion={listed['metadata']['resourceVersion']}") as events:
        patched = await e2e.patch(own, {"metadata": {"annotations": {"patched": "true"}}, "spec": patch}, "merge")
        assert patched["metadata"]["annotations"]["patched"] == "true"
        _contains(patched["spec"], patch)
        assert int(created["metadata"]["resourceVersion"]) < int(patched["metadata"]["resourceVersion"])

        wanted = await e2e.typed("GET", own)
        wanted["metadata"]["annotations"]["updated"] = "true"
        for key, value in update.items():
            wanted["spec"][key] = {**wanted["spec"][key], **value} if isinstance(value, dict) else value
        updated = await e2e.typed("PUT", own, wanted)
        assert updated["metadata"]["annotations"]["updated"] == "true"
        _contains(updated["spec"], update)

        async for event in events:
            assert (event["type"], event["object"]["kind"]) == ("MODIFIED", kind)
            if event["object"]["metadata"].get("annotations", {}).get("patched") == "true":
                break

    status = await e2e.dynamic("GET", f"{own}/status")
    assert (status["apiVersion"], status["kind"]) == (API_VERSION, kind)
    assert status["metadata"]["uid"] == created["metadata"]["uid"]
    failed = {"type": "PatchStatusFailed", "status": "False", "reason": "e2e"}
    assert _condition("PatchStatusFailed", await e2e.patch(f"{own}/status", {"status": {"conditions": [failed]}}, "merge"))
    wanted = await e2e.typed("GET", own)
    wanted["status"]["conditions"].append(
        {"type": "StatusUpdateFailed", "status": "False", "reason": "E2E", "message": "Set from an e2e test"}
    )
    assert _condition("StatusUpdateFailed", await e2e.typed("PUT", f"{own}/status", wanted))

    await e2e.typed("DELETE", own, delete_options(API_VERSION))
    assert await unless(404, e2e.typed("GET", own)) is None
    assert len((await e2e.typed("GET", selected))["items"]) == 2
    await e2e.typed("DELETE", selected, delete_options(API_VERSION))
    assert (await e2e.typed("GET", selected))["items"] == []


def _contains(whole: Object, part: Object) -> None:
    """Each field of ``part``, one level into objects."""
    for key, value in part.items():
        if isinstance(value, dict):
            assert whole[key].items() >= value.items()
        else:
            assert whole[key] == value
