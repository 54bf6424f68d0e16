"""Bad input of every kind: it is reported clearly, and harms nothing else."""

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fleet_samples as samples
import pytest
import yaml
from inprocess import CLOCK, HERE, Stack, fleet_doc, holds, stack, until

from raycp.base.keys import RequestKey
from raycp.base.problems import ProblemCode, ProblemOwner
from raycp.cli.main import main
from raycp.config import ConfigError
from raycp.driver.fleet_builder import build_fleet
from raycp.kube import ConnectSpec
from raycp.shard.suspects import Level
from raycp.worker import watchdog


def ran() -> Counter[str]:
    return Counter(name for _, _, name in samples.RAN)


def story(fleet: Stack, name: str, controller: str = "wild", cluster: str = "here") -> list[dict[str, Any]]:
    """What ``raycp why`` shows of an object: its last steps."""
    found = fleet.shard().reporter.timeline(cluster, "ConfigMap", "default", name)
    rows: Any = found["controllers"] if found is not None else []
    return [step for row in rows if row["controller"] == controller for step in row["steps"]]


def errors(fleet: Stack, name: str) -> list[str]:
    return [str(step.get("error")) for step in story(fleet, name) if step.get("error")]


# reconcilers


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        ("raise", "ZeroDivisionError: on purpose (fleet_samples.py, line"),
        ("retry", "not yet"),
        ("hang", "timed out: no result within 0.5 s"),
        ("nonsense", "wild returned a dict: a reconciler returns None or a Result (fleet_samples.py, line"),
        ("negative", "wild returned Result(requeue_after=-1): seconds, 0 or more"),
    ],
)
async def test_failing_reconciler_is_retried_and_others_go_on(do: str, expected: str) -> None:
    async with stack(["wild", "tracked"]) as fleet:
        await fleet.put("here", "wild", "bad", do=do)
        await until(lambda: any(expected in error for error in errors(fleet, "bad")), what=f"{do}: {expected}")
        for number in range(10):
            await fleet.put("here", "tracked", f"good-{number}")
        await until(lambda: sum(ran()[f"good-{number}"] for number in range(10)) == 10)
        await until(lambda: ran()["bad"] >= 2, what="again, after its backoff")
        why = fleet.shard().queue.why(RequestKey("wild", "here", "default", "bad"))
        assert why is not None
        # Mended by its author: a real change does not wait for the backoff, which has grown by now.
        await fleet.put("here", "wild", "bad", do="")
        await until(lambda: ("wild", "bad", {"do": ""}) in samples.SEEN, 5.0)
        await until(lambda: fleet.shard().queue.why(RequestKey("wild", "here", "default", "bad")) is None)


async def test_retry_backoff_grows() -> None:
    async with stack(["wild"]) as fleet:
        await fleet.put("here", "wild", "bad", do="raise")
        begun = CLOCK.now()
        await until(lambda: ran()["bad"] >= 3, what="more often than once")
        await asyncio.sleep(begun + 1.5 - CLOCK.now())
        assert ran()["bad"] <= 14, "and not for ever at full speed"


async def test_permanent_error_is_not_retried_until_the_object_changes() -> None:
    async with stack(["wild"]) as fleet:
        await fleet.put("here", "wild", "bad", do="permanent")
        await until(lambda: [error.partition(" (")[0] for error in errors(fleet, "bad")] == ["never"])
        await holds(lambda: ran()["bad"] == 1, 0.4)
        await fleet.put("here", "wild", "bad", do="permanent", changed="1")
        await until(lambda: ran()["bad"] == 2)


def _exits(monkeypatch: pytest.MonkeyPatch, fleet: Stack) -> None:
    """``os._exit`` of a worker ends that worker here, not the test."""

    def leave(code: int) -> None:
        assert code
        for slot, member in list(fleet.members.items()):
            core = fleet.substrate.cores.get(member)
            if slot[0] == "worker" and core is not None and core.watchdog.ending:
                asyncio.get_running_loop().create_task(fleet.kill(*slot))
        raise asyncio.CancelledError

    monkeypatch.setattr(watchdog, "os", SimpleNamespace(_exit=leave))


@pytest.mark.parametrize(
    ("do", "expected"),
    [("block", "the reconciler blocked its event loop"), ("defy", "went on after its timeout and could not be stopped")],
)
async def test_reconciler_that_can_not_be_stopped_costs_its_worker(monkeypatch: pytest.MonkeyPatch, do: str, expected: str) -> None:
    """Its worker names it and ends; it is convicted at once, waits for its backoff and runs alone; the others' keys return at once
    and are done elsewhere."""
    monkeypatch.setattr(watchdog, "SILENT", 0.6)
    monkeypatch.setattr(watchdog, "STUCK_AFTER", 0.3)
    monkeypatch.setattr(watchdog, "REPORT_TIME", 0.1)
    async with stack(["wild", "gated"]) as fleet:
        _exits(monkeypatch, fleet)
        await fleet.put("here", "gated", "good")
        await until(lambda: ran()["good"] == 1)
        await fleet.put("here", "wild", "bad", do=do)
        await until(lambda: not fleet.substrate.living("worker"), 10.0, "the worker ends itself")
        await until(lambda: any(expected in error for error in errors(fleet, "bad")), what="the culprit is named")
        suspects = fleet.shard().ledger.quarantine.suspects
        assert suspects.level(RequestKey("wild", "here", "default", "bad")) is Level.CONVICTED
        assert suspects.level(RequestKey("gated", "here", "default", "good")) is Level.EXPOSED
        samples.OPEN["good"] = True
        await fleet.clusters["here"].api.patch_merge("configmaps", "default", "bad", b'{"data":{"do":""}}')
        await fleet.new_worker()
        await fleet.configure()
        await until(lambda: ran()["good"] == 2, what="the innocent is done elsewhere")
        assert not [step for step in story(fleet, "good", "gated") if step.get("error")]
        await holds(lambda: ("wild", "bad", {"do": ""}) not in samples.SEEN, 0.3, "in no worker of the pool")
        await fleet.new_quarantine()
        await fleet.configure()
        await until(lambda: ("wild", "bad", {"do": ""}) in samples.SEEN)
        await until(lambda: not fleet.shard().ledger.quarantine.active)


# objects and kinds


async def test_object_of_one_mebibyte_is_reconciled() -> None:
    async with stack(["tracked"]) as fleet:
        big = "x" * (1024 * 1024 - 64)
        await fleet.put("here", "tracked", "big", blob=big)
        for number in range(5):
            await fleet.put("here", "tracked", f"small-{number}")
        await until(lambda: len(ran()) == 6)
        assert next(len(data["blob"]) for _, name, data in samples.SEEN if name == "big") == len(big)
        with pytest.raises(Exception, match=r"Too long|too large|1048576"):
            await fleet.put("here", "tracked", "bigger", blob="x" * (1024 * 1024 + 1))


async def test_controller_of_a_missing_kind_is_reported_and_others_go_on() -> None:
    async with stack(["tracked", "nowhere"], timeouts={"syncDeadline": 1}) as fleet:
        shard = fleet.members["shard", "0"]
        assert fleet.report(shard).ready, "it holds the rest back for the deadline only"
        (cluster,) = await until(lambda: [row for row in fleet.report(shard).clusters if "Nothing" in row.reason])
        assert not cluster.synced
        await fleet.put("here", "tracked", "a")
        await until(lambda: ran()["a"] == 1)


# clusters

NOWHERE = "https://127.0.0.1:9"
BROKEN = {
    "no such file": (ConnectSpec(name="east", mode="kubeconfig", path="/nowhere/kubeconfig"), "/nowhere/kubeconfig"),
    "no such context": (None, "context"),
    "nobody answers": (ConnectSpec(name="east", mode="direct", server=NOWHERE, token="x", insecure=True), "127.0.0.1:9"),
    "no such host": (ConnectSpec(name="east", mode="direct", server="https://no.invalid", token="x", insecure=True), "no.invalid"),
}


@pytest.mark.parametrize("case", list(BROKEN))
async def test_one_bad_cluster_of_three_delays_no_other(case: str, tmp_path: Path) -> None:
    connect, expected = BROKEN[case]
    if connect is None:
        file = tmp_path / "config"
        file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": []}))
        connect = ConnectSpec(name="east", mode="kubeconfig", path=str(file), context="elsewhere")
    homes = {"hub": "0", "east": "0", "west": "0"}
    async with stack(["tracked"], homes, connects={"east": connect}, timeouts={"syncDeadline": 0.5}) as fleet:

        def found(name: str) -> Any:
            return next(row for row in fleet.report(fleet.members["shard", "0"]).clusters if row.name == name)

        await until(lambda: found("west").reachable and found("west").synced)
        assert (found("east").reachable, found("east").synced) == (False, False)
        assert expected in found("east").reason
        assert "Traceback" not in found("east").reason
        await fleet.put("west", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        await fleet.put("east", "tracked", "b")
        fleet.connects["east"] = fleet.right["east"]
        await fleet.configure()
        await until(lambda: ran()["b"] == 1, 10.0, "put right, it is watched")


async def test_expired_token_is_reported_and_a_new_one_is_used() -> None:
    async with stack(["tracked"], {"hub": "0", "east": "0", "west": "0"}) as fleet:
        east = fleet.clusters["east"]
        east.expire_token()
        east.faults.set([])
        # Open watches live on, as on an API server; the next request is refused.
        for watch in list(east.verbs.watches):
            watch.stop()

        def reason() -> str:
            return next(row.reason for row in fleet.report(fleet.members["shard", "0"]).clusters if row.name == "east")

        await until(
            lambda: "401" in reason() or "Unauthorized" in reason() or "credentials" in reason(),
            15.0,
            "the expired token is reported",
        )
        await fleet.put("west", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        await fleet.put("east", "tracked", "b")
        assert east.endpoint is not None
        right = fleet.right["east"]
        fleet.connects["east"] = ConnectSpec(
            name="east", mode="direct", server=right.server, ca_pem=right.ca_pem, token=east.endpoint.token
        )
        await fleet.configure()
        await until(lambda: ran()["b"] == 1, 10.0, "with the new token it goes on")
        assert "token" not in reason().lower() or right.token not in reason()


# the fleet file

GOOD: dict[str, Any] = {
    "apiVersion": "raycp.io/v1alpha1",
    "kind": "Fleet",
    "metadata": {"name": "t"},
    "spec": {
        "clusters": [{"name": "hub", "role": "hub", "embedded": {}}, {"name": "east", "embedded": {}}],
        "controllers": [{"use": "fleet_samples:tracked"}],
    },
}


def edited(path: str, value: Any) -> dict[str, Any]:
    found: Any = yaml.safe_load(yaml.safe_dump(GOOD))
    where = found
    *parts, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parts:
        where = where[part]
    where[last] = value
    whole: dict[str, Any] = found
    return whole


FILES = {
    "wrong key": (edited("spec.clusterz", []), ["spec.clusterz", "clusters"]),
    "wrong key deep down": (edited("spec.clusters.1.kubeconfigg", "x"), ["spec.clusters[1].kubeconfigg", "kubeconfig"]),
    "wrong value": (edited("spec.clusters.1.role", "boss"), ["spec.clusters[1].role", "boss"]),
    "wrong type": (edited("spec.clusters", "hub"), ["spec.clusters"]),
    "duplicate cluster": (edited("spec.clusters.1.name", "hub"), ["hub"]),
    "no module of that name": (edited("spec.controllers.0.use", "no_such_module"), ["no_such_module", "no module named"]),
    "no controller of that name": (edited("spec.controllers.0.use", "fleet_samples:nobody"), ["nobody"]),
    "a module without controllers": (edited("spec.controllers.0.use", "inprocess"), ["has no controller"]),
}


@pytest.mark.parametrize("case", list(FILES))
@pytest.mark.parametrize("command", ["run", "apply", "submit"])
def test_invalid_fleet_file_is_refused_before_anything_is_touched(
    case: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def touched(*_: Any, **__: Any) -> None:
        raise AssertionError("Ray was touched")

    monkeypatch.setattr(ray, "init", touched)
    monkeypatch.chdir(HERE)
    content, words = FILES[case]
    file = tmp_path / "fleet.yaml"
    file.write_text(yaml.safe_dump(content))
    assert main([command, "-c", str(file)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "Traceback" not in printed
    for word in [str(file), *words]:
        assert word in printed, printed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def broken(:\n", "line 1"),
        ("import nothing_of_that_name_is_there\n", "nothing_of_that_name_is_there"),
        ("raise RuntimeError('on purpose')\n", "on purpose"),
        ("import sys\nsys.exit(3)\n", "SystemExit"),
        ("from raycp import controller\n@controller('v1')\nasync def x(ctx, o): ...\n", "VERSION/Kind"),
        ("from raycp import controller\n@controller('v1/Pod')\nasync def x(ctx): ...\n", "takes (ctx, obj)"),
    ],
)
def test_controller_module_that_does_not_import_is_refused(
    source: str, expected: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = f"bad_module_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(source)
    doc = fleet_doc(["here"], [name])
    with pytest.raises(ConfigError) as refused:
        build_fleet(doc, Path("fleet.yaml"), [tmp_path])
    text = str(refused.value)
    assert expected in text
    assert name in text
    assert "spec.controllers[0].use" in text


async def test_module_that_does_not_import_at_the_worker_is_reported() -> None:
    """It did at the driver: the worker says so, its tasks are tried again, and other controllers run."""
    async with stack(["tracked", "plain"]) as fleet:
        worker = fleet.worker(0)
        del worker.controllers.known["plain"]
        fleet.fleet = _with_use(fleet, "plain", "no_such_module_at_the_worker")
        await fleet.configure()
        report = fleet.report(fleet.members["worker", "standard/0"])
        assert report.ready, "it works for the other controllers"
        (problem,) = report.problems
        assert (problem.code, problem.owner) == (ProblemCode.CONTROLLER_FAILED, ProblemOwner(controller="plain"))
        assert "no_such_module_at_the_worker" in problem.message
        await fleet.put("here", "plain", "b")
        await fleet.put("here", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        await until(lambda: any("does not know the controller" in str(step.get("error")) for step in story(fleet, "b", "plain")))


def _with_use(fleet: Stack, name: str, use: str) -> Any:
    import msgspec

    plans = tuple(msgspec.structs.replace(plan, use=use) if plan.name == name else plan for plan in fleet.fleet.controllers)
    return msgspec.structs.replace(fleet.fleet, controllers=plans)


async def test_hub_that_is_down_keeps_the_fleet_unready() -> None:
    connect = ConnectSpec(name="hub", mode="direct", server=NOWHERE, token="x", insecure=True)
    made = Stack(fleet_doc(["hub", "east"], ["fleet_samples:tracked"], timeouts={"syncDeadline": 0.2}), {"hub": "0", "east": "0"})
    try:
        await made.start(1, {"hub": connect})
        shard = made.members["shard", "0"]
        await until(lambda: {row.name: row for row in made.report(shard).clusters}["east"].synced)
        await holds(lambda: not made.report(shard).ready, 0.5, "the deadline has passed, and the hub is not there")
        assert "hub" in made.report(shard).reasons[0]
        made.connects["hub"] = made.right["hub"]
        await made.configure()
        await until(lambda: made.report(shard).ready)
    finally:
        await made.stop()
