"""Which proxy leads to a server, by the environment: the rules of Go's ``httpproxy``, which kubectl follows."""

import asyncio
import ssl

import pytest

from raycp.kube.errors import Unreachable
from raycp.kube.pool import Pool
from raycp.kube.proxies import environment_proxy, parse_proxy
from raycp.kube.target import Target

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "proxied"),
    [
        ("api.example.com", 443, "", True),
        ("api.example.com", 443, "*", False),
        ("api.example.com", 443, "a, *", False),
        ("api.example.com", 443, "example.com", False),
        ("API.Example.COM", 443, "example.com", False),
        ("api.example.com", 443, "EXAMPLE.com", False),
        ("api.example.com", 443, ".example.com", False),
        ("example.com", 443, ".example.com", True),
        ("example.com", 443, "*.example.com", True),
        ("api.example.com", 443, "*.example.com", False),
        ("example.com", 443, "example.com", False),
        ("myexample.com", 443, "example.com", True),
        ("api.example.com", 6443, "example.com:6443", False),
        ("api.example.com", 6443, "example.com:443", True),
        ("api.example.com", 443, ":443", True),
        ("api.example.com", 443, " , ,", True),
        ("10.1.2.3", 443, "10.0.0.0/8", False),
        ("10.1.2.3", 443, "10.1.2.0/33", True),
        ("10.1.2.3", 443, "10.1.2.3", False),
        ("10.1.2.3", 443, "10.1.2.3:443", False),
        ("10.1.2.3", 443, "10.1.2.3:80", True),
        ("10.1.2.3", 443, "2.3", True),  # golang.org/x/net 0.36: no name matches an address
        ("10.1.2.3", 443, ".2.3", True),
        ("10.1.2.3", 443, "10.0.0.0/255.0.0.0", True),
        ("10.1.2.3", 443, "::ffff:10.1.2.3", False),
        ("::ffff:10.1.2.3", 443, "10.0.0.0/8", False),
        ("::ffff:127.0.0.1", 443, "", False),
        ("fd00::1", 443, "fd00::/8", False),
        ("fd00::1", 443, "fd00::1", False),
        ("fd00::1", 443, "[fd00::1]:443", False),
        ("fd00::1", 443, "[fd00::1]:80", True),
        ("localhost", 443, "", False),
        ("127.0.0.1", 443, "", False),
        ("127.1.1.1", 443, "", False),
        ("::1", 443, "", False),
        ("localhost.example.com", 443, "", True),
    ],
)
def test_no_proxy(host: str, port: int, no_proxy: str, proxied: bool) -> None:
    found = environment_proxy("https", host, port, {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert found == (PROXY if proxied else None)


@pytest.mark.parametrize(
    ("environ", "https", "http"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": ""}, None, None),
        ({"https_proxy": PROXY}, PROXY, None),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://other"}, PROXY, None),
        ({"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY, None),
        ({"HTTP_PROXY": PROXY}, None, PROXY),
        ({"HTTPS_PROXY": "proxy:3128"}, PROXY, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "a"}, None, None),
    ],
)
def test_which_variable_counts(environ: dict[str, str], https: str | None, http: str | None) -> None:
    assert environment_proxy("https", "a", 443, environ) == https
    assert environment_proxy("http", "a", 80, environ) == http


@pytest.mark.parametrize("text", ["socks4://me:hide-me@p", "ftp://p", "http://", "http://p:x", "http://p:99999", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"the proxy .* is not a URL") as caught:
        parse_proxy(text)
    assert "hide-me" not in str(caught.value)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak SOCKS5"),
        ([b"\x05\xff"], "the proxy wants a login"),
        ([b"\x05\x00", b"\x05\x05\x00\x01"], "the connection was refused"),
        ([b"\x05\x00", b"\x05\x63\x00\x01"], "code 99"),
        ([b"\x05\x00", b"\x05\x00\x00\x09"], "the proxy's answer is no SOCKS5"),
        ([b"\x05\x00", b"\x05\x00"], "the proxy closed the connection"),
        ([b""], "the proxy closed the connection"),
    ],
)
async def test_what_a_socks_proxy_answers_is_bounded_and_said(answers: list[bytes], problem: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(100)
            writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = Pool(Target("api.example", 443, proxy=f"socks5://127.0.0.1:{port}"))
    with pytest.raises(Unreachable, match=problem) as caught:
        await pool.acquire(20.0)
    assert f"through the proxy 127.0.0.1:{port}" in str(caught.value)
    await pool.close()
    server.close()


async def test_a_proxy_that_never_answers_costs_the_deadline() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for scheme in ("http", "socks5"):
        pool = Pool(Target("api.example", 443, proxy=f"{scheme}://127.0.0.1:{port}", tls=ssl.create_default_context()))
        with pytest.raises(Unreachable, match="within"):
            await pool.acquire(0.3, fresh=True)
        await pool.close()
    ended.set()
    server.close()
