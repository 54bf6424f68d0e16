"""The bench on real parts, small: load process and kopf on an embedded cluster, a steady run of a real fleet, a fault order."""

import asyncio
import json
from pathlib import Path

import pytest

from raycp.bench.depth import parse_metrics
from raycp.bench.driver import LoadError, load_process
from raycp.bench.ground import GroundError, ground, start_cluster
from raycp.bench.peer_kopf import kopf_operator
from raycp.bench.peer_seed import LABEL_VALUE
from raycp.bench.seed_switch import seed_fleet
from raycp.cli.main import main


async def test_load_and_kopf(tmp_path: Path) -> None:
    """Every change of the load process is seen to have its effect, made by kopf."""
    async with ground(1, tmp_path) as where, load_process(where) as load:
        (cluster, kubeconfig), *_ = where.kubeconfigs.items()
        async with kopf_operator(kubeconfig, tmp_path / "kopf.log"):
            sent = await load.post(cluster, "k", 20, rate=50.0, work_label="kopf")
            answer = await load.wait("k", 20, 30)
        assert sent["sent"] == 20
        assert (answer["missing"], answer["duplicates"]) == (0, 0)
        assert all(0 < latency < 30 for _, _, latency in answer["rows"])
        with pytest.raises(LoadError, match="409"):
            await load.post(cluster, "k", 1, work_label="kopf")
        await load.order("faults", cluster=cluster, faults=[{"kind": "error", "status": 500, "verbs": ["create"]}])
        with pytest.raises(LoadError, match="refused"):
            await load.post(cluster, "refused", 1)
        await load.order("faults", cluster=cluster, faults=[])
        await load.clean(cluster)
        nobody = await load.wait("nobody", 1, 0.2)
        assert nobody["missing"] == 1
        with pytest.raises(LoadError, match="AttributeError"):
            await load.order("nonsense")


async def test_the_seed_switches_as_it_did(tmp_path: Path) -> None:
    """One leads for life: the other waits for the garbage collector, in its backoff, and lists everything first. A container that
    is started anew finds its own lock. Nothing is lost, nothing made twice."""
    async with ground(1, tmp_path) as where, load_process(where) as load:
        (cluster, kubeconfig), *_ = where.kubeconfigs.items()
        await load.post(cluster, "before", 50, work_label=LABEL_VALUE)
        async with seed_fleet(kubeconfig, tmp_path) as fleet:
            first, second = fleet.leader, fleet.standby
            assert (await load.wait("before", 50, 30))["missing"] == 0
            await second.until("waiting")
            assert "leader" not in second.events
            switching = asyncio.create_task(fleet.deleted())
            await load.post(cluster, "while", 10, rate=20.0, work_label=LABEL_VALUE)
            phases = await switching
            assert fleet.leader is second
            assert fleet.standby not in (first, second)
            assert first.process.returncode == 0
            assert set(phases) == {"drain", "leaderless", "ramp_up", "backlog"}
            assert 0.0 < phases["ramp_up"] < 10.0
            assert phases["leaderless"] < 3.0  # its backoff is still small
            killed = await fleet.killed()
            assert fleet.leader is second
            assert killed["leaderless"] > 1.0  # the kubelet looks once a second
            await load.post(cluster, "after", 10, rate=20.0, work_label=LABEL_VALUE)
            for prefix, count in (("while", 10), ("after", 10)):
                answer = await load.wait(prefix, count, 30)
                assert (answer["missing"], answer["duplicates"]) == (0, 0)
        assert first.process.returncode is not None
        assert second.process.returncode is not None


async def test_a_cluster_that_does_not_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="did not start"):
        await start_cluster("x", tmp_path, {"port": 1, "host": "203.0.113.1"})


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_steady_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure, kept = tmp_path / "steady.svg", tmp_path / "steady.json"
    code = main(["bench", "steady", "--runs", "1", "--count", "100", "--quiet", "--plot", str(figure), "--json", str(kept)])
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (told["n"], told["missing"], told["duplicates"]) == (100, 0, 0)
    assert {"p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms", "within_objective", "machine", "date"} <= set(told)
    assert json.loads(kept.read_text()) == told
    assert figure.stat().st_size > 5000


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(180)
def test_two_causes_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "switch.svg"
    causes = ["--cause", "shard-kill", "--cause", "leader-kill", "--repetitions", "20"]
    code = main(["bench", "switch", *causes, "--scale", "0.1", "--quiet", "--plot", str(figure)])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told
    assert list(told["causes"]) == ["shard-kill", "leader-kill"]
    assert (told["repetitions"], told["missing"], told["duplicates"]) == (4, 0, 0)
    for row in told["causes"].values():
        assert row["switches"] == 2
        assert row["total_p50_ms"] > 0
        assert row["max_gap_ms"] <= told["max_gap_ms"]
    assert figure.stat().st_size > 10_000


@pytest.mark.ray
@pytest.mark.wide
@pytest.mark.timeout(300)
def test_a_lying_server_through_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "hostile", "--set", "lie=html", "--set", "seconds=2", "--quiet"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told
    changes = 100 * (1 + len(told["repeated"]))
    assert (told["cases"], told["missing"], told["n"]) == (1, 0, changes)
    assert all("p99" in why and ";" not in why for why in told["why_failed"].values()), "nothing but the time, which is the bench's"
    assert 0 < told["rss_max_mb"] < 400
    assert told["quiet_p99_ms"] > 0
    assert told["worst"].startswith("html: ")


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "cause", [pytest.param("node-kill", marks=pytest.mark.soak), pytest.param("node-freeze", marks=pytest.mark.wide)]
)
def test_a_node_is_lost_through_the_command(cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "switch", "--cause", cause, "--repetitions", "2", "--set", "existing=500", "--quiet", "--check"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told
    assert (told["cause"], told["repetitions"], told["missing"], told["duplicates"]) == (cause, 2, 0, 0)


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["nothing"], "is not a scenario"),
        (["steady", "--kubeconfig", str(tmp_path / "none")], "no such file"),
        (["steady", "--plot", "figure.pdf"], ".svg"),
        (["jobs", "--peer", "kopf"], "has no peer"),
        (["steady", "--set", "nonsense"], "NAME=VALUE"),
        (["steady", "--rate", "nan"], "not positive"),
    ):
        assert main(["bench", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_the_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "list"]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {"steady", "cold", "jobs", "init-storm", "resync-storm", "noisy-tenant", "dead-cluster", "joining-cluster",
            "starvation", "tiers", "embedded"} <= names  # fmt: skip


def test_metrics_are_read_as_written() -> None:
    page = '# HELP d D.\n# TYPE d gauge\nd{tier="a\\"b",cluster="c"} 3\nd_total 9\nd 4\n'
    assert parse_metrics(page, "d") == [({"tier": 'a"b', "cluster": "c"}, 3.0), ({}, 4.0)]
