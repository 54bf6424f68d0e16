"""What counts as an API server's answer: by status, content type and form."""

import json
import time

import pytest
from aiohttp import web
from scripted_api import ScriptedApi, answer, once_for

from raycp.base.keys import GVK
from raycp.config.embedded import BadAnswerKind
from raycp.embedded.badanswers import BODIES
from raycp.kube import ApiError, BadAnswer, ClusterClient, KubeError, NoSuchKind, Response, Unreachable
from raycp.kube.answers import answer_error, decode_answer, retry_after_seconds, seconds_ahead
from raycp.kube.errors import RETRY_AFTER_MAX, NoSuchPath
from raycp.kube.limits import AnswerLimits

CM = GVK("", "v1", "ConfigMap")
STATUS = json.dumps({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "details": {"name": "a"}}).encode()
JSON, HTML, TEXT = b"application/json", b"text/html; charset=utf-8", b"text/plain; charset=utf-8"
PAGE = b"<html><head><title>Sign in</title></head></html>"


def judged(status: int, content_type: bytes, body: bytes = b"", request: str = "GET /x", **headers: str) -> KubeError | None:
    raw = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    return answer_error(Response(status, body, raw, content_type), request)


@pytest.mark.parametrize("kind", BODIES)
def test_nonsense_that_is_said_with_200_is_no_answer_of_an_api_server(kind: BadAnswerKind) -> None:
    content_type, body = BODIES[kind]
    for request in ("GET /api/v1/namespaces", "POST /apis/batch.raycp.io/v1alpha1/namespaces/default/batchjobs"):
        assert isinstance(judged(200, content_type.encode(), body, request), BadAnswer)


@pytest.mark.parametrize(
    "body", [b'{"kind":"APIVersions","versions":["v1"]}\n', b' {"apiVersion":"v1","data":{"a":"b"},"kind":"ConfigMap"}', STATUS]
)
def test_an_object_that_names_its_kind_may_be_one(body: bytes) -> None:
    assert judged(200, JSON, body, "GET /api") is None


@pytest.mark.parametrize(
    ("status", "content_type", "body", "expected"),
    [
        (200, JSON, b"{}", None),
        (201, JSON + b"; charset=utf-8", b"{}", None),
        (200, b"application/vnd.kubernetes.protobuf+json", b"{}", None),
        (200, b"", b"{}", None),
        (200, HTML, PAGE, BadAnswer),
        (200, b"", b"", BadAnswer),
        (204, b"", b"", BadAnswer),
        (301, HTML, b"", BadAnswer),
        (302, JSON, b"{}", BadAnswer),
        (304, b"", b"", BadAnswer),
        (404, JSON, STATUS, ApiError),
        (404, TEXT, b"404 page not found", NoSuchPath),
        (404, HTML, PAGE, BadAnswer),
        (404, JSON, b'{"error":"no such route"}', BadAnswer),
        (409, HTML, PAGE, BadAnswer),
        (410, TEXT, b"Gone", BadAnswer),
        (422, HTML, PAGE, BadAnswer),
        (403, HTML, PAGE, ApiError),
        (429, HTML, PAGE, ApiError),
        (503, HTML, PAGE, ApiError),
        (503, b"", b"", ApiError),
    ],
)
def test_an_answer_is_judged_by_status_and_content_type(
    status: int, content_type: bytes, body: bytes, expected: type[KubeError] | None
) -> None:
    found = judged(status, content_type, body)
    assert type(found) is (expected or type(None))
    if isinstance(found, ApiError):
        assert found.status == status
    if isinstance(found, BadAnswer):
        assert found.sent, "what a write did is unknown"
        assert "GET /x" in str(found)


def test_the_error_names_the_page_and_where_a_redirect_leads_but_no_secret_in_it() -> None:
    assert 'title "Sign in"' in str(judged(200, HTML, PAGE))
    shown = str(judged(302, HTML, location="https://login.example/start?token=secret"))
    assert "https://login.example/start" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("99999999999", RETRY_AFTER_MAX),
        ("86400", RETRY_AFTER_MAX),
        ("inf", RETRY_AFTER_MAX),
        ("1e999", RETRY_AFTER_MAX),
        ("-3", 0.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Wed, 21 Oct 2026 07:28:10 GMT", 10.0),
        ("Thu, 22 Oct 2026 07:28:00 GMT", RETRY_AFTER_MAX),
        ("Wed, 21 Oct 2026 07:00:00 GMT", 0.0),
        ("Wed, 99 Oct 9999999 07:28:10 GMT", None),
    ],
)
def test_retry_after_is_bounded(text: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(text, "Wed, 21 Oct 2026 07:28:00 GMT") == seconds


def test_a_date_is_compared_with_the_servers_own_clock_alone() -> None:
    assert retry_after_seconds("Wed, 21 Oct 2026 07:28:10 GMT", None) is None
    assert retry_after_seconds("Wed, 21 Oct 2026 07:28:10 GMT", "yesterday") is None


@pytest.mark.parametrize("seconds", [10**30, 86400, -5])
def test_the_pause_in_a_status_is_bounded(seconds: int) -> None:
    body = {"kind": "Status", "status": "Failure", "reason": "TooManyRequests", "details": {"retryAfterSeconds": seconds}}
    found = judged(429, JSON, json.dumps(body).encode())
    assert isinstance(found, ApiError)
    assert found.retry_after is None or 0.0 <= found.retry_after <= RETRY_AFTER_MAX


@pytest.mark.parametrize("body", [b"", b"<html>", b"[", b'{"a":', b"\xff", b"NaN", b"[" * 10_000 + b"]" * 10_000, b'{"a":"\xff"}'])
def test_whatever_a_decoder_raises_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer, match="GET /x"):
        decode_answer(body, dict[str, dict[str, str]], "GET /x")


# over real sockets


def redirect(to: str) -> object:
    async def act(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": to})

    return act


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_redirect_is_an_error_and_never_followed(server: ScriptedApi, client: ClusterClient, verb: str) -> None:
    other = ScriptedApi(tls=False)
    await other.start()
    path = "/api/v1/namespaces/default/configmaps/a"
    server.faults.append(once_for(lambda r: r.path == path, redirect(f"{other.url}{path}")))  # type: ignore[arg-type]
    with pytest.raises(BadAnswer, match="redirected") as caught:
        await client.request(verb, path, body=None if verb == "GET" else b"{}")
    assert caught.value.sent
    assert other.requests == []
    await other.stop()


async def test_a_watch_that_is_redirected_or_html_is_an_error(server: ScriptedApi, client: ClusterClient) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(body=PAGE * 10, content_type="text/html")

    for act in (redirect("/elsewhere"), page):
        server.faults.append(once_for(lambda r: "watch" in r.query, act))  # type: ignore[arg-type]
        with pytest.raises(BadAnswer):
            async with client.stream("/api/v1/configmaps", {"watch": True}):
                pass
    async with client.stream("/api/v1/configmaps", {"watch": True, "timeoutSeconds": 1}) as stream:
        await anext(stream)


async def test_a_proxys_404_does_not_mean_that_an_object_is_gone(server: ScriptedApi, client: ClusterClient) -> None:
    """Traefik answers as apiserver does for a path that it does not serve; nginx answers with HTML."""
    server.put("a")
    for content_type in ("text/plain", "text/html"):

        async def page(request: web.Request, content_type: str = content_type) -> web.StreamResponse:
            return web.Response(status=404, body=b"404 page not found\n", content_type=content_type)

        server.faults.append(once_for(lambda r: r.path.endswith("/configmaps/a"), page))
        if content_type == "text/plain":  # discovery says that the path is right, and it is asked no second time
            with pytest.raises(NoSuchPath):
                await client.get(CM, "default", "a")
        else:
            with pytest.raises(BadAnswer):
                await client.get(CM, "default", "a")
    assert json.loads(await client.get(CM, "default", "a"))["metadata"]["name"] == "a"


async def test_a_kind_that_is_served_elsewhere_by_now_is_found(server: ScriptedApi, client: ClusterClient) -> None:
    """A CRD that was deleted and made anew has another plural: the path that discovery knew is not served."""
    server.put("a")
    await client.resource(CM)

    async def moved(request: web.Request) -> web.StreamResponse | None:
        names = {"name": "configs", "kind": "ConfigMap", "namespaced": True, "verbs": ["get"]}
        if request.path == "/api/v1":
            return web.json_response({"kind": "APIResourceList", "groupVersion": "v1", "resources": [names]})
        if "configmaps" in request.path:
            return web.Response(status=404, body=b"404 page not found\n", content_type="text/plain")
        return web.json_response(server.objects["default", "a"]) if "configs" in request.path else None

    async def always(request: web.Request) -> web.StreamResponse | None:
        found = await moved(request)
        if found is not None:
            server.faults.append(always)
        return found

    server.faults.append(always)
    assert json.loads(await client.get(CM, "default", "a"))["metadata"]["name"] == "a"
    assert server.requests[-1][1] == "/api/v1/namespaces/default/configs/a"
    server.faults.clear()

    async def gone(request: web.Request) -> web.StreamResponse | None:
        server.faults.append(gone)
        if request.path == "/api/v1":
            return web.json_response({"kind": "APIResourceList", "groupVersion": "v1", "resources": []})
        return web.Response(status=404, body=b"404 page not found\n", content_type="text/plain")

    server.faults.append(gone)
    client.discovery.forget(CM)
    with pytest.raises(NoSuchKind):
        await client.get(CM, "default", "a")


async def test_an_entry_of_discovery_that_cannot_be_read_hides_no_other_kind(server: ScriptedApi, client: ClusterClient) -> None:
    pods = {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": []}
    entries = [{"name": "bad path\r\n", "kind": "Bad"}, {"name": 5}, "x", pods]

    async def listed(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "APIResourceList", "groupVersion": "v1", "resources": entries})

    server.faults.append(once_for(lambda r: r.path == "/api/v1", listed))
    assert (await client.resource(GVK("", "v1", "Pod"))).plural == "pods"


async def test_an_answer_without_end_is_cut_off(
    server: ScriptedApi, client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = AnswerLimits(line=1000, page=1000)
    monkeypatch.setattr(client.received, "limits", small)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 1000)
        return response

    server.faults.append(once_for(lambda r: r.path == "/version", endless))
    with pytest.raises(BadAnswer, match="the answer has more than 1000 bytes"):
        await client.version()
    server.faults.append(once_for(lambda r: "watch" in r.query, endless))
    with pytest.raises(BadAnswer, match="a line of the stream has more than 1000 bytes"):
        async with client.stream("/api/v1/configmaps", {"watch": True}) as stream:
            await anext(stream)
    assert (await client.version()).gitVersion


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Thu, 01 Jan 1970 00:10:00 GMT", 600.5),
        ("Thu, 01 Jan 1970 00:10:00 -0000", 600.5),  # no zone, which is not that of this node
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 +9999999999999999", None),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Fri, 31 Dec 1800 23:59:59 GMT", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_what_a_server_says_of_its_clock_fails_no_answer(
    date: str | None, ahead: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert seconds_ahead(date, 0.0) == ahead
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_failures_of_one_group_of_apis_do_not_open_the_breaker(server: ScriptedApi, client: ClusterClient) -> None:
    """An aggregated API may be down while the API server is well."""
    for path, opens in (("/apis/metrics.k8s.io/v1beta1/pods", False), ("/api/v1/configmaps", True)):
        for _ in range(5):
            server.faults.append(once_for(lambda r, path=path: r.path == path, answer(503, "ServiceUnavailable")))  # type: ignore[misc]
        for _ in range(5):
            with pytest.raises(ApiError):
                await client.request("GET", path)
        assert client.breaker is not None
        assert (client.breaker.state == "open") is opens
    with pytest.raises(Unreachable, match="breaker open"):
        await client.version()
