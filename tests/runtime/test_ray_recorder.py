"""The flight recorders of a fleet on a real Ray, as one reads them after a death: ``raycp debug recorder``."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rayhouse import Cluster, House, clusters_of, house, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

MAPS = "/api/v1/namespaces/default/configmaps"
PASSWORD = "hunter22abc"


@pytest.fixture(scope="module")
def ray_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def fleet(ray_house: House) -> Path:
    one = {"standard": {"workers": {"min": 1, "max": 1}}}
    times = {"drain": "5s", "ready": "100s"}
    path = ray_house.file("rec", ["hub"], ["fleet_samples:wild"], shards={"standby": 1}, tiers=one, timeouts=times)
    ray_house.raycp("run", "-c", str(path), "--address", ray_house.address)
    return path


def recorded(ray_house: House, *arguments: str) -> dict[str, Any]:
    output = ray_house.raycp("debug", "recorder", "--fleet", "rec", "--address", ray_house.address, "-o", "json", *arguments)
    found: dict[str, Any] = json.loads(output[output.index("{") :])
    return found


def logged(ray_house: House, *arguments: str) -> list[dict[str, Any]]:
    output = ray_house.raycp("logs", "--fleet", "rec", "--address", ray_house.address, "--since", "10m", "-o", "json", *arguments)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def ready(ray_house: House) -> dict[str, Any]:
    def found() -> Any:
        status = ray_house.status("rec")
        return status["ready"] and any(row["state"] == "standby" for row in status["standbys"]) and status

    status: dict[str, Any] = until(found, 60, "ready, with a warm standby")
    return status


async def load(hub: Cluster, stop: asyncio.Event) -> list[str]:
    """Users create objects, each as soon as the last one is there, until ``stop``; every tenth fails with a password."""
    names: list[str] = []
    while not stop.is_set():
        names.append(f"w{len(names)}")
        data = {"do": "leak", "password": PASSWORD, "token": PASSWORD} if len(names) % 10 == 0 else {}
        meta = {"name": names[-1], "namespace": "default", "labels": {"app": "wild"}}
        await hub.request("POST", MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    return names


def test_after_sigkill_of_a_shard_under_load_its_last_second_is_there(ray_house: House, fleet: Path) -> None:
    status = ready(ray_house)
    (shard,) = status["shards"]
    hub = clusters_of(status)["hub"]

    async def kill() -> tuple[float, list[str]]:
        stop = asyncio.Event()
        loading = asyncio.ensure_future(load(hub, stop))
        await asyncio.sleep(3.0)
        died = time.time()
        os.kill(shard["pid"], signal.SIGKILL)
        await asyncio.sleep(1.0)
        stop.set()
        return died, await loading

    died, names = asyncio.run(kill())
    assert len(names) > 20, "a load"
    found = recorded(ray_house, "--since", "5m")
    dead = [row for row in found["recordings"] if row["pid"] == shard["pid"]]
    assert [(row["living"], row["problem"]) for row in dead] == [(False, "")]
    assert dead[0]["host"]
    assert dead[0]["node"]
    mine = [row for row in found["records"] if row["pid"] == shard["pid"]]
    last_second = [row for row in mine if died - 1.0 <= row["at"] <= died + 0.5]
    assert last_second, f"the last of {len(mine)} records is {died - mine[-1]['at']:.2f} s older than the death"
    assert {"received", "handed_out", "succeeded"} <= {row["what"] for row in last_second}
    assert {row["cluster"] for row in last_second if row.get("name", "").startswith("w")} == {"hub"}

    # its successor's promotion, the leader's and the worker's side follow in the same list
    after = [row for row in found["records"] if row["at"] > died]
    assert [row["at"] for row in found["records"]] == sorted(row["at"] for row in found["records"])
    by_what = {(row["actor"].split("::")[1], row["what"]) for row in after}
    assert {("standby", "promoted"), ("leader", "switch"), ("leader", "removed"), ("worker", "superseded")} <= by_what
    living = {row["actor"].split("::")[1] for row in found["recordings"] if row["living"]}
    assert living >= {"leader", "standby", "worker", "observer"}

    # the same of one object, as text
    last = [row["name"] for row in mine if row["what"] == "succeeded"][-1]
    text = ray_house.raycp(
        "debug", "recorder", "--fleet", "rec", "--address", ray_house.address, "--object", f"hub/ConfigMap/default/{last}"
    )
    assert f"({shard['pid']})" in text
    assert f"wild:hub/default/{last}" in text
    assert "handed_out" in text
    assert "1 of them dead" in text

    # an unknown kind is an error that names the known ones
    told = ray_house.raycp(
        "debug", "recorder", "--fleet", "rec", "--address", ray_house.address, "--object", "hub/Pod/default/x", expect=1
    )
    assert "v1/ConfigMap" in told


def test_the_switch_has_the_tail_of_the_dead_shard(ray_house: House, fleet: Path) -> None:
    def tail() -> Any:
        output = ray_house.raycp("leader", "history", "--fleet", "rec", "--address", ray_house.address, "-o", "json")
        rows = json.loads(output[output.index("[") :])
        return next((row["tail"] for row in rows if row["what"] == "shard 0" and row["cause"] == "death"), None)

    lines = until(tail, 30, "the tail is fetched")
    assert any("wild:hub/default/w" in line for line in lines)


def test_no_secret_is_in_any_recording_and_they_are_their_owners_alone(ray_house: House, fleet: Path) -> None:
    text = json.dumps(recorded(ray_house))
    assert "RuntimeError: the Secret of {..." in text, "failures are recorded"
    assert PASSWORD not in text
    rows = logged(ray_house)
    assert PASSWORD not in json.dumps(rows)
    failed = [row for row in rows if row.get("controller") == "wild" and row["level"] == "error"]
    assert failed, "the log has them, with key, process, node and traceback"
    assert {"cluster", "namespace", "name", "change", "process", "pid", "node", "traceback"} <= set(failed[0])
    assert failed[0]["process"].startswith("worker standard/0 g")
    directory = ray_house.home / "rec" / "recorder"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_down_leaves_recordings_that_are_read_when_the_fleet_is_up_again(ray_house: House, fleet: Path) -> None:
    before = {row["pid"] for row in recorded(ray_house)["recordings"]}
    ray_house.raycp("down", "--fleet", "rec", "--address", ray_house.address)
    told = ray_house.raycp("debug", "recorder", "--fleet", "rec", "--address", ray_house.address, expect=1)
    assert "no process" in told or "nothing was recorded" in told
    assert any(row.get("controller") == "wild" for row in logged(ray_house)), "the logs of a fleet that is down"
    ray_house.raycp("run", "-c", str(fleet), "--address", ray_house.address)
    after = {row["pid"]: row["living"] for row in recorded(ray_house)["recordings"]}
    assert before <= set(after)
    assert not any(after[pid] for pid in before)
    ray_house.raycp("down", "--fleet", "rec", "--address", ray_house.address)
