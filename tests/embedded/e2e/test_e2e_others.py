"""Kubernetes' e2e specs of single answers: request_timeout.go, protocol.go and health_handlers.go in test/e2e/apimachinery."""

import asyncio
import json
import struct

import pytest
from e2e_driver import DEADLINE, JSON, PROTOBUF, E2eClient

from raycp.embedded.strategy.protobuf import decode_protobuf


async def test_a_timeout_that_is_no_duration(e2e: E2eClient) -> None:
    """Server request timeout should return HTTP status code 400 if the user specifies an invalid timeout in the request URL"""
    status, _, told = await e2e.raw("GET", "/version?timeout=invalid")
    assert status == 400
    assert b"invalid timeout specified in the request URL" in told


@pytest.mark.parametrize(
    "timeout",
    [
        pytest.param(
            "3m",
            id="Server request timeout the request should be served with a default timeout if the specified timeout "
            "in the request URL exceeds maximum allowed",
        ),
        pytest.param(
            "0s", id="Server request timeout default timeout should be used if the specified timeout in the request URL is 0s"
        ),
    ],
)
async def test_a_timeout_that_is_replaced(e2e: E2eClient, timeout: str) -> None:
    status, _, told = await e2e.raw("GET", f"/version?timeout={timeout}")
    assert status == 200
    assert json.loads(told)["major"]


def _fields(data: bytes) -> dict[int, bytes]:
    """The fields of a message that are bytes, by number below 16."""
    found, at = {}, 0
    while at < len(data):
        number, at = data[at] >> 3, at + 1
        size = shift = 0
        while True:
            byte = data[at]
            size |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if byte < 0x80:
                break
        found[number] = data[at : at + size]
        at += size
    return found


@pytest.mark.parametrize("since", ["a recent resource version", "one that is compacted"])
@pytest.mark.parametrize(
    "accept",
    [
        pytest.param(accept, id=f'client-go should negotiate watch and report errors with accept "{accept}"')
        for accept in (JSON, PROTOBUF, f"{PROTOBUF},{JSON}", f"{JSON},{PROTOBUF}")
    ],
)
async def test_watch_and_report_errors(e2e: E2eClient, accept: str, since: str) -> None:
    """The spec allows an event of the object as well as 410, by the age of its resource version. The replay has both."""
    namespace = await e2e.namespace("protocol")
    path, name = f"/api/v1/namespaces/{namespace}/configmaps", "e2e-client-go-test-negotiation"
    before = (await e2e.typed("GET", path))["metadata"]["resourceVersion"]
    await e2e.typed("POST", path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
    if since == "one that is compacted":
        e2e.cluster.call(lambda inner: inner.store.compact())
    query = f"?watch=1&resourceVersion={before}&fieldSelector=metadata.name%3D{name}"
    type_, obj = await first_event(e2e, path + query, accept)
    if since == "one that is compacted":
        assert (type_, obj["kind"], obj["code"], obj["reason"]) == ("ERROR", "Status", 410, "Expired")
    else:
        assert (type_, obj["kind"], obj["metadata"]["name"]) == ("ADDED", "ConfigMap", name)


async def first_event(e2e: E2eClient, path: str, accept: str) -> tuple[str, dict]:
    """Of a watch, in the form that the answer says it has."""
    async with asyncio.timeout(DEADLINE), e2e.stream(path, accept) as answer:
        media = answer.headers["Content-Type"].partition(";")[0]
        assert media in accept.split(",")
        if media == JSON:
            event = json.loads(await answer.content.readline())
            return event["type"], event["object"]
        (size,) = struct.unpack(">I", await answer.content.readexactly(4))
        parts = _fields(await answer.content.readexactly(size))
    raw = _fields(parts[2])[1]
    kind = _fields(_fields(raw[4:])[1])[2].decode()
    return parts[1].decode(), {"kind": kind, **decode_protobuf(raw, "", "v1", kind)}


HOOKS = (
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "bootstrap-controller",
    "start-system-namespaces-controller",
    "scheduling/bootstrap-system-priority-classes",
    "start-cluster-authentication-info-controller",
    "start-kube-aggregator-informers",
    "apiservice-registration-controller",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
)
CHECKS = ("ping", "log", "etcd", "autoregister-completion", *(f"poststarthook/{hook}" for hook in HOOKS))


@pytest.mark.parametrize(("path", "more"), [("healthz", ()), ("livez", ()), ("readyz", ("informer-sync",))])
async def test_health_handlers(e2e: E2eClient, path: str, more: tuple[str, ...]) -> None:
    """health handlers should contain necessary checks"""
    status, _, told = await e2e.raw("GET", f"/{path}?verbose=1")
    assert status == 200
    lines = told.decode().split("\n")
    assert not {f"[+]{each} ok" for each in (*CHECKS, *more)}.difference(lines)
