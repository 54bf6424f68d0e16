"""The server over real TLS: HTTP edge cases, lists, watches, access, recorded writes, persistent state."""

import asyncio
import contextlib
import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.recorder import Recorder
from raycp.embedded.store import StoredObject
from raycp.embedded.watch import Watch

CMS = "/api/v1/namespaces/default/configmaps"


class Api:
    """A bare client of one cluster."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        assert cluster.endpoint is not None
        self.cluster = cluster
        self.server = cluster.endpoint.server
        self.token = cluster.endpoint.token
        self.tls = ssl.create_default_context(cadata=cluster.endpoint.ca_pem)
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls))

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {self.token if token is None else token}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if sent["Authorization"] == "Bearer ":
            del sent["Authorization"]
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.http.request(method, self.server + path, data=data, headers=sent) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text

    async def watch(self, path: str, count: int) -> list[tuple[str, dict[str, Any]]]:
        """The first ``count`` events, or all until the server ends the watch."""
        found: list[tuple[str, dict[str, Any]]] = []
        headers = {"Authorization": f"Bearer {self.token}"}
        async with asyncio.timeout(10), self.http.get(self.server + path, headers=headers) as answer:
            assert answer.status == 200
            async for line in answer.content:
                event = json.loads(line)
                found.append((event["type"], event["object"]))
                if len(found) == count:
                    break
        return found


def spec(**more: Any) -> EmbeddedSpec:
    return EmbeddedSpec(controllers=EmbeddedControllers.none(), **more)


@contextlib.asynccontextmanager
async def bare_cluster() -> AsyncIterator[Api]:
    """A client of a cluster without controllers."""
    cluster = EmbeddedCluster("t", spec())
    await cluster.start()
    client = Api(cluster)
    yield client
    await client.http.close()
    await cluster.stop()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with bare_cluster() as client:
        yield client


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}


async def raw(api: Api, sent: bytes, until: bytes) -> bytes:
    """The answer on a bare socket to ``sent``, up to and including ``until``."""
    host, port = api.server.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=api.tls)
    writer.write(sent.replace(b"TOKEN", api.token.encode()))
    try:
        async with asyncio.timeout(5):
            return await reader.readuntil(until)
    finally:
        writer.close()


# ---- HTTP


async def test_no_answer_is_a_page_or_part_of_one(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.token}"}
    for path in ("/version", CMS, "/nothing", f"{CMS}?watch=true"):
        async with api.http.get(api.server + path, headers=headers) as answer:
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    one = b"GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\r\n"
    watch = b"GET %b?watch=1&timeoutSeconds=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\r\n" % CMS.encode()
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    got = await raw(api, one + watch + last, b"\r\n\r\nok")
    assert got.index(b"gitVersion") < got.index(b"chunked") < got.index(b"0\r\n\r\nHTTP/1.1 200 OK")


async def test_chunked_bodies_and_expect(api: Api) -> None:
    body = json.dumps(config_map("chunked")).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:7], body[7:])) + b"0\r\n\r\n"
    head = (
        b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    got = await raw(api, head % CMS.encode() + chunks, b'"name":"chunked"')
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n")


async def test_gzip_both_ways(api: Api) -> None:
    big = {**config_map("big"), "data": {"x": "y" * 300_000}}
    status, _ = await api.ask("POST", CMS, gzip.compress(json.dumps(big).encode()), Content_Encoding="gzip")
    assert status == 201
    headers = {"Authorization": f"Bearer {api.token}", "Accept-Encoding": "gzip"}
    async with api.http.get(api.server + CMS + "/big", headers=headers) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert (await answer.json())["data"]["x"] == "y" * 300_000
    for accepted, got in (("deflate, gzip", "gzip"), ("gzip;q=0", None), ("br", None)):
        async with api.http.get(api.server + CMS + "/big", headers={**headers, "Accept-Encoding": accepted}) as answer:
            assert answer.headers.get("Content-Encoding") == got, accepted


async def test_a_body_above_the_limit_gets_413(api: Api) -> None:
    status, told = await api.ask("POST", CMS, b"x" * (3 * 1024 * 1024 + 1))
    assert (status, told["reason"]) == (413, "RequestEntityTooLarge")


async def test_invalid_http_is_refused(api: Api) -> None:
    assert (await raw(api, b"NONSENSE\r\n\r\n", b"\r\n")).startswith(b"HTTP/1.1 400")


async def test_head_has_no_body(api: Api) -> None:
    got = await raw(api, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"\r\n\r\n")
    assert b"Content-Length: 2" in got
    assert b"Connection: close" in got


# ---- access


async def test_invalid_and_missing_credentials(api: Api) -> None:
    assert (await api.ask("GET", CMS, token="wrong"))[0] == 401
    status, told = await api.ask("GET", CMS, token="")
    assert (status, told["reason"], told["details"]) == (403, "Forbidden", {"kind": "configmaps"})
    assert await api.ask("GET", "/readyz", token="") == (200, "ok")
    assert (await api.ask("GET", "/raycp/admin/stats", token=api.cluster.add_user("joe")))[0] == 403


@pytest.mark.parametrize(("path", "more"), [("healthz", set()), ("livez", set()), ("readyz", {"informer-sync", "etcd-readiness"})])
async def test_health_names_the_checks_of_a_real_server(api: Api, path: str, more: set[str]) -> None:
    """Those that ``test/e2e/apimachinery/health_handlers.go`` demands."""
    status, told = await api.ask("GET", f"/{path}?verbose=1")
    *checks, last, end = told.split("\n")
    hooks = {
        "start-apiserver-admission-initializer",
        "crd-informer-synced",
        "bootstrap-controller",
        "kube-apiserver-autoregistration",
    }
    wanted = {"ping", "log", "etcd", "autoregister-completion", *(f"poststarthook/{hook}" for hook in hooks)}
    assert {f"[+]{check} ok" for check in wanted | more} <= set(checks)
    assert (status, last, end) == (200, f"{path} check passed", "")
    status, told = await api.ask("GET", f"/{path}?verbose&exclude=etcd&exclude=nothing")
    assert "[+]etcd excluded: ok" in told
    assert 'cannot be excluded: no matches for "nothing"' in told


async def test_the_server_publishes_itself(api: Api) -> None:
    port = int(api.server.rpartition(":")[2])
    _, service = await api.ask("GET", "/api/v1/namespaces/default/services/kubernetes")
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    assert service["spec"]["ports"] == [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]
    _, told = await api.ask("GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
    assert told["metadata"]["labels"] == {"kubernetes.io/service-name": "kubernetes"}
    assert [one["addresses"] for one in told["endpoints"]] == [["127.0.0.1"]]
    assert told["ports"] == [{"name": "https", "port": port, "protocol": "TCP"}]
    _, told = await api.ask("GET", "/api/v1/namespaces/default/endpoints/kubernetes")
    assert told["subsets"] == [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]


async def test_a_server_on_another_port_publishes_that(tmp_path: Path) -> None:
    ports = []
    for _ in range(2):
        cluster = EmbeddedCluster("t", spec(data_dir=tmp_path))
        endpoint = await cluster.start()
        found = cluster.api.get("endpointslices.discovery.k8s.io", "default", "kubernetes")
        assert found is not None
        ports.append((int(endpoint.server.rpartition(":")[2]), found["ports"][0]["port"]))
        await cluster.stop()
    assert all(served == published for served, published in ports)


async def test_client_certificates(api: Api, tmp_path: Path) -> None:
    certificate, key = api.cluster.client_certificate("jane", ("devs",))
    chain = tmp_path / "jane.pem"
    chain.write_text(certificate + key)
    assert api.cluster.endpoint is not None
    tls = ssl.create_default_context(cadata=api.cluster.endpoint.ca_pem)
    tls.load_cert_chain(chain)
    async with aiohttp.ClientSession() as http:
        url = f"{api.server}/apis/authentication.k8s.io/v1/selfsubjectreviews"
        async with http.post(url, json={}, ssl=tls) as answer:
            told = await answer.json()
    assert told["status"]["userInfo"] == {"username": "jane", "groups": ["devs", "system:authenticated"]}


async def test_impersonation_and_service_account_tokens(api: Api) -> None:
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    _, told = await api.ask("POST", review, {}, Impersonate_User="bob")
    assert told["status"]["userInfo"]["username"] == "bob"
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await api.ask("POST", accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}})
    status, told = await api.ask("POST", f"{accounts}/robot/token", {})
    assert status == 201
    token = told["status"]["token"]
    _, told = await api.ask("POST", review, {}, token=token)
    assert told["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"
    _, told = await api.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
    assert told["status"]["authenticated"] is True
    assert (await api.ask("POST", review, {}, token=token[:-2]))[0] == 401


async def test_enforced_rbac() -> None:
    cluster = EmbeddedCluster("t", spec(rbac=True))
    await cluster.start()
    api = Api(cluster)
    try:
        token = cluster.add_user("joe")
        assert (await api.ask("GET", CMS, token=token))[0] == 403
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        role = {"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]}
        binding = {
            "metadata": {"name": "joe"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "User", "name": "joe", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        assert (await api.ask("POST", f"{rbac}/namespaces/default/roles", role))[0] == 201
        assert (await api.ask("POST", f"{rbac}/namespaces/default/rolebindings", binding))[0] == 201
        assert (await api.ask("GET", CMS, token=token))[0] == 200
        assert (await api.ask("POST", CMS, config_map("x"), token=token))[0] == 403
        asked = {"spec": {"resourceAttributes": {"namespace": "default", "verb": "list", "resource": "configmaps"}}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        assert (await api.ask("POST", path, asked, token=token))[1]["status"]["allowed"] is True
    finally:
        await api.http.close()
        await cluster.stop()


# ---- lists and watches


async def test_pages_are_of_one_revision_and_old_tokens_expire(api: Api) -> None:
    for i in range(5):
        await api.ask("POST", CMS, config_map(f"m{i}"))
    _, first = await api.ask("GET", CMS + "?limit=2")
    assert first["metadata"]["remainingItemCount"] == 3
    await api.ask("DELETE", CMS + "/m3")
    token = first["metadata"]["continue"]
    _, second = await api.ask("GET", f"{CMS}?limit=5&continue={token}")
    assert [i["metadata"]["name"] for i in second["items"]] == ["m2", "m3", "m4"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    await api.ask("POST", "/raycp/admin/compact")
    status, gone = await api.ask("GET", f"{CMS}?limit=5&continue={token}")
    assert (status, gone["reason"]) == (410, "Expired")
    _, rest = await api.ask("GET", f"{CMS}?limit=5&continue={gone['metadata']['continue']}")
    assert [i["metadata"]["name"] for i in rest["items"]] == ["m2", "m4"]


async def test_a_list_from_the_future_is_refused(api: Api) -> None:
    status, told = await api.ask("GET", CMS + "?resourceVersion=99999999&resourceVersionMatch=NotOlderThan")
    assert (status, told["reason"]) == (504, "Timeout")
    assert told["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_a_watch_without_version_begins_with_existing_objects(api: Api) -> None:
    await api.ask("POST", CMS, config_map("a"))
    events = await api.watch(CMS + "?watch=true", 1)
    assert [(t, o["metadata"]["name"]) for t, o in events] == [("ADDED", "a")]


async def test_a_watch_of_a_compacted_version_gets_410(api: Api) -> None:
    await api.ask("POST", "/raycp/admin/compact")
    ((type_, status),) = await api.watch(CMS + "?watch=true&resourceVersion=1", 5)
    assert (type_, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


async def test_a_watch_reports_objects_that_enter_and_leave_its_selection(api: Api) -> None:
    _, listed = await api.ask("GET", CMS)
    path = f"{CMS}?watch=true&labelSelector=on%3D1&resourceVersion={listed['metadata']['resourceVersion']}"
    reading = asyncio.create_task(api.watch(path, 2))
    await api.ask("POST", CMS, config_map("a"))
    for value in ("1", "2"):
        patch = {"metadata": {"labels": {"on": value}}}
        _, told = await api.ask("PATCH", CMS + "/a", patch, Content_Type="application/merge-patch+json")
    events = await reading
    assert [t for t, _ in events] == ["ADDED", "DELETED"]
    assert events[1][1]["metadata"]["labels"] == {"on": "1"}
    assert events[1][1]["metadata"]["resourceVersion"] == told["metadata"]["resourceVersion"]


async def test_a_watch_ends_in_time_with_a_bookmark(api: Api) -> None:
    events = await api.watch(CMS + "?watch=true&resourceVersion=0&timeoutSeconds=3&allowWatchBookmarks=true", 9)
    assert [t for t, _ in events] == ["BOOKMARK"]
    assert int(events[0][1]["metadata"]["resourceVersion"]) > 0


async def test_ten_watchers_see_the_same_events_in_order(api: Api) -> None:
    _, listed = await api.ask("GET", CMS)
    path = f"{CMS}?watch=true&resourceVersion={listed['metadata']['resourceVersion']}"
    reading = [asyncio.create_task(api.watch(path, 20)) for _ in range(10)]
    for i in range(20):
        await api.ask("POST", CMS, config_map(f"w{i}"))
    seen = await asyncio.gather(*reading)
    assert [o["metadata"]["name"] for _, o in seen[0]] == [f"w{i}" for i in range(20)]
    assert all(each == seen[0] for each in seen)


async def test_initial_events_are_sent_in_slices_before_later_changes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.embedded.watch.SLICE", 2)
    names = [f"i{number:03}" for number in range(200)]
    for name in names:
        await api.ask("POST", CMS, config_map(name, odd=str(int(name[1:]) % 2)))
    path = CMS + "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    reading = [asyncio.create_task(api.watch(path, 203)), asyncio.create_task(api.watch(path + "&labelSelector=odd%3D1", 103))]
    versions = []
    for number in range(2):
        _, made = await api.ask("POST", CMS, config_map(f"n{number}", odd="1"))
        versions.append(int(made["metadata"]["resourceVersion"]))
    for events, wanted in zip(await asyncio.gather(*reading), (names, names[1::2]), strict=True):
        at = next(number for number, (type_, _) in enumerate(events) if type_ == "BOOKMARK")
        assert events[at][1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        since = int(events[at][1]["metadata"]["resourceVersion"])
        first = sorted(o["metadata"]["name"] for _, o in events[:at])
        later = [o["metadata"]["name"] for _, o in events[at + 1 :]]
        assert first == [*wanted, *(f"n{number}" for number in range(2) if versions[number] <= since)]
        assert later == [f"n{number}" for number in range(2) if versions[number] > since]


async def test_a_watch_that_can_not_encode_an_initial_object_sends_no_bookmark(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Watch.encode

    def spoilt(watch: Watch, type_: str, record: StoredObject) -> bytes:
        if record.name == "bad":
            raise ValueError(record.name)
        return line(watch, type_, record)

    monkeypatch.setattr("raycp.embedded.watch.SLICE", 1)
    monkeypatch.setattr(Watch, "encode", spoilt)
    for name in ("a", "bad", "c"):
        await api.ask("POST", CMS, config_map(name))
    path = CMS + "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    assert [(t, o["metadata"]["name"]) for t, o in await api.watch(path, 9)] == [("ADDED", "a")]


async def test_other_requests_are_answered_while_initial_events_are_sent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    begun = asyncio.Event()
    send = Watch.send_initial

    def slow(watch: Watch) -> None:
        sent.append(1)
        begun.set()
        time.sleep(0.005)
        send(watch)

    monkeypatch.setattr("raycp.embedded.watch.SLICE", 1)
    monkeypatch.setattr(Watch, "send_initial", slow)
    for number in range(100):
        await api.ask("POST", CMS, config_map(f"i{number:03}"))
    reading = asyncio.create_task(api.watch(CMS + "?watch=true", 100))
    await begun.wait()
    assert (await api.ask("GET", CMS + "/i000"))[0] == 200
    assert len(sent) < 100, "an answer does not wait for the whole of it"
    assert len(await reading) == 100


# ---- recorder, persistence, credentials, deletion


async def test_writes_are_recorded_with_their_epoch(api: Api) -> None:
    _, made = await api.ask("POST", CMS, config_map("a"), X_Raycp_Epoch="7", X_Raycp_Shard="s0", X_Raycp_Term="3")
    _, told = await api.ask("GET", "/raycp/admin/writes?resource=configmaps&verb=create")
    write = told["writes"][-1]
    assert (write["epoch"], write["shard"], write["term"]) == ("7", "s0", "3")
    assert (write["name"], write["resourceVersion"]) == ("a", int(made["metadata"]["resourceVersion"]))
    before = told["count"]
    await api.ask("POST", CMS, config_map("b"))
    _, told = await api.ask("GET", f"/raycp/admin/writes?after={before}")
    assert ([write["name"] for write in told["writes"]], told["count"]) == (["b"], before + 1)
    assert (await api.ask("GET", "/raycp/admin/writes?after=some"))[0] == 400


def test_the_recorder_select_skips_writes_that_it_dropped() -> None:
    recorder = Recorder(limit=3)
    for number in range(5):
        recorder.add("create", "pods", "a", f"p{number}", "u", number, "me", 0.0, {})
    assert [write.name for write in recorder.select(after=1)] == ["p2", "p3", "p4"]
    assert [write.name for write in recorder.select(after=4)] == ["p4"]
    assert recorder.select(after=9) == []
    assert b'"kept":3' in recorder.json()


async def test_state_survives_a_restart_and_a_torn_log(tmp_path: Path) -> None:
    first = EmbeddedCluster("t", spec(data_dir=tmp_path))
    told = await first.start()
    await first.api.create("configmaps", config_map("kept"), "default")
    await first.api.create("configmaps", config_map("gone"), "default")
    await first.api.delete("configmaps", "default", "gone")
    revision = first.store.revision
    log = (tmp_path / "objects.log").read_bytes()
    assert log
    await first.stop()
    (tmp_path / "objects.log").write_bytes(log + b"\0\0\1\0torn")  # as after a crash in the middle of a write
    second = EmbeddedCluster("t", spec(data_dir=tmp_path))
    again = await second.start()
    try:
        assert (again.token, again.ca_pem) == (told.token, told.ca_pem)
        assert second.store.revision >= revision
        assert second.api.get("configmaps", "default", "kept") is not None
        assert second.api.get("configmaps", "default", "gone") is None
    finally:
        await second.stop()


async def test_a_rotated_certificate_and_an_expired_token(api: Api) -> None:
    before = api.token
    api.cluster.rotate_certificate()
    api.cluster.expire_token()
    assert (await api.ask("GET", CMS, token=before))[0] == 401
    assert api.cluster.endpoint is not None
    assert (await api.ask("GET", CMS, token=api.cluster.endpoint.token))[0] == 200


async def test_the_token_is_not_in_the_representation(api: Api) -> None:
    assert api.token not in repr(api.cluster.endpoint)


async def test_a_taken_port_raises_and_leaves_nothing_behind(api: Api) -> None:
    port = int(api.server.rsplit(":", 1)[1])
    before = len(asyncio.all_tasks())
    second = EmbeddedCluster("u", spec(port=port))
    with pytest.raises(OSError):
        await second.start()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


async def test_deletion_by_finalizers_and_preconditions(api: Api) -> None:
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/f"]
    await api.ask("POST", CMS, held)
    status, told = await api.ask("DELETE", CMS + "/held", {"preconditions": {"uid": "another"}})
    assert (status, told["reason"]) == (409, "Conflict")
    status, told = await api.ask("DELETE", CMS + "/held")
    assert status == 200
    assert told["metadata"]["deletionTimestamp"]
    patch = {"metadata": {"finalizers": None}}
    assert (await api.ask("PATCH", CMS + "/held", patch, Content_Type="application/merge-patch+json"))[0] == 200
    assert (await api.ask("GET", CMS + "/held"))[0] == 404
    for name in ("a", "b"):
        await api.ask("POST", CMS, config_map(name, drop="yes"))
    status, told = await api.ask("DELETE", CMS + "?labelSelector=drop%3Dyes")
    assert [i["metadata"]["name"] for i in told["items"]] == ["a", "b"]
    assert (await api.ask("GET", CMS + "?labelSelector=drop%3Dyes"))[1]["items"] == []


async def test_one_of_a_hundred_racing_creates_succeeds(api: Api) -> None:
    answers = await asyncio.gather(*(api.ask("POST", CMS, config_map("only")) for _ in range(100)))
    assert sorted(status for status, _ in answers) == [201] + [409] * 99


async def test_generated_names(api: Api) -> None:
    made = [await api.ask("POST", CMS, {"metadata": {"generateName": "gen-"}}) for _ in range(20)]
    names = {told["metadata"]["name"] for _, told in made}
    assert len(names) == 20
    assert all(len(name) == 9 for name in names)
