"""Kubernetes' e2e specs of namespaces and watches: namespace.go and watch.go of test/e2e/apimachinery.

Not replayed: that 100 namespaces are deleted within 150 s, which is a figure (``raycp bench embedded`` has those of this server).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from e2e_crds import unique
from e2e_driver import E2eClient, Object, unless, until

NAMESPACES = "/api/v1/namespaces"
LABEL = "watch-this-configmap"


async def absent(e2e: E2eClient, path: str) -> None:
    async def gone() -> bool:
        return await e2e.found(path) is None

    await until(gone, f"{path} is gone")


def named(kind: str, name: str, **fields: object) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


POD = named("Pod", "test-pod", spec={"containers": [{"name": "nginx", "image": "registry.k8s.io/pause"}]})
SERVICE = named("Service", "test-service", spec={"selector": {"foo": "bar"}, "ports": [{"port": 80, "targetPort": 80}]})


@pytest.mark.parametrize(("plural", "obj"), [("pods", POD), ("services", SERVICE)], ids=["pods", "services"])
async def test_should_ensure_that_all_are_removed_when_a_namespace_is_deleted(e2e: E2eClient, plural: str, obj: Object) -> None:
    name = await e2e.namespace("nsdeletetest")
    where = f"{NAMESPACES}/{name}/{plural}"
    await e2e.typed("POST", where, obj)

    async def runs() -> bool:
        return plural != "pods" or (await e2e.typed("GET", f"{where}/test-pod"))["status"].get("phase") == "Running"

    await until(runs, "the Pod runs")
    await e2e.typed("DELETE", f"{NAMESPACES}/{name}")
    await absent(e2e, f"{NAMESPACES}/{name}")
    await e2e.typed("POST", NAMESPACES, named("Namespace", name))
    assert (await e2e.typed("GET", where)).get("items", []) == []


async def test_should_patch_a_namespace(e2e: E2eClient) -> None:
    name = await e2e.namespace("nspatchtest")
    patched = await e2e.patch(f"{NAMESPACES}/{name}", {"metadata": {"labels": {"testLabel": "testValue"}}})
    assert patched["metadata"]["labels"]["testLabel"] == "testValue"
    assert (await e2e.typed("GET", f"{NAMESPACES}/{name}"))["metadata"]["labels"]["testLabel"] == "testValue"


async def test_should_apply_an_update_to_a_namespace(e2e: E2eClient) -> None:
    path = f"{NAMESPACES}/{await e2e.namespace('nsupdate')}"
    found = await e2e.typed("GET", path)
    found["metadata"]["labels"]["e2e-update"] = "updated"
    assert (await e2e.typed("PUT", path, found))["metadata"]["labels"]["e2e-update"] == "updated"


async def test_should_apply_changes_to_a_namespace_status(e2e: E2eClient) -> None:
    path = f"{NAMESPACES}/{await e2e.namespace('nsstatus')}"
    told = {"status": "True", "reason": "E2E", "message": "Set by an e2e test"}
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"conditions": [{"type": "StatusPatch", **told}]}}
    patched = await e2e.patch(f"{path}/status", patch, "merge")
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    assert [each["type"] for each in patched["status"]["conditions"]] == ["StatusPatch"]
    found = await e2e.dynamic("GET", f"{path}/status")
    found["status"]["conditions"].append({"type": "StatusUpdate", **told})
    updated = await e2e.typed("PUT", f"{path}/status", found)
    assert [each["type"] for each in updated["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]


async def test_should_apply_a_finalizer_to_a_namespace(e2e: E2eClient) -> None:
    path, ours = f"{NAMESPACES}/{await e2e.namespace('nsfinalizer')}", "e2e.example.com/fakeFinalizer"
    found = await e2e.typed("GET", path)
    found["spec"]["finalizers"].append(ours)
    updated = await e2e.typed("PUT", f"{path}/finalize", found)
    assert updated["spec"]["finalizers"] == ["kubernetes", ours]
    updated["spec"]["finalizers"].remove(ours)
    assert (await e2e.typed("PUT", f"{path}/finalize", updated))["spec"]["finalizers"] == ["kubernetes"]


async def test_should_delete_pods_before_all_else(e2e: E2eClient) -> None:
    """OrderedNamespaceDeletion: while a Pod with a finalizer is there, a ConfigMap stays, and a condition says why."""
    name = await e2e.namespace("nsordered")
    where, held = f"{NAMESPACES}/{name}", "e2e.example.com/finalizer"
    await e2e.typed("POST", f"{where}/pods", {**POD, "metadata": {"name": "held", "finalizers": [held]}})
    await e2e.typed("POST", f"{where}/configmaps", named("ConfigMap", "kept"))
    await e2e.typed("DELETE", where)

    async def told() -> bool:
        conditions = (await e2e.typed("GET", where))["status"].get("conditions", ())
        return any(each["type"] == "NamespaceFinalizersRemaining" and each["status"] == "True" for each in conditions)

    await until(told, "a condition names the finalizer")
    pod = await e2e.typed("GET", f"{where}/pods/held")
    assert pod["metadata"]["deletionTimestamp"]
    assert "deletionTimestamp" not in (await e2e.typed("GET", f"{where}/configmaps/kept"))["metadata"]
    await e2e.patch(f"{where}/pods/held", {"metadata": {"finalizers": None}}, "merge")
    await absent(e2e, where)


# ---- Watchers


def config_map(name: str, label: str, mutation: int = 0) -> Object:
    meta = {"name": name, "labels": {LABEL: label}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"mutation": str(mutation)}}


def selecting(where: str, *labels: str, since: str = "") -> str:
    version = f"&resourceVersion={since}" if since else ""
    return f"{where}?watch=1&labelSelector={LABEL}%20in%20%28{','.join(labels)}%29{version}"


async def following(events: AsyncIterator[Object]) -> tuple[str, str, str]:
    event = await anext(events)
    return event["type"], event["object"]["metadata"]["name"], event["object"]["data"]["mutation"]


async def test_should_observe_add_update_and_delete_watch_notifications_on_configmaps(e2e: E2eClient) -> None:
    where = f"{NAMESPACES}/{await e2e.namespace('watch')}/configmaps"
    async with AsyncExitStack() as stack:
        a, b, both = [
            await stack.enter_async_context(e2e.watching(selecting(where, *labels))) for labels in (["A"], ["B"], ["A", "B"])
        ]
        await e2e.typed("POST", where, config_map("a", "A"))
        for mutation in (1, 2):
            await e2e.typed("PUT", f"{where}/a", config_map("a", "A", mutation))
        await e2e.typed("DELETE", f"{where}/a")
        wanted = [("ADDED", "a", "0"), ("MODIFIED", "a", "1"), ("MODIFIED", "a", "2"), ("DELETED", "a", "2")]
        assert [await following(a) for _ in wanted] == wanted
        assert [await following(both) for _ in wanted] == wanted
        await e2e.typed("POST", where, config_map("b", "B"))
        await e2e.typed("DELETE", f"{where}/b")
        wanted = [("ADDED", "b", "0"), ("DELETED", "b", "0")]
        assert [await following(b) for _ in wanted] == wanted, "and nothing of the other label before"
        assert [await following(both) for _ in wanted] == wanted


async def test_should_be_able_to_start_watching_from_a_specific_resource_version(e2e: E2eClient) -> None:
    where = f"{NAMESPACES}/{await e2e.namespace('watch')}/configmaps"
    await e2e.typed("POST", where, config_map("c", "C"))
    first = await e2e.typed("PUT", f"{where}/c", config_map("c", "C", 1))
    await e2e.typed("PUT", f"{where}/c", config_map("c", "C", 2))
    await e2e.typed("DELETE", f"{where}/c")
    async with e2e.watching(selecting(where, "C", since=first["metadata"]["resourceVersion"])) as events:
        assert [await following(events) for _ in range(2)] == [("MODIFIED", "c", "2"), ("DELETED", "c", "2")]


async def test_should_be_able_to_restart_watching_from_the_last_resource_version(e2e: E2eClient) -> None:
    where = f"{NAMESPACES}/{await e2e.namespace('watch')}/configmaps"
    async with e2e.watching(selecting(where, "R")) as events:
        await e2e.typed("POST", where, config_map("r", "R"))
        await e2e.typed("PUT", f"{where}/r", config_map("r", "R", 1))
        assert await following(events) == ("ADDED", "r", "0")
        last = (await anext(events))["object"]["metadata"]["resourceVersion"]
    await e2e.typed("PUT", f"{where}/r", config_map("r", "R", 2))
    await e2e.typed("DELETE", f"{where}/r")
    async with e2e.watching(selecting(where, "R", since=last)) as events:
        assert [await following(events) for _ in range(2)] == [("MODIFIED", "r", "2"), ("DELETED", "r", "2")]


async def test_should_observe_an_object_deletion_if_it_stops_meeting_the_requirements_of_the_selector(e2e: E2eClient) -> None:
    where = f"{NAMESPACES}/{await e2e.namespace('watch')}/configmaps"
    async with e2e.watching(selecting(where, "S")) as events:
        await e2e.typed("POST", where, config_map("s", "S"))
        for label, mutation in (("S", 1), ("other", 1), ("other", 2), ("S", 2), ("S", 3)):
            await e2e.typed("PUT", f"{where}/s", config_map("s", label, mutation))
        await e2e.typed("DELETE", f"{where}/s")
        wanted = ["ADDED 0", "MODIFIED 1", "DELETED 1", "ADDED 2", "MODIFIED 3", "DELETED 3"]
        found = [await following(events) for _ in wanted]
        assert [f"{type} {mutation}" for type, _, mutation in found] == wanted


async def test_should_receive_events_on_concurrent_watches_in_same_order(e2e: E2eClient) -> None:
    name = await e2e.namespace("watch")
    where, label = f"{NAMESPACES}/{name}/configmaps", unique("order")

    async def produce() -> None:
        for number in range(20):
            each = f"{where}/cm-{number % 5}"
            if await unless(404, e2e.typed("PUT", each, config_map(f"cm-{number % 5}", label, number))) is None:
                await e2e.typed("POST", where, config_map(f"cm-{number % 5}", label, number))
            if number % 3 == 2:
                await e2e.typed("DELETE", each)

    start = (await e2e.typed("GET", where))["metadata"]["resourceVersion"]
    producing = asyncio.create_task(produce())
    orders: list[list[str]] = []
    since = start
    for _ in range(10):
        async with e2e.watching(selecting(where, label, since=since)) as events:
            orders.append([(await anext(events))["object"]["metadata"]["resourceVersion"] for _ in range(8)])
        since = start
    await producing
    assert orders == [orders[0]] * 10
    assert sorted(orders[0], key=int) == orders[0]
