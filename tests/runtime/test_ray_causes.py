"""Errors of Ray that hide their cause are told with it: other versions, its memory monitor, a Python that it can't start."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.utils import check_version_info
from ray.core.generated import common_pb2, gcs_pb2

from raycp.base.clock import VirtualClock
from raycp.config.rayenv import unfit_python
from raycp.driver.fleet_client import FleetClient, FleetError
from raycp.protocol.substrate import MemberUnavailable
from raycp.runtime import local_ray, memory_monitor
from raycp.runtime.local_ray import RayError, connect, other_versions, start_local

ACCOUNT = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.7, ID: 7db82fb4f17c) \
was 22.61GB used / 23.54GB limit (0.960492)
OOM kill reason: Memory usage 24277430272B exceeded threshold of 24012260556B (95.0% of 25276063744B limit)
Top 10 memory users: PID\tMEM(GB)\tCOMMAND"""


def refused() -> str:
    """What Ray says to a process of other versions than its own."""
    with pytest.raises(RuntimeError) as caught:
        check_version_info({"ray_version": "2.50.1", "python_version": "3.12.4"}, "node 10.0.0.7")
    return str(caught.value)


def test_a_ray_of_other_versions_is_told_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise RuntimeError(refused())

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(local_ray, "silence", lambda where: "")
    with pytest.raises(RayError) as caught:
        connect("10.0.0.7:6379")
    here = f"raycp here Ray {ray.__version__} with Python "
    assert "the Ray at 10.0.0.7:6379 does not let this process join: it runs Ray 2.50.1 with Python 3.12.4" in str(caught.value)
    assert here in str(caught.value)
    assert other_versions("another refusal") == ""


def test_what_the_memory_monitor_ended_is_told_with_the_remedy() -> None:
    assert memory_monitor.explain([]) == ""
    told = memory_monitor.explain([ACCOUNT, ACCOUNT])
    assert told.startswith(
        "Ray's memory monitor has ended 2 processes on node 10.0.0.7 (22.61GB of 23.54GB used), at 95.0% of the limit: "
    )
    assert "RAY_memory_usage_threshold" in told
    assert memory_monitor.explain(["words of a later Ray"]).startswith("Ray's memory monitor has ended 1 processes: free memory")


def test_only_what_it_ended_lately_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(kind: Any, ago: float, detail: str) -> bytes:
        ended = int((time.time() - ago) * 1000)
        return bytes(gcs_pb2.WorkerTableData(exit_type=kind, end_time_ms=ended, exit_detail=detail).SerializeToString())

    class Accessor:
        def get_worker_table(self) -> list[bytes]:
            memory, user = common_pb2.NODE_OUT_OF_MEMORY, common_pb2.INTENDED_USER_EXIT
            return [row(memory, 1.0, "last"), row(user, 1.0, "other"), row(memory, 60.0, "long ago"), row(memory, 5.0, "first")]

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray._private.state.state, "_connect_and_get_accessor", Accessor)
    assert memory_monitor.kills(30.0) == ["first", "last"]


def test_a_leader_that_the_memory_monitor_ends_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Restarting:
        async def members(self) -> list[Any]:
            return []

        async def create(self, member: Any, options: Any) -> None: ...

        async def ask(self, member: Any, question: Any, timeout: float) -> Any:
            raise MemberUnavailable(f"{member} is not reachable")

    monkeypatch.setattr(memory_monitor, "kills", lambda within: [ACCOUNT])

    async def work() -> None:
        clock = VirtualClock()
        client = FleetClient("raycp-blue", clock, lambda name: Restarting())  # type: ignore[arg-type, return-value]
        starting = asyncio.ensure_future(client.ensure_leader({}))
        while not starting.done():
            await asyncio.sleep(0)
            await clock.advance(1.0)
        await starting

    with pytest.raises(
        FleetError, match=r"the leader does not start: .* Ray's memory monitor has ended 1 processes on node 10.0.0.7"
    ):
        asyncio.run(work())


@pytest.mark.parametrize("path", ["/home/me/my projects/venv/bin/python", "/srv/a&b/bin/python", "/srv/it's/bin/python"])
def test_a_python_that_ray_can_not_start_is_refused_before_ray_is_started(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unfit_python("/opt/venv-3.11/bin/python3") == ""
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.executable", path)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was started"))
    with pytest.raises(RayError) as caught:
        start_local()
    assert f"Ray starts no worker with the Python {path}, since its path has a space" in str(caught.value)
    assert not list((tmp_path / "home" / "ray").iterdir()), "its token is gone with it"
