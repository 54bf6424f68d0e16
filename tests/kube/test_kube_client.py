"""Requests, streams, errors and the write guard of the client, over real TLS sockets."""

import asyncio
import json
import math
import time

import msgspec
import pytest
from aiohttp import web
from scripted_api import ScriptedApi, answer, cut_in_line, direct, hang, once_for, reset

from raycp.base.clock import SystemClock, VirtualClock
from raycp.base.keys import GVK
from raycp.kube import ApiError, ClusterClient, ConnectError, ConnectSpec, Fenced, NoSuchKind, Unreachable, WriteStamp
from raycp.kube.breaker import BreakerPolicy
from raycp.kube.credentials import Credentials
from raycp.kube.objects import Query

CM = GVK("", "v1", "ConfigMap")


def body(name: str) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}}).encode()


async def drain(client: ClusterClient, query: Query, idle_timeout: float | None = None) -> list[bytes]:
    """All lines of a watch, until it ends."""
    async with client.stream("/api/v1/configmaps", query, idle_timeout=idle_timeout) as stream:
        return [line async for batch in stream for line in batch]


async def test_create_get_patch_delete(client: ClusterClient) -> None:
    made = json.loads(await client.create(CM, "default", body("x")))
    assert made["metadata"]["uid"]
    assert json.loads(await client.get(CM, "default", "x"))["data"] == {"a": "1"}
    await client.patch(CM, "default", "x", b'{"data":{"a":"2"}}')
    with pytest.raises(ApiError) as caught:
        await client.create(CM, "default", body("x"))
    assert caught.value.already_exists
    await client.delete(CM, "default", "x", uid=made["metadata"]["uid"])
    with pytest.raises(ApiError) as caught:
        await client.get(CM, "default", "x")
    assert caught.value.not_found
    assert caught.value.details["name"] == "x"


async def test_connections_are_reused(client: ClusterClient) -> None:
    for _ in range(10):
        await client.version()
    assert client.pool.opened == 1
    await asyncio.gather(*(client.version() for _ in range(20)))
    assert client.pool.opened <= 20


async def test_discovery_suggests_a_kind_for_an_unknown_one(client: ClusterClient) -> None:
    found = await client.resource(GVK("", "v1", "Pod"))
    assert (found.plural, found.namespaced, found.subresources) == ("pods", True, frozenset({"status"}))
    with pytest.raises(NoSuchKind, match="did you mean ConfigMap"):
        await client.resource(GVK("", "v1", "ConfigMaps"))
    with pytest.raises(NoSuchKind, match="is the CRD installed"):
        await client.resource(GVK("x.io", "v1", "Foo"))


async def test_the_write_guard_stamps_writes_only(server: ScriptedApi, client: ClusterClient) -> None:
    client.write_guard = lambda: WriteStamp({"X-Raycp-Epoch": "7"}, budget=2.0)
    await client.create(CM, "default", body("x"))
    assert server.headers[-1]["X-Raycp-Epoch"] == "7"
    assert server.requests[-1][2]["timeout"] == "1999ms"
    await client.get(CM, "default", "x")
    assert "X-Raycp-Epoch" not in server.headers[-1]


async def test_a_fenced_write_is_not_sent(server: ScriptedApi, client: ClusterClient) -> None:
    def refuse() -> WriteStamp:
        raise Fenced("permit has expired")

    client.write_guard = refuse
    await client.resource(CM)
    before = len(server.requests)
    with pytest.raises(Fenced):
        await client.create(CM, "default", body("x"))
    assert len(server.requests) == before
    assert client.gate.in_flight == 0


async def test_only_reads_are_retried_after_the_reset_of_a_kept_connection(server: ScriptedApi, client: ClusterClient) -> None:
    await client.resource(CM)
    server.faults.append(once_for(lambda r: r.path == "/version", reset))
    await client.version()
    server.faults.append(once_for(lambda r: r.method == "POST", reset))
    with pytest.raises(Unreachable) as caught:
        await client.create(CM, "default", body("x"))
    assert caught.value.sent


async def test_a_request_without_an_answer_fails_at_its_deadline(server: ScriptedApi, client: ClusterClient) -> None:
    server.faults.append(once_for(lambda r: r.path == "/version", hang))
    with pytest.raises(Unreachable) as caught:
        await client.request("GET", "/version", timeout=0.1)
    assert caught.value.timed_out
    await client.version()


async def test_a_cancelled_request_frees_its_place_and_leaves_no_stale_answer(server: ScriptedApi, client: ClusterClient) -> None:
    server.faults.append(once_for(lambda r: r.path == "/version", hang))
    task = asyncio.create_task(client.version())
    seen = len(server.requests)
    while len(server.requests) == seen:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.gate.in_flight == 0
    assert (await client.version()).gitVersion


async def test_a_stream_yields_whole_lines_and_raises_if_the_connection_breaks(server: ScriptedApi, client: ClusterClient) -> None:
    server.put("a")
    query = {"watch": True, "resourceVersion": 100, "timeoutSeconds": 1}
    lines = await drain(client, query)
    assert json.loads(lines[0])["type"] == "ADDED"
    assert all(json.loads(line) for line in lines)
    server.faults.append(once_for(lambda r: "watch" in r.query, cut_in_line))
    with pytest.raises(Unreachable, match="in the middle"):
        await drain(client, query)


async def test_a_silent_stream_fails_after_the_idle_timeout(server: ScriptedApi, client: ClusterClient) -> None:
    server.mute_watch = True
    with pytest.raises(Unreachable, match="stalled") as caught:
        await drain(client, {"watch": True}, idle_timeout=0.1)
    assert caught.value.timed_out


async def test_a_rotated_token_is_an_error_in_direct_mode(server: ScriptedApi, client: ClusterClient) -> None:
    server.token = "another"
    with pytest.raises(ApiError) as caught:
        await client.version()
    assert caught.value.status == 401


async def test_connect_errors_contain_a_remedy_and_no_secret(server: ScriptedApi) -> None:
    other = ScriptedApi()
    clock = SystemClock()
    with pytest.raises(ConnectError, match=r"not trusted.*CA in the config"):
        await ClusterClient.connect(direct(server, ca_pem=other.authority.pem), clock)
    with pytest.raises(ConnectError, match="renew") as caught:
        await ClusterClient.connect(direct(server, token="wrong-secret"), clock)
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(ConnectError, match="Nothing listens"):
        await ClusterClient.connect(direct(server, server="https://127.0.0.1:1"), clock)
    with pytest.raises(ConnectError, match="PEM"):
        await ClusterClient.connect(direct(server, ca_pem="nonsense"), clock)
    with pytest.raises(ConnectError, match="not an http"):
        await ClusterClient.connect(direct(server, server="ftp://x"), clock)


async def test_insecure_mode_logs_a_warning(server: ScriptedApi, caplog: pytest.LogCaptureFixture) -> None:
    client = await ClusterClient.connect(direct(server, ca_pem=None, insecure=True), SystemClock())
    assert "NOT verified" in caplog.text
    await client.close()


async def test_reprs_contain_no_secret(server: ScriptedApi) -> None:
    cert, key = server.authority.issue("me")
    spec = direct(server, client_cert_pem=cert, client_key_pem=key)
    client = await ClusterClient.connect(spec, SystemClock())
    credentials = Credentials(spec, SystemClock())
    await credentials.load()
    shown = f"{spec!r} {spec} {client!r} {credentials!r} {credentials.target!r}"
    assert server.token is not None
    assert server.token not in shown
    assert "PRIVATE KEY" not in shown
    await client.close()


async def test_a_client_certificate_authenticates() -> None:
    server = ScriptedApi(require_client_cert=True)
    await server.start()
    cert, key = server.authority.issue("me")
    client = await ClusterClient.connect(direct(server, token=None, client_cert_pem=cert, client_key_pem=key), SystemClock())
    assert (await client.version()).gitVersion
    await client.close()
    with pytest.raises(ConnectError):
        await ClusterClient.connect(direct(server, token=None), SystemClock())
    await server.stop()


async def test_429_pauses_the_budget_and_503_opens_the_breaker(server: ScriptedApi, client: ClusterClient) -> None:
    path = "/version"
    server.faults.append(once_for(lambda r: r.path == path, answer(429, "TooManyRequests", {"Retry-After": "1"})))
    with pytest.raises(ApiError) as caught:
        await client.version()
    assert caught.value.retry_after == 1.0
    assert client.budget is not None
    assert client.budget.state().held > 0.5
    start = asyncio.get_running_loop().time()
    await client.version()
    assert asyncio.get_running_loop().time() - start > 0.7
    for _ in range(5):
        server.faults.append(once_for(lambda r: r.path == path, answer(503, "ServiceUnavailable")))
    for _ in range(5):
        with pytest.raises(ApiError):
            await client.request("GET", path, priority=0)
    with pytest.raises(Unreachable, match="breaker open"):
        await client.version()


async def test_the_in_flight_cap_bounds_the_connections(server: ScriptedApi) -> None:
    client = await ClusterClient.connect(direct(server, max_in_flight=2), SystemClock())
    await asyncio.gather(*(client.version() for _ in range(30)))
    assert client.pool.opened <= 2
    assert client.gate.in_flight == 0
    await client.close()


def test_a_connect_spec_survives_msgpack() -> None:
    spec = ConnectSpec(name="c1", mode="direct", server="https://x", token="t", breaker=BreakerPolicy(failures=9))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=ConnectSpec) == spec


async def test_the_client_measures_the_skew_of_the_servers_clock(server: ScriptedApi, client: ClusterClient) -> None:
    ahead = VirtualClock(wall=0.0)
    other = await ClusterClient.connect(direct(server), ahead)
    assert client.skew == 0.0
    assert other.skew > 1e9
    await other.close()


async def test_the_skew_is_measured_again_when_a_watch_opens(server: ScriptedApi) -> None:
    clock = VirtualClock(wall=time.time())
    client = await ClusterClient.connect(direct(server), clock)
    assert client.skew == 0.0
    clock.shift_wall(-600.0)
    async with client.stream("/api/v1/configmaps", {"watch": True}):
        assert abs(client.skew - 600.0) < 3.0
        known = client.skew
    clock.shift_wall(-0.9)
    async with client.stream("/api/v1/configmaps", {"watch": True}):
        assert client.skew == known, "less than the header's resolution is no news for those who are told of it"
    await client.close()


@pytest.mark.parametrize(
    "date",
    ["Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 99999999999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 -0000"],
)
async def test_a_date_that_no_clock_shows_is_no_error_of_a_request(server: ScriptedApi, client: ClusterClient, date: str) -> None:
    async def dated(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, headers={"Date": date})

    server.faults.append(once_for(lambda r: "watch" in r.query, dated))
    async with client.stream("/api/v1/configmaps", {"watch": True}):
        assert math.isfinite(client.skew)
    assert (await client.version()).gitVersion


async def test_a_burst_of_requests_shares_connections(client: ClusterClient) -> None:
    await asyncio.gather(*(client.version() for _ in range(200)))
    assert client.pool.opened < 60
    assert not client.pool.waiting
    assert client.gate.in_flight == 0


async def test_waiting_for_a_connection_can_be_cancelled_and_can_fail(server: ScriptedApi, client: ClusterClient) -> None:
    tasks = [asyncio.create_task(client.version()) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(one, asyncio.CancelledError) for one in done) == 25
    assert client.gate.in_flight == 0
    await server.stop()
    client.pool.drop()
    failed = await asyncio.gather(*(client.version() for _ in range(20)), return_exceptions=True)
    assert all(isinstance(one, Unreachable) for one in failed)
    assert {str(one) for one in failed if "breaker" not in str(one)} == {f"connection to 127.0.0.1:{server.port} refused"}
