"""``raycp simulate``: the file, its errors, the report."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from raycp.cli.main import main
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity

FLEET = """
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: sim}
spec:
  clusters:
    - {name: hub, role: hub, embedded: {}}
    - {name: east, embedded: {nodes: 4, node: {cpu: "8", memory: 32Gi}}}
    - name: west
      kubeconfig: {path: west.yaml}
      capacity: [{nodes: 2, allocatable: {cpu: 16, memory: 64Gi}}]
  controllers: [{use: raycp.controllers.batchjob}]
"""
JOBS = """
apiVersion: raycp.io/v1alpha1
kind: Simulation
spec:
  queues:
    research: {cohort: all, flavors: [{name: default, resources: [{name: cpu, nominalQuota: 64}]}]}
  jobs:
    - {name: train, queue: research, duration: 1h, pods: 40, minAvailable: 40, requests: {cpu: 1}, count: 2, every: 1m}
"""


def play(folder: Path, jobs: str = JOBS, *more: str, fleet: str = FLEET) -> int:
    (folder / "fleet.yaml").write_text(fleet)
    (folder / "jobs.yaml").write_text(jobs)
    return main(["simulate", "-f", str(folder / "jobs.yaml"), "-c", str(folder / "fleet.yaml"), *more])


def test_jobs_are_played_on_declared_and_embedded_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(tmp_path, JOBS, "-o", "json", "--compare", "fifo", "--compare", "per-cluster") == 0
    ours, fifo, alone = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in (ours, fifo, alone)] == ["raycp", "fifo", "per-cluster"]
    assert ours["classes"][0]["wait_max_s"] == 3540.0  # 64 cores hold one of 40 at a time
    assert ours["over_quota"] == 0
    assert alone["classes"][0]["unfinished"] == 2, "neither cluster holds 40"


def test_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(tmp_path) == 0
    out = capsys.readouterr().out
    assert "WAIT P99 S" in out
    assert "raycp: used cpu" in out


def test_the_figure_has_utilisation_waits_and_preemptions_by_class(tmp_path: Path) -> None:
    """Three policies, and the same figure for the same jobs. The words of an SVG are its comments."""
    figures = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for figure in figures:
        assert play(tmp_path, JOBS, "--compare", "fifo", "--compare", "per-cluster", "--plot", str(figure)) == 0
    drawn = figures[0].read_text()
    assert drawn == figures[1].read_text()
    for words in ("utilisation", "waiting jobs", "wait p99, s", "preemptions", "priority", "fifo", "per-cluster"):
        assert f"<!-- {words} -->" in drawn, words
    assert "until the last arrival -->" in drawn


def test_capacity_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capacity = tmp_path / "capacity.json"
    capacity.write_bytes(msgspec.json.encode({"capacity": [declared_capacity("east", [DeclaredNodes(10, {"cpu": 8000})])]}))
    assert play(tmp_path, JOBS, "-o", "json", "--capacity", str(capacity)) == 0
    (ours,) = json.loads(capsys.readouterr().out)
    assert ours["classes"][0]["unfinished"] == 0


ORDER = """
apiVersion: raycp.io/v1alpha1
kind: Simulation
spec:
  jobs:
  - {name: many, count: 3, duration: 1s}
  - {name: b, duration: 1s"""


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ("kind: Job", ["kind", "is not Simulation"]),
        (JOBS.replace("queue: research", "queue: reserch"), ["spec.jobs[0].queue", "reserch", "spec.queues has research"]),
        (JOBS.replace("minAvailable: 40", "minAvailable: 41"), ["spec.jobs[0].minAvailable", "41", "above pods"]),
        (JOBS.replace("{cpu: 1}", "{cpu: lots}"), ["spec.jobs[0].requests", "lots", "500m"]),
        (JOBS.replace("nominalQuota", "nominal"), ["spec.queues.research", "nominal"]),
        (JOBS.replace("duration: 1h", "duration: long"), ["spec.jobs[0].duration", "long"]),
        ("apiVersion: raycp.io/v1alpha1\nkind: Simulation\nspec: {}", ["spec", "has no jobs"]),
        (f"{ORDER}, dependsOn: [{{job: nix}}]}}", ["spec.jobs[1].dependsOn", "names nix", "no job of this file"]),
        (f"{ORDER}, dependsOn: [{{job: many}}]}}", ["names many", "many-0, ..."]),
        (f"{ORDER}, dependsOn: [{{job: b}}]}}", ["spec.jobs[1].dependsOn", "b -> b"]),
        (
            f"{ORDER}, dependsOn: [{{job: c}}]}}\n  - {{name: c, duration: 1s, dependsOn: [{{job: b}}]}}",
            ["b -> c -> b", "c -> b -> c"],
        ),
        (f"{ORDER}}}\n  - {{name: many-2, duration: 1s}}", ["spec.jobs[2].name", "second job many-2"]),
        (f"{ORDER}}}\n  - {{name: job-000007, duration: 1s}}\n  trace: {{jobs: 8}}", ["second job job-000007"]),
        ("a: [", ["jobs.yaml"]),
    ],
)
def test_a_bad_file_is_refused_with_path_value_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: str, words: list[str]
) -> None:
    assert play(tmp_path, jobs) == 2
    err = capsys.readouterr().err
    assert all(word in err for word in words), err
    assert "Traceback" not in err


def test_clusters_of_unknown_capacity_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = FLEET.replace('{nodes: 4, node: {cpu: "8", memory: 32Gi}}', "{}").replace(
        "capacity: [{nodes: 2, allocatable: {cpu: 16, memory: 64Gi}}]", "qps: 5"
    )
    assert play(tmp_path, fleet=fleet) == 2
    assert "declare `capacity:`" in capsys.readouterr().err
    assert play(tmp_path, JOBS, "--capacity", str(tmp_path / "nowhere")) == 2
    (tmp_path / "bad.json").write_text('[{"cluster": 5}]')
    assert play(tmp_path, JOBS, "--capacity", str(tmp_path / "bad.json")) == 2
    assert play(tmp_path, JOBS, "--plot", "x.pdf") == 2


class _Capacity(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = msgspec.json.encode({"capacity": [declared_capacity("west", [DeclaredNodes(10, {"cpu": 8000})])]})
        self.send_response(200 if self.path == "/api/v1/capacity" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_capacity_of_the_running_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Capacity) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        assert play(tmp_path, JOBS, "-o", "json", "--capacity", "live", "--url", url) == 0
        server.shutdown()
    (ours,) = json.loads(capsys.readouterr().out)
    assert ours["classes"][0]["unfinished"] == 0
