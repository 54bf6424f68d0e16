"""A port that a fleet file asks for and that is taken is reported before anything is started."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raycp.cli import main as cli
from raycp.cli import ports
from raycp.cli.errors import CliError
from raycp.cli.observer import fetch
from raycp.cli.ports import check_ports, refusal
from raycp.config import ConfigError, FleetDoc

FILE = Path("fleet.yaml")


def fleet(**spec: Any) -> FleetDoc:
    whole = {"clusters": [{"name": "hub", "embedded": {}}], "controllers": [{"use": "m"}], "observer": {"port": 0}, **spec}
    return FleetDoc.model_validate(
        {"apiVersion": "raycp.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "blue"}, "spec": whole}
    )


def taken(*numbers: int) -> ports.Refusal:
    return lambda host, port: "is taken" if port in numbers else ""


@contextlib.contextmanager
def answering(answer: bytes, drop: float = 0.0) -> Iterator[int]:
    """The port of a process that answers this to whoever connects; with ``drop``, a byte in each so many seconds, for ever."""
    over = threading.Event()

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)
                while drop and not over.wait(drop):
                    connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield int(server.getsockname()[1])
        over.set()


OK = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n"
STRANGE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "nothing": b"",
    "a half": OK + b"Content-Length: 100\r\n\r\n{}",
    "no chunks": OK.replace(b"1.0", b"1.1") + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a long header": OK + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
    "no object": OK + b"\r\n[1]",
    "a deep one": OK + b"\r\n" + b"[" * 100_000,
    "no text": OK + b"\r\n\xff",
    "another type": OK + b'\r\n{"fleet": {"a": 1}}',
}


@pytest.mark.parametrize("what", STRANGE)
def test_whoever_listens_at_the_observers_port_is_no_bug_of_raycps(what: str) -> None:
    with answering(STRANGE[what]) as port, pytest.raises(ConfigError, match=r"is taken on 127\.0\.0\.1; end the process"):
        check_ports(fleet(observer={"port": port}), FILE)


def test_an_observer_whose_answer_never_ends_does_not_answer() -> None:
    with answering(OK + b"\r\n{", drop=0.02) as port, pytest.raises(CliError, match=r"no whole answer within 0\.3 s"):
        fetch(f"http://127.0.0.1:{port}", "/", timeout=0.1)


def test_no_proxy_leads_to_an_observer_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with answering(OK + b'\r\n{"fleet": "blue"}') as port:
        assert fetch(f"http://127.0.0.1:{port}", "/") == {"fleet": "blue"}


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def problem(doc: FleetDoc, *numbers: int) -> str:
    with pytest.raises(ConfigError) as caught:
        check_ports(doc, FILE, taken(*numbers))
    return str(caught.value)


def test_each_port_that_is_taken_is_named_with_its_place_and_the_remedy() -> None:
    doc = fleet(observer={"port": 9001}, clusters=[{"name": "hub", "embedded": {"port": 9002}}], channels={"ports": "9100-9115"})
    check_ports(doc, FILE, taken(9000, 9100))
    assert problem(doc, 9001, 9002, *range(9100, 9116)).splitlines() == [
        "fleet.yaml: spec.observer.port: 9001 is taken on 127.0.0.1; end the process that listens there (`ss -ltnp`), or give "
        "another; 0 takes any",
        "fleet.yaml: spec.clusters[0].embedded.port: 9002 is taken on 127.0.0.1; end the process that listens there (`ss -ltnp`), "
        "or give another; 0 takes any",
        "fleet.yaml: spec.channels.ports: 9100-9115 has no free port; widen it, or choose another",
    ]


def test_a_port_of_ones_choice_is_never_taken() -> None:
    check_ports(fleet(), FILE, lambda host, port: "is taken")


def test_what_listens_here_is_found(listening: int) -> None:
    assert refusal("127.0.0.1", listening) == "is taken"
    assert refusal("localhost", listening) == "is taken"
    assert refusal("0.0.0.0", listening) == "is taken"
    assert refusal("192.0.2.77", listening) == "can't be listened on: Cannot assign requested address"
    assert refusal("nowhere.invalid", listening) == ""


def test_a_candidate_may_find_the_fleet_that_leads_at_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = [{"name": "hub", "kubeconfig": {"path": "/etc/hub"}}]
    names = {"/api/v1/status": {"fleet": "blue"}}
    monkeypatch.setattr(ports, "fetch", lambda url, path, timeout: names[path])
    check_ports(fleet(observer={"port": 9001}, clusters=clusters), FILE, taken(9001))
    alone = problem(fleet(observer={"port": 9001}), 9001)
    assert "9001 is taken" in alone, "a hub of its own is led by one fleet"
    assert "by the observer of fleet blue; it runs already: `raycp apply`" in alone
    names["/api/v1/status"]["fleet"] = "green"
    other = problem(fleet(observer={"port": 9001}, clusters=clusters), 9001)
    assert "9001 is taken on 127.0.0.1 by the observer of fleet green; give another" in other


def test_run_leaves_nothing_half_made(
    listening: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("raycp.runtime.local_ray.start_local", lambda cpus: pytest.fail("a Ray was started"))
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "apiVersion: raycp.io/v1alpha1\nkind: Fleet\nmetadata: {name: blue}\nspec:\n  ray: {address: local}\n"
        f"  observer: {{port: {listening}}}\n  clusters: [{{name: hub, embedded: {{}}}}]\n"
        "  controllers: [{use: raycp.controllers.batchjob}]\n"
    )
    assert cli.main(["run", "-c", str(path)]) == 2
    assert f"{path}: spec.observer.port: {listening} is taken on 127.0.0.1" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
