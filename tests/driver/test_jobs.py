"""A fleet as a Ray job: where it is submitted, with which command line, and what is said when no agent takes it."""

import os
import shlex
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobStatus

from raycp.driver import jobs
from raycp.driver.fleet_client import FleetError
from raycp.driver.jobs import DASHBOARD, DOCUMENT, entrypoint, job_server, staged
from raycp.runtime import job_client

URL, OTHER = "http://ray.example.com:8265", "http://other.example.com:8265"


def test_what_is_named_comes_before_the_environment() -> None:
    environment = {"RAY_ADDRESS": OTHER, "RAY_API_SERVER_ADDRESS": OTHER}
    assert job_server(URL, environment) == URL
    assert job_server("", environment) == OTHER
    assert job_server("", {"RAY_ADDRESS": OTHER}) == OTHER
    assert job_server("", {"RAY_ADDRESS": "auto"}) == DASHBOARD
    assert job_server("", {}) == DASHBOARD


def test_a_head_is_asked_for_its_job_server(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def url(address: str) -> str:
        asked.append(address)
        return URL

    monkeypatch.setattr("ray.dashboard.utils.ray_address_to_api_server_url", url)
    monkeypatch.setattr(job_client, "silence", lambda address: "" if address == "10.0.0.7:6379" else "refused")
    assert job_server("", {"RAY_ADDRESS": "10.0.0.7:6379"}) == URL
    assert asked == ["10.0.0.7:6379"]
    with pytest.raises(FleetError, match=r"no Ray answers at 10.0.0.8:6379: refused. Name its job server with --address http://"):
        job_server("10.0.0.8:6379", {})


class Client:
    """Ray's, which takes its address from the environment first; its Ray has no agent for jobs."""

    def __init__(self, address: str) -> None:
        self.address = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or address
        clients.append(self)

    def list_jobs(self) -> list[Any]:
        return []

    def submit_job(self, **job: Any) -> str:
        raise RuntimeError("Request failed with status code 500: No available agent to submit job, please try again later.")


clients: list[Client] = []


async def test_the_address_reaches_rays_client_and_the_agents_port_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients.clear()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", OTHER)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Client)
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: (tmp_path / "answer").open("w"))
    monkeypatch.setattr(job_client, "AGENT_WITHIN", 0.6)
    said: list[str] = []
    with pytest.raises(FleetError, match=r"no node of this Ray has an agent .* 52365 by default, .*--dashboard-agent-listen-port"):
        await jobs.submit(URL, "blue", "g1", tmp_path, "raycp run", said.append)
    assert [client.address for client in clients] == [URL]
    assert os.environ["RAY_ADDRESS"] == "127.0.0.1:1", "others see it as before"
    assert said == ["waiting for an agent for jobs: it listens on port 52365 of each node by default"]


def test_a_python_in_a_folder_with_a_space_is_one_word() -> None:
    line = entrypoint("http://elsewhere.example.com:8265", "/srv/my env/bin/python", ["run", "--attach"])
    assert shlex.split(line)[:5] == ["/srv/my env/bin/python", "-m", "raycp.cli.main", "run", "--attach"]


class CutClient(Client):
    """Its Ray takes the job, which succeeds, and ends the stream of the log too early: with an error, where there is one."""

    error: Exception | None = None
    answers = threading.Event()
    log = "fleet blue starts\nfleet blue is ready\n"

    def submit_job(self, **job: Any) -> str:
        return str(job["submission_id"])

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        yield "fleet blue starts\n"
        if self.error is not None:
            raise self.error

    def get_job_status(self, job_id: str) -> Any:
        return JobStatus.SUCCEEDED

    def get_job_logs(self, job_id: str) -> str:
        assert self.answers.wait(20.0)
        return self.log


@pytest.mark.parametrize("error", [None, RuntimeError("WebSocket connection closed unexpectedly with close code 1006")])
async def test_what_rays_stream_of_a_jobs_log_leaves_out_is_shown_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", CutClient)
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: (tmp_path / "answer").open("w"))
    monkeypatch.setattr(CutClient, "error", error)
    CutClient.answers.set()
    said: list[str] = []
    await jobs.submit(URL, "blue", "g1", tmp_path, "raycp run", said.append)
    told = [line for line in said if line.startswith("fleet")]
    assert told == ["fleet blue starts", "fleet blue is ready"]
    assert any("can't be followed any longer" in line and "1006" in line for line in said) is (error is not None)


async def test_a_job_server_that_falls_silent_after_the_job_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", CutClient)
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: (tmp_path / "answer").open("w"))
    monkeypatch.setattr(job_client, "SILENT_FOR", 0.1)
    CutClient.answers.clear()
    said: list[str] = []
    try:
        await jobs.submit(URL, "blue", "g1", tmp_path, "raycp run", said.append)
    finally:
        CutClient.answers.set()
    assert said[-1].endswith("can't be read: TimeoutError"), said


def test_what_is_sent_has_an_end_and_is_sent_once(tmp_path: Path) -> None:
    """Links to directories that they lie in, directly or through another; and a fleet file that may not be written."""
    source = tmp_path / "a folder"
    (source / "one").mkdir(parents=True)
    (source / "two").mkdir()
    (source / "two/module.py").write_text("A = 1")
    (source / DOCUMENT).mkdir()
    for link, to in (("self", "."), ("up", ".."), ("one/two", "../two"), ("two/one", "../one")):
        (source / link).symlink_to(to)
    with staged("the document", source) as sent:
        files = {str(each.relative_to(sent)): each.read_text() for each in sent.rglob("*") if each.is_file()}
    assert files == {DOCUMENT: "the document", "two/module.py": "A = 1", "one/two/module.py": "A = 1"}


def test_what_links_lead_to_counts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/large").write_bytes(bytes(2000))
    (tmp_path / "source").mkdir()
    (tmp_path / "source/data").symlink_to("../data")
    monkeypatch.setattr(jobs, "MAX_BYTES", 1000)
    with pytest.raises(FleetError, match="--working-dir"), staged("", tmp_path / "source"):
        pass


def test_a_file_that_can_not_be_sent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path, **_: Any) -> None:
        raise shutil.Error([(f"{source}/module.py", f"{target}/module.py", "Permission denied")])

    monkeypatch.setattr(shutil, "copytree", refused)
    with pytest.raises(FleetError, match=r"module.py can't be sent: .*Permission denied.* --working-dir"), staged("", tmp_path):
        pass
