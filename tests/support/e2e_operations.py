"""The specs "should support ... API operations" of Kubernetes' e2e suite, which are one for all kinds without a namespace."""

import uuid
from typing import Any

from e2e_driver import PROTOBUF, E2eClient, Object, delete_options, unless

from raycp.embedded.strategy.protobuf import decode_protobuf


async def support_operations(
    e2e: E2eClient, api_version: str, kind: str, plural: str, spec: Object, patch: Object, update: Object, *, status: bool
) -> None:
    """Discovery, create, get, list, watch, patch, update, delete and deletecollection of a kind; with ``status``, those of its
    status. ``patch`` and ``update`` are changes of the spec."""
    name, _, version = api_version.partition("/")
    groups = (await e2e.dynamic("GET", "/apis"))["groups"]
    assert any(each["name"] == name and version in [v["version"] for v in each["versions"]] for each in groups)
    group = await e2e.typed("GET", f"/apis/{name}")
    assert version in [each["version"] for each in group["versions"]]
    resources = {each["name"] for each in (await e2e.dynamic("GET", f"/apis/{api_version}"))["resources"]}
    assert plural in resources
    assert (f"{plural}/status" in resources) is status

    path, label = f"/apis/{api_version}/{plural}", f"example-e2e-label={uuid.uuid4().hex[:8]}"
    selected = f"{path}?labelSelector={label}"
    metadata = {"generateName": "e2e-example-", "labels": dict([label.split("=")])}
    template = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
    for _ in range(3):
        created = await e2e.typed("POST", path, template)
    own = f"{path}/{created['metadata']['name']}"
    read = await e2e.typed("GET", own)
    assert read["metadata"]["uid"] == created["metadata"]["uid"]
    assert int(read["metadata"]["resourceVersion"]) > 0
    _, _, encoded = await e2e.raw("GET", own, Accept=PROTOBUF)
    assert decode_protobuf(encoded, name, version, kind)["spec"] == read["spec"]
    listed = await e2e.typed("GET", selected)
    assert len(listed["items"]) == 3

    async with e2e.watching(f"{selected}&watch=1&resourceVersion={listed['metadata']['resourceVersion']}") as events:
        patched = await e2e.patch(own, {"metadata": {"annotations": {"patched": "true"}}, "spec": patch}, "merge")
        assert patched["metadata"]["annotations"]["patched"] == "true"
        _contains(patched["spec"], patch)
        assert int(created["metadata"]["resourceVersion"]) < int(patched["metadata"]["resourceVersion"])

        def edit(wanted: Object) -> None:
            wanted["metadata"]["annotations"]["updated"] = "true"
            for key, value in update.items():
                wanted["spec"][key] = {**wanted["spec"][key], **value} if isinstance(value, dict) else value

        updated = await e2e.change(own, edit)
        assert updated["metadata"]["annotations"]["updated"] == "true"
        _contains(updated["spec"], update)

        async for event in events:
            assert (event["type"], event["object"]["kind"]) == ("MODIFIED", kind)
            if event["object"]["metadata"].get("annotations", {}).get("patched") == "true":
                break

    if status:
        await _status(e2e, own, created, api_version, kind)

    await e2e.typed("DELETE", own, delete_options(api_version))
    assert await unless(404, e2e.typed("GET", own)) is None
    assert len((await e2e.typed("GET", selected))["items"]) == 2
    await e2e.typed("DELETE", selected, delete_options(api_version))
    assert (await e2e.typed("GET", selected))["items"] == []


async def _status(e2e: E2eClient, own: str, created: Object, api_version: str, kind: str) -> None:
    found = await e2e.dynamic("GET", f"{own}/status")
    assert (found["apiVersion"], found["kind"]) == (api_version, kind)
    assert found["metadata"]["uid"] == created["metadata"]["uid"]
    told = {"status": "False", "reason": "E2E", "message": "Set from an e2e test", "lastTransitionTime": "2024-01-01T00:00:00Z"}
    failed = {"status": {"conditions": [{"type": "PatchStatusFailed", **told}]}}
    assert _condition("PatchStatusFailed", await e2e.patch(f"{own}/status", failed, "merge"))
    added = {"type": "StatusUpdateFailed", **told}
    updated = await e2e.change(f"{own}/status", lambda wanted: wanted["status"]["conditions"].append(added))
    assert _condition("StatusUpdateFailed", updated)


def _condition(kind: str, told: Object) -> Any:
    return next((each for each in told["status"]["conditions"] if each["type"] == kind), None)


def _contains(whole: Object, part: Object) -> None:
    """Each field of ``part``, one level into objects."""
    for key, value in part.items():
        if isinstance(value, dict):
            assert whole[key].items() >= value.items()
        else:
            assert whole[key] == value
