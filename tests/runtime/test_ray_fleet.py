"""The fleet on a real Ray: one head for the whole file, commands as a user types them, processes ended with SIGKILL."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fleet_samples
import msgspec
import psutil
import pytest
import yaml
from rayhouse import Cluster, House, clusters_of, end_tree, house, output_until, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

JOBS = "/apis/batch.raycp.io/v1alpha1/namespaces/default/batchjobs"
BATCHJOB = "raycp.controllers.batchjob"
SAMPLES = ["fleet_samples:parent", "fleet_samples:wild"]
CLUSTERS = ["hub", "east", "west"]
SHARDS = {"clustersPerShard": 2, "standby": 0}
ONE = {"standard": {"workers": {"min": 1, "max": 1}}}


@pytest.fixture(scope="module")
def ray_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def fleet(ray_house: House) -> Path:
    """The fleet file of a fleet that runs: two shards, the hub in the first."""
    path = ray_house.file("it", CLUSTERS, [BATCHJOB, *SAMPLES], shards=SHARDS, tiers=ONE)
    begun = time.monotonic()
    ray_house.up(path)
    took = time.monotonic() - begun
    assert took < 60, f"ready after {took:.1f} s"
    return path


def job(name: str, size: int = 2) -> dict[str, Any]:
    return {
        "apiVersion": "batch.raycp.io/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "completions": size,
            "parallelism": size,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "work", "image": "busybox"}]}},
        },
    }


async def complete(hub: Cluster) -> set[str]:
    listed = await hub.request("GET", JOBS)
    return {
        each["metadata"]["name"]
        for each in listed["items"]
        if any(c["type"] == "Complete" and c["status"] == "True" for c in (each.get("status") or {}).get("conditions") or ())
    }


async def reckon(clusters: dict[str, Cluster], jobs: dict[str, int]) -> None:
    """Every index of every job has had exactly one Pod in the whole fleet."""
    made: Counter[str] = Counter()
    for name, cluster in clusters.items():
        created = Counter(await cluster.created("pods"))
        assert max(created.values(), default=1) == 1, f"made twice in {name}: {[n for n, c in created.items() if c > 1]}"
        made.update(created)
    wanted = {f"default/{name}-{index}-0" for name, size in jobs.items() for index in range(size)}
    mine = {name: number for name, number in made.items() if any(name.startswith(f"default/{each}-") for each in jobs)}
    assert set(mine) == wanted
    assert max(mine.values()) == 1, "made in two clusters"


def applied(status: dict[str, Any]) -> tuple[str, int]:
    """What was applied last, and how many times something was. The plan's own number goes on with every member that comes."""
    return status["generation"], status["sequence"]


def test_status(ray_house: House, fleet: Path) -> None:
    status = ray_house.status("it")
    assert status["ready"]
    assert status["leader"]["epoch"] == 1
    assert [(c["name"], c["role"], c["reachable"], c["synced"]) for c in status["clusters"]] == [
        ("hub", "hub", True, True), ("east", "member", True, True), ("west", "member", True, True),
    ]  # fmt: skip
    assert [(s["shard"], s["term"], s["clusters"]) for s in status["shards"]] == [("0", 1, ["hub", "west"]), ("1", 1, ["east"])]
    for process in (*status["shards"], *status["workers"], status["observer"]):
        assert process["state"] == "running"
        assert psutil.pid_exists(process["pid"])
    assert "fleet it (ready)" in ray_house.raycp("status", "--fleet", "it", "--address", ray_house.address)


def test_run_again_is_a_no_op(ray_house: House, fleet: Path) -> None:
    before = ray_house.status("it")
    ray_house.raycp("run", "-c", str(fleet), "--address", ray_house.address)
    after = ray_house.status("it")
    assert applied(after) == applied(before)
    assert [s["pid"] for s in after["shards"]] == [s["pid"] for s in before["shards"]]


def test_a_job_by_kubectl(ray_house: House, fleet: Path, tmp_path: Path) -> None:
    clusters = clusters_of(ray_house.status("it"))
    file = tmp_path / "job.json"
    file.write_bytes(msgspec.json.encode(job("typed", 3)))
    kubectl = ["kubectl", "--kubeconfig", clusters["hub"].kubeconfig, "--cache-dir", str(tmp_path)]
    subprocess.run([*kubectl, "apply", "-f", str(file)], check=True, timeout=30, capture_output=True)
    waiting = [*kubectl, "wait", "--for=condition=Complete", "batchjob/typed", "--timeout=30s"]
    subprocess.run(waiting, check=True, timeout=40, capture_output=True)
    asyncio.run(reckon(clusters, {"typed": 3}))
    wrong = job("wrong")
    wrong["spec"]["parallelism"] = "many"
    file.write_bytes(msgspec.json.encode(wrong))
    refused = subprocess.run([*kubectl, "apply", "-f", str(file)], check=False, timeout=30, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "spec.parallelism" in refused.stderr


@pytest.mark.parametrize("who", ["leader", "shard 0", "shard 1", "worker"])
def test_a_killed_process_costs_no_job_and_makes_no_pod_twice(ray_house: House, fleet: Path, who: str) -> None:
    status = until(lambda: (found := ray_house.status("it"))["ready"] and not found["unsettled"] and found, 40, "ready before")
    clusters = clusters_of(status)
    tag = who.replace(" ", "")
    jobs = {f"{tag}-{number}": 2 for number in range(20)}

    async def work() -> None:
        hub = clusters["hub"]

        async def submit(name: str, size: int) -> None:
            await hub.request("POST", JOBS, job(name, size))

        await asyncio.gather(*(submit(*each) for each in list(jobs.items())[:12]))
        killed = victim(status, who)
        os.kill(killed, signal.SIGKILL)
        await asyncio.gather(*(submit(*each) for each in list(jobs.items())[12:]))
        deadline = time.monotonic() + 40
        while late := set(jobs) - await complete(hub):
            if time.monotonic() > deadline:
                raise AssertionError(f"late: {sorted(late)}\n{await how_it_stands(ray_house, hub, min(late))}")
            await asyncio.sleep(0.3)
        await reckon(clusters, jobs)

    asyncio.run(work())
    after = until(lambda: (found := ray_house.status("it"))["ready"] and not found["unsettled"] and found, 40, "ready again")
    assert after["leader"]["epoch"] == status["leader"]["epoch"], "the fleet lives on: no new epoch"
    terms = {row["shard"]: row["term"] for row in after["shards"]}
    before = {row["shard"]: row["term"] for row in status["shards"]}
    dead = who.split()[1] if who.startswith("shard") else ""
    assert terms == {shard: term + (shard == dead) for shard, term in before.items()}
    assert after["leader"]["incarnation"] == status["leader"]["incarnation"] + (who == "leader")


async def how_it_stands(ray_house: House, hub: Cluster, name: str) -> str:
    """For the reader of a failure."""
    status = ray_house.status("it")
    shown = {key: status.get(key) for key in ("reasons", "problems", "shards", "workers", "lanes")}
    why = await asyncio.to_thread(ray_house.output_of, "why", f"hub/batchjob/default/{name}", "--fleet", "it")
    return f"{shown}\n{(await hub.request('GET', f'{JOBS}/{name}')).get('status')}\n{why}"


def victim(status: dict[str, Any], who: str) -> int:
    if who == "worker":
        return int(next(row["pid"] for row in status["workers"] if row["ready"]))
    if who.startswith("shard"):
        return int(next(row["pid"] for row in status["shards"] if row["shard"] == who.split()[1]))
    pid = int(status["leader"]["holder"].split("/")[1])
    assert "RaycpLeader" in " ".join(psutil.Process(pid).cmdline())
    return pid


def config_map(name: str, app: str, **data: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "labels": {"app": app}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def test_a_reconciler_that_blocks_its_loop_costs_its_worker_only(ray_house: House, fleet: Path) -> None:
    """``time.sleep(10)`` in an ``async def``: the worker is ended and replaced, the culprit waits, others go on."""
    status = until(lambda: (found := ray_house.status("it"))["ready"] and not found["unsettled"] and found, 40, "ready before")
    clusters = clusters_of(status)
    generations = {row["worker"]: row["generation"] for row in status["workers"]}

    async def work() -> None:
        east = clusters["east"]
        await east.request("POST", "/api/v1/namespaces/default/configmaps", config_map("blocker", "wild", do="block"))
        await asyncio.sleep(0.2)
        for number in range(5):
            await east.request("POST", "/api/v1/namespaces/default/configmaps", config_map(f"good-{number}", "parent"))
        async with asyncio.timeout(40):
            while True:
                made = await east.created("secrets")
                if {f"default/good-{number}-child" for number in range(5)} <= set(made):
                    break
                await asyncio.sleep(0.2)
        await east.request("DELETE", "/api/v1/namespaces/default/configmaps/blocker")

    asyncio.run(work())

    def replaced() -> bool:
        after = ray_house.status("it")
        return not after["unsettled"] and any(row["generation"] > generations.get(row["worker"], 99) for row in after["workers"])

    until(replaced, 60, "the worker is replaced")


def test_a_fleet_whose_leader_and_members_die_together_is_brought_back(ray_house: House, fleet: Path) -> None:
    """All but the embedded clusters, which stand for the clusters of others: no process is left that knows the plan."""
    status = until(lambda: (found := ray_house.status("it"))["ready"] and not found["unsettled"] and found, 60, "ready before")
    clusters = clusters_of(status)
    kept = list(ray_house.home.rglob("plan.json"))
    assert len(kept) == 1
    assert kept[0].stat().st_mode & 0o077 == 0
    rows = [*status["shards"], *status["standbys"], *status["workers"], status["observer"]]
    for pid in (victim(status, "leader"), *(row["pid"] for row in rows if row["pid"])):
        os.kill(int(pid), signal.SIGKILL)

    def back() -> dict[str, Any] | None:
        with contextlib.suppress(AssertionError, ValueError, KeyError):
            found = ray_house.status("it")
            if found["ready"] and not found["unsettled"] and found["leader"]["epoch"] > status["leader"]["epoch"]:
                return found
        return None

    after = until(back, 120, "the fleet is back")
    assert after["generation"] == status["generation"]

    asyncio.run(clusters["hub"].request("POST", JOBS, job("revived", 2)))
    until(lambda: "revived" in asyncio.run(complete(clusters["hub"])), 60, "a job after the return")
    asyncio.run(reckon(clusters, {"revived": 2}))


def test_apply_in_place(ray_house: House, fleet: Path) -> None:
    two = {"standard": {"workers": {"min": 2, "max": 2}}}
    more = [BATCHJOB, *SAMPLES, "fleet_samples:everything"]
    changed = ray_house.file("it", [*CLUSTERS, "north"], more, shards=SHARDS, tiers=two)
    before = ray_house.status("it")
    told = ray_house.raycp("apply", "-c", str(changed), "--address", ray_house.address, "--dry-run")
    assert "north" in told
    assert "everything" in told
    assert "dry run" in told
    assert before["generation"] in told
    promised = told.split("would become ")[1].split()[0]
    unchanged = ray_house.status("it")
    assert applied(unchanged) == applied(before)
    ray_house.raycp("apply", "-c", str(changed), "--address", ray_house.address)
    after = ray_house.status("it")
    checked = ray_house.raycp("check", "-c", str(changed), "--offline")
    assert f"generation {after['generation']}:" in checked
    assert after["generation"] == promised
    assert {row["name"] for row in after["clusters"]} == {*CLUSTERS, "north"}
    assert {row["name"] for row in after["controllers"]} >= {"batchjob", "everything"}
    assert sum(row["worker"].startswith("standard/") for row in after["workers"]) == 2
    assert [row["pid"] for row in after["shards"]] == [row["pid"] for row in before["shards"]], "shards were told, not replaced"
    assert "nothing to change" in ray_house.raycp("apply", "-c", str(changed), "--address", ray_house.address)
    back = ray_house.file("it", CLUSTERS, [BATCHJOB, *SAMPLES], shards=SHARDS, tiers=ONE)
    ray_house.raycp("apply", "-c", str(back), "--address", ray_house.address)
    fewer = ray_house.status("it")
    assert {row["name"] for row in fewer["clusters"]} == set(CLUSTERS)
    clusters = clusters_of(fewer)
    asyncio.run(clusters["hub"].request("POST", JOBS, job("after-apply", 4)))
    until(lambda: "after-apply" in asyncio.run(complete(clusters["hub"])), 30, "a job after all that")


def test_an_embedded_member_that_apply_makes_anew_gets_pods_again(ray_house: House, fleet: Path) -> None:
    """Its process is another, at another port; the shard must not dial the old one for ever."""
    nodes = yaml.safe_load(fleet.read_text())
    (west,) = (row for row in nodes["spec"]["clusters"] if row["name"] == "west")
    west["embedded"]["nodes"] = 3
    changed = fleet.with_name("nodes.yaml")
    changed.write_text(yaml.safe_dump(nodes))
    before = clusters_of(ray_house.status("it"))
    ray_house.raycp("apply", "-c", str(changed), "--address", ray_house.address)

    def again() -> bool:
        row = next(row for row in ray_house.status("it")["clusters"] if row["name"] == "west")
        return bool(row["reachable"] and row["synced"])

    until(again, 30, "west is reachable at its new address")
    after = clusters_of(ray_house.status("it"))
    there = job("to-west", 2)
    there["spec"]["placement"] = {"clusters": ["west"]}
    asyncio.run(after["hub"].request("POST", JOBS, there))
    until(lambda: "to-west" in asyncio.run(complete(after["hub"])), 30, "its Pods run in the new west")
    assert Path(before["west"].kubeconfig) == Path(after["west"].kubeconfig)
    ray_house.raycp("apply", "-c", str(fleet), "--address", ray_house.address)


def test_a_file_that_can_not_be_applied_changes_nothing(ray_house: House, fleet: Path) -> None:
    before = ray_house.status("it")
    broken = ray_house.home / "broken.yaml"
    broken.write_text(fleet.read_text().replace("fleet_samples:parent", "fleet_samples:nobody"))
    told = ray_house.raycp("apply", "-c", str(broken), "--address", ray_house.address, expect=2)
    assert "nobody" in told
    assert applied(ray_house.status("it")) == applied(before)


def test_down_leaves_no_actor(ray_house: House, fleet: Path) -> None:
    status = ray_house.status("it")
    pids = [row["pid"] for row in (*status["shards"], *status["workers"], status["observer"]) if row["pid"]]
    told = ray_house.raycp("down", "--fleet", "it", "--address", ray_house.address)
    assert "is down" in told
    until(lambda: not any(alive(pid) for pid in pids), 15, "its processes end")
    assert "no fleet it was running" in ray_house.raycp("down", "--fleet", "it", "--address", ray_house.address)
    assert not [row for row in status["clusters"] if Path(row["kubeconfig"]).exists()], "kubeconfigs of what is gone"
    told = ray_house.raycp("status", "--fleet", "it", "--address", ray_house.address, expect=1)
    assert "raycp run" in told


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_a_driver_killed_half_way_leaves_what_the_next_run_completes(ray_house: House) -> None:
    path = ray_house.file("half", ["hub", "east"], [BATCHJOB])
    first = ray_house.popen("run", "-c", str(path), "--address", ray_house.address)
    try:
        output_until(first, "waiting for", "ready")  # "waiting for" is told once the leader has the plan
        first.send_signal(signal.SIGKILL)
    finally:
        first.communicate(timeout=20)
    ray_house.raycp("run", "-c", str(path), "--address", ray_house.address)
    status = ray_house.status("half")
    assert status["ready"]
    assert status["leader"]["epoch"] == 1
    clusters = clusters_of(status)
    asyncio.run(clusters["hub"].request("POST", JOBS, job("half", 2)))
    until(lambda: "half" in asyncio.run(complete(clusters["hub"])), 30, "it works")
    ray_house.raycp("down", "--fleet", "half", "--address", ray_house.address)


def warnings(cluster: Cluster) -> list[str]:
    """The reasons of its Warning Events."""
    found = asyncio.run(cluster.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events"))["items"]
    return [event["reason"] for event in found if event["type"] == "Warning"]


def test_what_fails_is_on_the_terminal_in_the_list_and_on_the_object(ray_house: House) -> None:
    path = ray_house.file("fails", ["here"], ["fleet_samples:wild"], shards=SHARDS, tiers=ONE)
    process = ray_house.popen("run", "-c", str(path), "--attach", "--address", ray_house.address)
    try:
        told = output_until(process, "Ctrl-C")
        assert "fleet fails is ready" in told, told
        here = clusters_of(ray_house.status("fails"))["here"]
        bad = config_map("bad", "wild") | {"data": {"do": "raise"}}
        asyncio.run(here.request("POST", "/api/v1/namespaces/default/configmaps", bad))
        line = output_until(process, "controller wild").splitlines()[-1]
        assert line.startswith("error: controller wild: ZeroDivisionError: on purpose (fleet_samples.py:"), line
        assert line.endswith("): here/v1/ConfigMap/default/bad"), line
        shown = ray_house.raycp("errors", "--fleet", "fails", "--address", ray_house.address, "-o", "json")
        (row,) = json.loads(shown[shown.index("{") :])["items"]
        assert (row["controller"], row["object"]) == ("wild", "here/v1/ConfigMap/default/bad")
        assert "ReconcileFailed" in until(lambda: warnings(here), 20, "a Warning on the object")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        ray_house.raycp("down", "--fleet", "fails", "--address", ray_house.address)
    finally:
        end_tree(process.pid)


def test_submit(ray_house: House) -> None:
    """From a folder with a space in its name, which holds file and module."""
    here = ray_house.home / "my controllers"
    here.mkdir()
    shutil.copy(Path(fleet_samples.__file__), here)
    path = ray_house.file("sub", ["hub", "east"], [BATCHJOB, "fleet_samples:parent"]).rename(here / "sub.yaml")
    dashboard = f"http://127.0.0.1:{ray_house.dashboard}"
    told = ray_house.raycp("submit", "-c", str(path), "--address", dashboard, cwd=here)
    assert "fleet sub is ready: epoch 1" in told, told
    assert "does not need the job any more" in told
    status = ray_house.status("sub")
    assert status["ready"]
    clusters = clusters_of(status)
    asyncio.run(clusters["east"].request("POST", "/api/v1/namespaces/default/configmaps", config_map("s", "parent")))
    asyncio.run(clusters["hub"].request("POST", JOBS, job("sub", 2)))
    until(lambda: "sub" in asyncio.run(complete(clusters["hub"])), 30, "jobs run")
    until(lambda: "default/s-child" in asyncio.run(clusters["east"].created("secrets")), 30, "the module was sent along")
    again = ray_house.raycp("submit", "-c", str(path), "--address", dashboard, cwd=here)
    assert "does not need the job any more" in again
    after = ray_house.status("sub")
    assert applied(after) == applied(status), "the same again changes nothing"
    ray_house.raycp("down", "--fleet", "sub", "--address", ray_house.address)


def test_submit_to_nobody(ray_house: House, fleet: Path) -> None:
    told = ray_house.raycp("submit", "-c", str(fleet), "--address", "http://127.0.0.1:9", expect=1)
    assert "no Ray job server answers at http://127.0.0.1:9" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_end_of_a_foreground_fleet_takes_it_down(ray_house: House, how: signal.Signals) -> None:
    """On a Ray of its own: nothing is left, neither the fleet nor Ray."""
    path = ray_house.file("fore", ["here"], ["fleet_samples:parent"])
    process = ray_house.popen("run", "-c", str(path), "--address", "local")
    try:
        told = output_until(process, "Ctrl-C")
        assert "fleet fore is ready" in told, told
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(how)
        rest, _ = process.communicate(timeout=40)
        assert process.returncode == 0, told + rest
        assert "fleet fore is down" in rest
        _, left = psutil.wait_procs(family, timeout=15)
        assert not left
    finally:
        end_tree(process.pid)


def test_a_foreground_fleet_whose_terminal_ends_before_it_is_ready_is_taken_down(ray_house: House) -> None:
    path = ray_house.file("early", ["here"], ["fleet_samples:parent"])
    process = ray_house.popen("run", "-c", str(path), "--address", "local")
    try:
        told = output_until(process, "conditions: ")
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in each.name() for each in family)
        process.send_signal(signal.SIGHUP)
        rest, _ = process.communicate(timeout=40)
        assert process.returncode == 128 + signal.SIGHUP, told + rest
        assert "fleet early is down" in rest
        assert "Traceback" not in told + rest
        _, left = psutil.wait_procs(family, timeout=15)
        assert not left
        assert not list((ray_house.home / "early").glob("*.kubeconfig")), "an administrator's"
    finally:
        end_tree(process.pid)
