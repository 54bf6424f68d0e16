"""A kopf operator on an embedded cluster: handlers, timers, daemons, finalizers."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import pytest

from raycp.testkit.clusters import EmbeddedHandle

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "toys.kopf.raycp.io"},
    "spec": {
        "group": "kopf.raycp.io",
        "scope": "Namespaced",
        "names": {"plural": "toys", "singular": "toy", "kind": "Toy"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


class Log(list[tuple[Any, ...]]):
    def has(self, *entry: Any) -> bool:
        return entry in self


@contextlib.contextmanager
def operator(kubeconfig: str, registry: kopf.OperatorRegistry) -> Iterator[None]:
    """kopf in a thread with its own loop, until the block ends."""
    ready, stop = threading.Event(), threading.Event()
    settings = kopf.OperatorSettings()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_kubeconfig(**kwargs)

    def run() -> None:
        asyncio.run(
            kopf.operator(
                registry=registry, settings=settings, ready_flag=ready, stop_flag=stop, namespaces=["default"], standalone=True
            )
        )

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def until(check: Callable[[], Any], why: object = "") -> None:
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end, why
        time.sleep(0.02)


@pytest.fixture
def toys(living: EmbeddedHandle, monkeypatch: pytest.MonkeyPatch) -> EmbeddedHandle:
    monkeypatch.setenv("KUBECONFIG", str(living.kubeconfig))
    living.kubectl("apply", "-f", "-", stdin=json.dumps(CRD))
    living.kubectl("wait", "--for=condition=Established", "crd/toys.kopf.raycp.io", "--timeout=20s")
    return living


def toy(name: str, **spec: Any) -> str:
    return json.dumps({"apiVersion": "kopf.raycp.io/v1", "kind": "Toy", "metadata": {"name": name}, "spec": spec})


def test_a_kopf_operator_reconciles(toys: EmbeddedHandle) -> None:
    registry, log = kopf.OperatorRegistry(), Log()

    @kopf.on.create("toys", registry=registry)
    def created(spec: Any, name: str, patch: Any, **_: Any) -> dict[str, Any]:
        log.append(("created", name, spec.get("size")))
        patch.status["seen"] = spec.get("size")
        return {"made": True}

    @kopf.on.update("toys", field="spec.size", registry=registry)
    def updated(old: Any, new: Any, name: str, **_: Any) -> None:
        log.append(("updated", name, old, new))

    @kopf.on.delete("toys", registry=registry)
    def deleted(name: str, **_: Any) -> None:
        log.append(("deleted", name))

    @kopf.timer("toys", interval=0.2, registry=registry)
    def tick(name: str, **_: Any) -> None:
        log.append(("tick", name))

    @kopf.daemon("toys", registry=registry)
    async def stay(stopped: kopf.DaemonStopped, name: str, **_: Any) -> None:
        log.append(("daemon starts", name))
        await stopped.wait()
        log.append(("daemon ends", name))

    @kopf.on.event("pods", labels={"toy": kopf.PRESENT}, registry=registry)
    def pod_seen(type: str | None, name: str, status: Any, **_: Any) -> None:
        log.append(("pod", type, name, status.get("phase")))

    @kopf.on.create("toys", retries=3, backoff=0.1, registry=registry)
    def fails_once(name: str, retry: int, **_: Any) -> None:
        log.append(("try", name, retry))
        if retry == 0:
            raise kopf.TemporaryError("not yet", delay=0.1)

    with operator(str(toys.kubeconfig), registry):
        toys.kubectl("apply", "-f", "-", stdin=toy("t", size=1))
        until(lambda: log.has("created", "t", 1), log)
        until(lambda: log.has("try", "t", 1), log)
        until(lambda: log.count(("tick", "t")) >= 3, log)
        found = json.loads(toys.kubectl("get", "toy", "t", "-o", "json").stdout)
        assert found["status"]["seen"] == 1
        assert found["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
        until(lambda: log.has("daemon starts", "t"), log)
        toys.kubectl("patch", "toy", "t", "--type=merge", "-p", '{"spec":{"size":2}}')
        until(lambda: log.has("updated", "t", 1, 2), log)
        toys.kubectl("run", "p", "--image=x", "--restart=Never", "--labels=toy=yes")
        until(lambda: log.has("pod", "MODIFIED", "p", "Succeeded"), log)
        toys.kubectl("delete", "toy", "t", "--timeout=20s")
        assert log.has("deleted", "t")
        assert log.has("daemon ends", "t")
        assert toys.kubectl("get", "toy", "t", check=False).returncode == 1


def test_a_kopf_operator_handles_existing_objects_and_lost_watches(toys: EmbeddedHandle) -> None:
    registry, log = kopf.OperatorRegistry(), Log()
    toys.kubectl("apply", "-f", "-", stdin=toy("early", size=1))

    @kopf.on.event("toys", registry=registry)
    def seen(type: str | None, name: str, **_: Any) -> None:
        log.append((type, name))

    with operator(str(toys.kubeconfig), registry):
        until(lambda: log.has(None, "early"), log)
        toys.add_fault("closeWatch")
        toys.clear_faults()
        toys.kubectl("apply", "-f", "-", stdin=toy("late", size=1))
        until(lambda: any(entry[1] == "late" for entry in log), log)
    toys.kubectl("delete", "toys", "--all")
