"""A Ray that raycp starts is joined by those only who can read its token: a file of its user's."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rayhouse import House, end_tree, output_until

from raycp.runtime import ray_token

JOINS = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(ray.nodes()[0]["Alive"], flush=True)
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


def test_a_token_is_its_users_alone_and_found_by_address(tmp_path: Path) -> None:
    file = ray_token.new_token()
    assert len(file.read_text()) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == stat.S_IMODE(file.parent.parent.stat().st_mode) == 0o700
    assert ray_token.token_of("127.0.0.1:6379") is None
    ray_token.record("127.0.0.1:6379", file)
    assert ray_token.token_of("127.0.0.1:6379") == file.resolve()
    assert ray_token.token_of("127.0.0.1:6380") is None
    ray_token.forget(file)
    assert ray_token.token_of("127.0.0.1:6379") is None
    assert list((tmp_path / "ray").iterdir()) == []


def test_the_next_ray_of_a_process_has_another_token() -> None:
    first = ray_token.new_token().read_text()
    assert ray_token.new_token().read_text() != first


def test_what_a_killed_process_left_is_not_used_and_is_swept(tmp_path: Path) -> None:
    """Another Ray may listen there by now, perhaps of another user."""
    code = "from raycp.runtime import ray_token as t; t.record('127.0.0.1:6379', t.new_token()); import os; os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -9
    assert (tmp_path / "ray" / "127.0.0.1:6379" / "token").exists()
    assert ray_token.token_of("127.0.0.1:6379") is None
    recorder = tmp_path / "ray" / "recorder"  # of a fleet that is called ray
    recorder.mkdir()
    mine = ray_token.new_token()
    assert sorted((tmp_path / "ray").iterdir()) == sorted([mine.parent, recorder])


def test_two_that_start_at_once_do_not_hinder_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sweep what killed ones have left: what one of them has seen, the other has removed."""
    ray_token.new_token()
    (tmp_path / "ray" / "127.0.0.1:6379").symlink_to("1-1")

    def swept_by_the_other(link: Path) -> str:
        Path(link).unlink()
        raise FileNotFoundError(link)

    monkeypatch.setattr(os, "readlink", swept_by_the_other)
    assert len(ray_token.new_token().read_text()) == 64


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the user's own")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    file = ray_token.new_token()
    before = ray_token.adopt(file)
    assert "RAY_AUTH_TOKEN" not in os.environ, "it is stronger than a path"
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(file)
    ray_token.put_back(before)
    assert os.environ["RAY_AUTH_TOKEN"] == "the user's own"
    assert "RAY_AUTH_MODE" not in os.environ
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def started(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def joins(address: str) -> list[str]:
    return [sys.executable, "-c", JOINS, address]


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_who_has_not_the_token_of_a_foreground_fleets_ray_joins_it_neither_as_driver_nor_as_node(tmp_path: Path) -> None:
    house = House(tmp_path)  # its files and environment; its Ray is not started
    del house.environment["RAY_AUTH_MODE"]
    path = house.file("alone", ["here"], ["fleet_samples:parent"])
    process = house.popen("run", "-c", str(path), "--address", "local")
    try:
        told = output_until(process, "Ctrl-C")
        assert "asks for no token" not in told
        found = re.search(r"export RAY_ADDRESS=(\S+) RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=(\S+)", told)
        assert found, told
        address, token = found[1], Path(found[2])
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert token.is_relative_to(tmp_path)

        stranger = {**house.environment, "RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path / "stranger")}
        guessing = {**stranger, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
        node = [str(Path(sys.executable).parent / "ray"), "start", f"--address={address}", f"--temp-dir={house.temp}"]
        tries = [started(joins(address), stranger), started(joins(address), guessing), started(node, stranger)]
        owner = started(joins(address), {**house.environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)})
        said, why = owner.communicate(timeout=100)
        assert said == "True\n", why[-2000:]
        for each in tries:
            said, why = each.communicate(timeout=100)
            assert each.returncode != 0, said
            assert "True" not in said
        assert "alone" in house.raycp("status", "--address", address)
        secret = token.read_text()
        for each in psutil.Process(process.pid).children(recursive=True):
            assert secret not in " ".join(each.cmdline()), "every user may read command lines"
        process.terminate()
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0, rest
        assert not token.exists()
    finally:
        end_tree(process.pid)
        house.stop()
