"""Who may read the observer, and who may write: tokens, client certificates, TLS, and files that change or are unfit."""

import asyncio
import base64
import os
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from inprocess import until
from pydantic import ValidationError
from test_web import SmallView

from raycp.base.clock import SystemClock, VirtualClock
from raycp.base.loops import Loops
from raycp.cli import main as cli
from raycp.cli.observer_access import CA, CERT, KEY, TOKEN_FILE, use_files_of
from raycp.config.observer import ObserverSpec
from raycp.embedded.tls import Authority
from raycp.observer.access import LOOK_EVERY, WRITE_HEADER, AccessError, Caller, ObserverAccess, Right
from raycp.observer.http_server import HttpServer
from raycp.observer.known_hosts import KnownHosts
from raycp.observer.web import make_app, serve

READ, WRITE = "reader-0123456789abcdef", "writer-0123456789abcdef"


class Files:
    """Tokens, and an authority with certificates of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority = Authority()
        self.read, self.write = self.file("read", READ), self.file("write", f"{WRITE}\n")

    def file(self, name: str, text: str | bytes) -> str:
        path = self.path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def remove(self, name: str) -> None:
        (self.path / name).unlink()

    def pair(self, name: str, made: tuple[str, str]) -> dict[str, str]:
        return {"cert": self.file(f"{name}.crt", made[0]), "key": self.file(f"{name}.key", made[1])}

    @property
    def tokens(self) -> dict[str, str]:
        return {"read": self.read, "write": self.write}

    @property
    def tls(self) -> dict[str, str]:
        return self.pair("server", self.authority.server("127.0.0.1"))

    @property
    def ca(self) -> str:
        return self.file("ca.crt", self.authority.pem)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def spec(**fields: Any) -> ObserverSpec:
    return ObserverSpec.model_validate({"port": 0, **fields})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"ann:{token}".encode()).decode()}


def shown(name: str) -> dict[str, Any]:
    """A client certificate as ``ssl`` shows it."""
    return {"subject": ((("commonName", name),),)}


def test_rights_by_token_and_certificate(files: Files) -> None:
    access = ObserverAccess(spec(tokens=files.tokens, tls=files.tls, clients={"ca": files.ca, "write": ["ops"]}), VirtualClock())
    rights = {
        Right.NOTHING: [{}, bearer("x"), bearer(""), basic("x"), {"Authorization": READ},
                        {"Authorization": "Basic %"}, {"Authorization": "Basic \udcc3"}, bearer("\udcc3")],
        Right.READ: [bearer(READ), basic(READ), basic(WRITE)],
        Right.WRITE: [bearer(WRITE)],
    }  # fmt: skip
    for right, headers in rights.items():
        assert [access.caller(each, None).right for each in headers] == [right] * len(headers)
    assert [access.caller({}, shown(name)).right for name in ("ann", "ops")] == [Right.READ, Right.WRITE]
    assert access.caller(bearer(WRITE), shown("ann")).right is Right.WRITE
    assert access.caller({}, {}).right is Right.NOTHING
    named = [access.caller(bearer(WRITE), None), access.caller({}, shown("ops")), access.caller(bearer(READ), shown("ops"))]
    assert named == [Caller(Right.WRITE, "write token"), *[Caller(Right.WRITE, "certificate ops")] * 2]


def test_without_any_of_them_all_may_read_and_nobody_may_write(files: Files) -> None:
    access = ObserverAccess(spec(), VirtualClock())
    assert [access.caller(each, None).right for each in ({}, bearer(WRITE))] == [Right.READ] * 2
    assert access.tls is None


async def test_files_that_change_are_read_again_and_unfit_ones_change_nothing(files: Files) -> None:
    clock = VirtualClock()
    access = ObserverAccess(spec(tokens=files.tokens), clock)
    files.file("read", "another-0123456789")
    await clock.advance(LOOK_EVERY)
    rights = [access.caller(bearer(each), None).right for each in ("another-0123456789", READ)]
    assert rights == [Right.READ, Right.NOTHING]
    files.file("read", "short")
    await clock.advance(LOOK_EVERY)
    assert access.caller(bearer("another-0123456789"), None).right is Right.READ
    assert access.caller(bearer("short"), None).right is Right.NOTHING
    files.remove("read")
    await clock.advance(LOOK_EVERY)
    assert access.caller(bearer(WRITE), None).right is Right.WRITE


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tokens": {}}, "names no file"),
        ({"tokens": {"read": "/nowhere/token"}}, "/nowhere/token can't be read"),
        ({"tokens": {"read": "SHORT"}}, "fewer than 16 characters"),
        ({"tls": {"cert": "SHORT", "key": "SHORT"}}, "can't be used as certificate and key"),
        ({"clients": {"ca": "SHORT"}}, "needs spec.observer.tls"),
        ({"tokens": {"read": "FIFO"}}, "it is not a regular file"),
        ({"tls": {"cert": "FIFO", "key": "SHORT"}}, "it is not a regular file"),
        ({"tls": "TLS", "clients": {"ca": "FIFO"}}, "it is not a regular file"),
        ({"tls": "TLS", "clients": {"ca": "SHORT"}}, "can't be used as certificate authority"),
    ],
)
def test_what_is_unfit_lets_nobody_in(fields: dict[str, Any], told: str, files: Files) -> None:
    short = files.file("short", "short")
    os.mkfifo(files.path / "fifo")
    known = {"SHORT": short, "TLS": files.tls, "FIFO": str(files.path / "fifo")}

    def filled(value: Any) -> Any:
        return {name: filled(each) for name, each in value.items()} if isinstance(value, dict) else known.get(value, value)

    with pytest.raises(AccessError, match=told):
        ObserverAccess(spec(**filled(fields)), VirtualClock())


def test_a_path_must_be_one_of_the_node() -> None:
    with pytest.raises(ValidationError, match="is not an absolute path"):
        spec(tokens={"read": "token"})


async def test_strangers_learn_the_health_and_nothing_else(files: Files) -> None:
    server = await serve(SmallView(), spec(tokens=files.tokens))
    async with aiohttp.ClientSession(server.url) as session:
        for path in ("/", "/metrics", "/api/v1/status", "/api/v1/errors", "/nothing"):
            async with session.get(path) as answer:
                assert answer.status == 401
                assert "Basic" in answer.headers["WWW-Authenticate"]
        for path, status, text in (("/healthz", 200, "ok"), ("/livez?verbose", 200, "ok"), ("/readyz?verbose", 503, "failed")):
            async with session.get(path) as answer:
                assert (answer.status, await answer.text()) == (status, text), "and no reasons"
        for headers in (bearer(READ), basic(READ)):
            async with session.get("/api/v1/status", headers=headers) as answer:
                assert (answer.status, (await answer.json())["fleet"]) == (200, "demo")
        async with session.get("/readyz?verbose", headers=bearer(READ)) as answer:
            assert "informers-east" in await answer.text()
    await server.stop()


async def test_writes_need_their_own_right_and_no_page_of_others_has_it(files: Files) -> None:
    async def written(request: web.Request) -> web.Response:
        return web.Response(text="done")

    app = make_app(SmallView(), KnownHosts(), ObserverAccess(spec(tokens=files.tokens), VirtualClock()))
    app.router.add_post("/api/v1/write", written)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(url) as session:
        expected = [({}, 401), (bearer("x"), 401), (bearer(READ), 403), (basic(WRITE), 403), (bearer(WRITE), 200),
                    ({**bearer(WRITE), "Origin": url}, 200), ({**bearer(WRITE), "Origin": "https://evil.example"}, 403),
                    ({**bearer(WRITE), "Origin": "null"}, 403), ({**bearer(WRITE), "Origin": "http://[evil"}, 403),
                    ({**bearer(WRITE), "Sec-Fetch-Site": "same-origin"}, 200),
                    *(({**bearer(WRITE), "Sec-Fetch-Site": site}, 403) for site in ("cross-site", "none"))]  # fmt: skip
        for headers, status in expected:
            async with session.post("/api/v1/write", headers={**headers, WRITE_HEADER: "x"}) as answer:
                assert (headers, answer.status) == (headers, status)
                assert (status == 401) == ("WWW-Authenticate" in answer.headers)
        async with session.post("/api/v1/write", headers=bearer(WRITE)) as answer:
            assert (answer.status, WRITE_HEADER in (await answer.json())["error"]) == (403, True), "no page of others can send it"
    await runner.cleanup()


async def test_https_with_client_certificates(files: Files) -> None:
    server = await serve(SmallView(), spec(tls=files.tls, clients={"ca": files.ca}))
    assert server.url.startswith("https://")
    ours = files.pair("ann", files.authority.client("ann"))
    stranger = files.pair("eve", Authority().client("eve"))

    def context(pair: dict[str, str] | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=files.ca)
        if pair is not None:
            made.load_cert_chain(pair["cert"], pair["key"])
        return made

    async with aiohttp.ClientSession(server.url) as session:
        async with session.get("/api/v1/status", ssl=context(ours)) as answer:
            assert answer.status == 200
        async with session.get("/api/v1/status", ssl=context(None)) as answer:
            assert answer.status == 401
        with pytest.raises(aiohttp.ClientError):
            await session.get("/api/v1/status", ssl=context(stranger))
        with pytest.raises(aiohttp.ClientError):
            await session.get("/api/v1/status")
    await server.stop()


async def test_a_new_authority_and_a_new_certificate_are_met_by_the_next_connection(files: Files) -> None:
    """Nobody who trusts the new ones alone can come to a request under the old ones."""
    clock = VirtualClock()
    server = await serve(SmallView(), spec(tls=files.tls, clients={"ca": files.ca}), clock)
    before, after = files.authority, Authority()

    async def status_of(name: str, clients: Authority, servers: Authority) -> int:
        made = ssl.create_default_context(cadata=servers.pem)
        pair = files.pair(name, clients.client(name))
        made.load_cert_chain(pair["cert"], pair["key"])
        async with aiohttp.ClientSession(server.url) as session, session.get("/api/v1/status", ssl=made) as answer:
            return answer.status

    assert await status_of("ann", before, before) == 200
    files.authority = after
    _ = files.tls, files.ca  # written anew
    assert await status_of("ann", before, before) == 200, "files are looked at now and then"
    await clock.advance(LOOK_EVERY)
    assert await status_of("bob", after, after) == 200
    for clients, servers in ((before, after), (after, before)):
        with pytest.raises(aiohttp.ClientError):
            await status_of("ann", clients, servers)
    files.file("ca.crt", "no certificate")
    await clock.advance(LOOK_EVERY)
    assert await status_of("bob", after, after) == 200, "what is unfit changes nothing"
    await server.stop()


async def test_commands_show_the_token_and_know_the_authority(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (TOKEN_FILE, CA, CERT, KEY):
        monkeypatch.delenv(name, raising=False)
    made = spec(tls=files.tls, tokens=files.tokens)
    server = await serve(SmallView(), made)

    async def errors() -> tuple[int, str, str]:
        code = await asyncio.to_thread(cli.main, ["errors", "--url", server.url, "-o", "json"])
        out = capsys.readouterr()
        return code, out.out, out.err

    code, _, told = await errors()
    assert (code, f"authority of its certificate in {CA}" in told) == (1, True)
    monkeypatch.setenv(CA, files.ca)
    code, _, told = await errors()
    assert (code, f"its token in {TOKEN_FILE}" in told) == (1, True)
    monkeypatch.setenv(TOKEN_FILE, str(files.path / "nowhere"))
    code, _, told = await errors()
    assert (code, "nowhere can't be read" in told) == (2, True)
    os.mkfifo(files.path / "fifo")
    monkeypatch.setenv(TOKEN_FILE, str(files.path / "fifo"))
    code, _, told = await errors()
    assert (code, "it is not a regular file" in told) == (2, True)
    monkeypatch.delenv(TOKEN_FILE)
    monkeypatch.setenv(CERT, str(files.path / "fifo"))
    code, _, told = await errors()
    assert (code, "it is not a regular file" in told) == (2, True)
    monkeypatch.delenv(CERT)
    monkeypatch.setenv(TOKEN_FILE, "")
    monkeypatch.delenv(TOKEN_FILE)
    use_files_of(made)
    code, shown, _ = await errors()
    assert (code, "east/v1/ConfigMap/default/a" in shown) == (0, True)
    await server.stop()
    code, _, told = await errors()
    assert (code, "listens on its own node only" in told) == (1, True)


async def test_a_server_that_can_not_be_guarded_listens_as_soon_as_it_can(files: Files) -> None:
    loops = Loops(SystemClock())
    path = str(files.path / "late")
    server = HttpServer(SmallView(), SystemClock(), loops, lambda: False, lambda: None)
    server.open(spec(tokens={"read": path}))
    await until(lambda: f"{path} can't be read" in server.problem)
    assert not server.url
    files.file("late", READ)
    await until(lambda: server.url)
    assert not server.problem
    await server.stop()
    await loops.stop()
