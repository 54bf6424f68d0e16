"""The official Python client on an embedded cluster: blocking, asyncio, dynamic, its informer, its leader election."""

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config, dynamic, utils, watch

from raycp.testkit.clusters import EmbeddedHandle

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p"},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
}


def until(check: Callable[[], Any], within: float = 15.0) -> Any:
    end = time.monotonic() + within
    while not (found := check()):
        assert time.monotonic() < end, "not so in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def api(living: EmbeddedHandle) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(living.kubeconfig)) as found:
        yield found


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
def ns(core: client.CoreV1Api) -> Iterator[str]:
    name = f"py-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


class TestBlocking:
    def test_the_life_of_a_pod(self, core: client.CoreV1Api, ns: str) -> None:
        made = core.create_namespaced_pod(ns, POD)
        assert made.status.phase == "Pending"
        until(lambda: core.read_namespaced_pod("p", ns).status.phase == "Succeeded")
        assert "started" in core.read_namespaced_pod_log("p", ns)
        assert core.delete_namespaced_pod("p", ns).metadata.name == "p"
        until(lambda: not core.list_namespaced_pod(ns).items)

    def test_a_patch_is_strategic_for_built_in_kinds(self, core: client.CoreV1Api, ns: str) -> None:
        core.create_namespaced_config_map(ns, {"metadata": {"name": "a"}, "data": {"k": "v"}})
        patched = core.patch_namespaced_config_map("a", ns, {"data": {"l": "w"}})
        assert patched.data == {"k": "v", "l": "w"}
        core.delete_namespaced_config_map("a", ns)
        with pytest.raises(client.ApiException):
            core.read_namespaced_config_map("a", ns)

    def test_errors_have_status_and_reason(self, core: client.CoreV1Api, ns: str) -> None:
        with pytest.raises(client.ApiException) as caught:
            core.read_namespaced_pod("none", ns)
        assert caught.value.status == 404
        core.create_namespaced_config_map(ns, {"metadata": {"name": "a"}})
        found = core.read_namespaced_config_map("a", ns)
        core.replace_namespaced_config_map("a", ns, {**client.ApiClient().sanitize_for_serialization(found), "data": {"x": "y"}})
        with pytest.raises(client.ApiException) as caught:
            core.replace_namespaced_config_map("a", ns, found)
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")

    def test_a_watch_resumes_from_its_resource_version(self, core: client.CoreV1Api, ns: str) -> None:
        listed = core.list_namespaced_secret(ns)
        core.create_namespaced_secret(ns, {"metadata": {"name": "a"}})
        core.delete_namespaced_secret("a", ns)
        stream = watch.Watch().stream(
            core.list_namespaced_secret, ns, resource_version=listed.metadata.resource_version, timeout_seconds=1
        )
        assert [(e["type"], e["object"].metadata.name) for e in stream] == [("ADDED", "a"), ("DELETED", "a")]

    def test_pages(self, core: client.CoreV1Api, ns: str) -> None:
        for i in range(5):
            core.create_namespaced_secret(ns, {"metadata": {"name": f"s{i}"}})
        names, token = [], None
        while True:
            page = core.list_namespaced_secret(ns, limit=2, _continue=token)
            names += [item.metadata.name for item in page.items]
            token = page.metadata._continue
            if not token:
                break
        assert names == [f"s{i}" for i in range(5)]

    def test_manifests_are_created(self, api: client.ApiClient, core: client.CoreV1Api, ns: str) -> None:
        utils.create_from_dict(api, POD, namespace=ns)
        assert core.read_namespaced_pod("p", ns).spec.containers[0].image == "i"

    def test_access_reviews(self, api: client.ApiClient) -> None:
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        assert client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed

    def test_jobs_and_leases_have_types(self, api: client.ApiClient, ns: str) -> None:
        job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": POD["spec"]}}}
        made = client.BatchV1Api(api).create_namespaced_job(ns, job)
        assert made.spec.selector.match_labels
        assert [lease.spec.holder_identity for lease in client.CoordinationV1Api(api).list_namespaced_lease("kube-node-lease").items] == ["node-0", "node-1"]  # fmt: skip # noqa: E501


def test_dynamic_client(api: client.ApiClient, ns: str) -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.py.raycp.io"},
        "spec": {
            "group": "py.raycp.io",
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
    found = dynamic.DynamicClient(api)
    crds = found.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    crds.create(body=crd)
    gadgets = until(lambda: found.resources.search(api_version="py.raycp.io/v1", kind="Gadget"))[0]
    gadgets.create(body={"apiVersion": "py.raycp.io/v1", "kind": "Gadget", "metadata": {"name": "g"}, "a": 1}, namespace=ns)
    assert gadgets.get(name="g", namespace=ns).a == 1
    merge = {"content_type": "application/merge-patch+json"}
    assert gadgets.patch(name="g", namespace=ns, body={"a": 2}, **merge).a == 2
    apply = {"apiVersion": "py.raycp.io/v1", "kind": "Gadget", "metadata": {"name": "g"}, "b": 3}
    assert gadgets.server_side_apply(body=apply, namespace=ns, field_manager="me").b == 3
    seen = [event["type"] for event in gadgets.watch(namespace=ns, timeout=1)]
    assert seen == ["ADDED"]
    crds.delete(name="gadgets.py.raycp.io")


def test_informer(core: client.CoreV1Api, ns: str) -> None:
    from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer

    seen: list[tuple[str, str]] = []
    informer = SharedInformer(list_func=core.list_namespaced_secret, namespace=ns)
    for kind in (ADDED, MODIFIED, DELETED):
        informer.add_event_handler(kind, lambda obj, kind=kind: seen.append((kind, obj.metadata.name)))
    core.create_namespaced_secret(ns, {"metadata": {"name": "before"}})
    informer.start()
    try:
        until(lambda: (ADDED, "before") in seen)
        core.create_namespaced_secret(ns, {"metadata": {"name": "later"}})
        until(lambda: (ADDED, "later") in seen)
        core.patch_namespaced_secret("later", ns, {"metadata": {"labels": {"x": "y"}}})
        until(lambda: (MODIFIED, "later") in seen)
        core.delete_namespaced_secret("later", ns)
        until(lambda: (DELETED, "later") in seen)
    finally:
        informer.stop()


def test_leader_election(living: EmbeddedHandle, ns: str) -> None:
    """In a separate process, because the client's elector ends only with its process."""
    script = textwrap.dedent(
        f"""
        import os, threading
        from kubernetes import config
        from kubernetes.leaderelection import leaderelection, electionconfig
        from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
        config.load_kube_config({str(living.kubeconfig)!r})
        def lead():
            print("leading", flush=True)
            threading.Timer(3, os._exit, (0,)).start()
        lock = LeaseLock("lock", {ns!r}, "me")
        leaderelection.LeaderElection(electionconfig.Config(lock, lease_duration=5, renew_deadline=4, retry_period=1,
            onstarted_leading=lead, onstopped_leading=None)).run()
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=40)
    assert "leading" in done.stdout, done.stderr[-2000:]
    with config.new_client_from_config(str(living.kubeconfig)) as found:
        spec = client.CoordinationV1Api(found).read_namespaced_lease("lock", ns).spec
    assert spec.holder_identity == "me"
    assert spec.renew_time > spec.acquire_time


async def test_asyncio_client(living: EmbeddedHandle, ns: str) -> None:
    from kubernetes.aio import client as aio_client
    from kubernetes.aio import config as aio_config
    from kubernetes.aio import watch as aio_watch

    async with await aio_config.new_client_from_config(str(living.kubeconfig)) as found:
        core = aio_client.CoreV1Api(found)
        seen: list[tuple[str, str]] = []

        async def follow() -> None:
            async with aio_watch.Watch().stream(core.list_namespaced_secret, ns, timeout_seconds=5) as stream:
                async for event in stream:
                    seen.append((event["type"], event["object"].metadata.name))
                    if event["type"] == "DELETED":
                        return

        following = asyncio.create_task(follow())
        await core.create_namespaced_secret(ns, {"metadata": {"name": "a"}})
        await core.patch_namespaced_secret("a", ns, {"metadata": {"labels": {"x": "y"}}})
        for _ in range(200):
            if seen:
                break
            await asyncio.sleep(0.02)
        await core.delete_namespaced_secret("a", ns)
        await asyncio.wait_for(following, 10)
        assert seen[0] == ("ADDED", "a")
        assert seen[-1] == ("DELETED", "a")


def test_faults_reach_the_client(living: EmbeddedHandle, core: client.CoreV1Api, ns: str) -> None:
    number = living.add_fault("tooManyRequests", resources=["secrets"], retryAfter="0s")  # the client waits and tries thrice
    try:
        with pytest.raises(client.ApiException) as caught:
            core.list_namespaced_secret(ns)
        assert caught.value.status == 429
        assert caught.value.headers["Retry-After"] == "0"
        assert core.list_namespaced_config_map(ns).items is not None
    finally:
        living.clear_faults()
    assert number > 0
    assert core.list_namespaced_secret(ns).items == []


def test_a_watch_after_a_forced_compaction_gets_410(living: EmbeddedHandle, core: client.CoreV1Api, ns: str) -> None:
    old = core.list_namespaced_secret(ns).metadata.resource_version
    core.create_namespaced_secret(ns, {"metadata": {"name": "a"}})
    living.add_fault("compact")
    living.clear_faults()
    with pytest.raises(client.ApiException) as caught:
        for _ in watch.Watch().stream(core.list_namespaced_secret, ns, resource_version=old, timeout_seconds=1):
            pass
    assert caught.value.status == 410


def test_many_threads_at_once(living: EmbeddedHandle, core: client.CoreV1Api, ns: str) -> None:
    def make(worker: int) -> None:
        for i in range(10):
            core.create_namespaced_secret(ns, {"metadata": {"name": f"s-{worker}-{i}"}})

    threads = [threading.Thread(target=make, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = core.list_namespaced_secret(ns).items
    assert len(found) == 80
    assert len({item.metadata.resource_version for item in found}) == 80
