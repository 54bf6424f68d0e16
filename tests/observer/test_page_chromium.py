"""The status page in a real browser: every section filled from the JSON API, trouble first, no script error.

Needs Debian's chromium (``make tools``). Where it is missing the tests are skipped, and fail when ``CI=true``.
"""

import asyncio
import html
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from raycp.observer.web import WebServer, serve
from raycp.protocol.status import Check

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr"),
]


@pytest.fixture(autouse=True)
def _chromium() -> None:
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing: make tools")
        pytest.skip("no chromium: make tools")


def objective(controller: str, tier: str, promise: float, within: float, bad: int, remaining: float) -> dict[str, Any]:
    ratio = 1 - bad / 48_210
    return {
        "name": f"{controller}-{tier}-{within:g}s",
        "controller": controller,
        "tier": tier,
        "objective": promise,
        "within_seconds": within,
        "total": 48_210,
        "bad": bad,
        "windows": {name: {"total": 900, "bad": bad / 60, "ratio": ratio, "burn": 0.4} for name in ("instant", "5m", "1h", "30d")},
        "budget": {"allowed": 48.2, "spent": bad, "remaining": remaining},
        "alerts": [{"severity": "page", "long": "1h", "short": "5m", "factor": 14.4}] if remaining < 0 else [],
        "latency": {"p50": 0.0061, "p99": 0.0189, "p999": 0.0437},
        "attribution": {"watch_lag": 0.09, "delay": 0.0, "queue": 0.21, "dispatch": 0.12, "work": 0.16, "api": 0.42},
    }


class CannedView:
    """A busy fleet: one cluster of five is down, one objective has spent its budget."""

    async def metrics(self) -> bytes:
        return b""

    async def healthy(self) -> list[Check]:
        return [Check("observer", True)]

    async def ready(self) -> list[Check]:
        return [Check("leader", True), Check("cluster-west-2", False, "connection refused", required=False)]

    async def status(self) -> dict[str, Any]:
        leader = {"epoch": 3, "incarnation": 2, "alive": True, "node": "node-4", "lock": "configMap"}
        return {"fleet": "production", "generation": "fdfc0d622c85", "ready": True, "leader": leader, "switches": []}

    async def clusters(self) -> list[dict[str, Any]]:
        names = [("hub", 214), ("east-1", 18_402), ("east-2", 17_118), ("west-1", 9_731), ("west-2", 8_004)]
        return [
            {
                "name": name,
                "role": "hub" if name == "hub" else "member",
                "reachable": name != "west-2",
                "breaker": "open" if name == "west-2" else "closed",
                "synced": name != "west-2",
                "objects": objects,
                "lag_seconds": 41.0 if name == "west-2" else 0.2,
                "shard": "0" if number < 3 else "1",
                "version": "v1.36.2",
                "labels": {} if name == "hub" else {"region": name.split("-")[0], "raycp.io/cluster": name},
                "reason": "connection refused: https://10.0.7.1:6443, tried again in 8 s" if name == "west-2" else "",
            }
            for number, (name, objects) in enumerate(names)
        ]

    async def shards(self) -> list[dict[str, Any]]:
        shard = {"state": "running", "ready": True, "standby": 1, "memory_bytes": 171_000_000}
        return [
            {**shard, "name": "0", "term": 4, "clusters": ["hub", "east-1", "east-2"], "node": "node-1"},
            {**shard, "name": "1", "term": 1, "clusters": ["west-1", "west-2"], "node": "node-2"},
        ]

    async def workers(self) -> list[dict[str, Any]]:
        worker = {"slots": 32, "state": "running", "ready": True, "memory_bytes": 118_000_000}
        names = [("critical/0", 21, "node-1"), ("standard/0", 30, "node-2"), ("standard/1", 7, "node-3")]
        return [{**worker, "name": name, "active": active, "node": node} for name, active, node in names]

    async def lanes(self) -> list[dict[str, Any]]:
        lanes = [("critical", 3, 0.4), ("high", 12, 0.25), ("standard", 140, 0.25), ("background", 612, 0.1)]
        return [
            {"tier": tier, "depth": depth, "delayed": depth // 3, "oldest_ready_seconds": depth / 900, "share": share}
            | {"in_work": 12, "per_second": 41.5}
            for tier, depth, share in lanes
        ]

    async def slo(self) -> list[dict[str, Any]]:
        return [objective("batchjob", "critical", 0.999, 1.0, 12, 0.75), objective("echo", "all", 0.999, 10.0, 61, -0.27)]

    async def explain(self, namespace: str, name: str) -> dict[str, Any] | None:
        return None

    async def capacity(self) -> list[dict[str, Any]]:
        return []

    async def queues(self) -> list[dict[str, Any]]:
        return []

    async def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        if (cluster, kind, namespace, name) != ("hub", "batch.raycp.io/v1alpha1/BatchJob", "default", "hello"):
            return None
        call = {"verb": "create", "cluster": "east-1", "path": "/api/v1/namespaces/default/pods", "status": 201, "seconds": 0.004}
        steps: list[dict[str, Any]] = [
            {
                "at": 1795393183.7,
                "what": "received",
                "reason": "update",
                "tier": "critical",
                "delay": 0.0,
                "why": "field spec.qosTier",
            },
            {"at": 1795393183.8, "what": "handed_out", "worker": "standard/0", "attempt": 1, "waited": 0.00019},
            {"at": 1795393183.9, "what": "succeeded", "seconds": 0.0103, "calls": [call]},
        ]
        return {"controllers": [{"controller": "batchjob", "queue": None, "steps": steps}]}


class Empty(CannedView):
    """A fleet that has just started: nothing is known, and the page says so."""

    async def ready(self) -> list[Check]:
        return [Check("leader", False, 'the leader is not recorded in cluster "hub" yet')]

    async def status(self) -> dict[str, Any]:
        return {"fleet": None, "ready": False, "leader": {"alive": False}}

    async def clusters(self) -> list[dict[str, Any]]:
        return []

    async def slo(self) -> list[dict[str, Any]]:
        return []

    shards = workers = lanes = clusters


async def chromium(tmp_path: Path, *arguments: str) -> tuple[str, str]:
    """Its standard output and its log."""
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            out, log = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, log.decode()
    return out.decode(), log.decode()


async def shown(server: WebServer, tmp_path: Path, path: str = "") -> str:
    """The page after its script has run for some seconds of virtual time; fails on any message of the console."""
    dom, log = await chromium(tmp_path, "--virtual-time-budget=3000", "--dump-dom", server.url + path)
    assert "CONSOLE" not in log, [line for line in log.splitlines() if "CONSOLE" in line]
    return dom


def section(dom: str, identity: str) -> str:
    """The text of an element, tags dropped."""
    found = re.search(rf'id="{identity}"[^>]*>(.*?)</(?:section|header)>', dom, re.DOTALL)
    assert found, f"no element {identity}"
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", found[1]).split()))


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[str]:
    server = await serve(CannedView())
    yield await shown(server, tmp_path)
    await server.stop()


async def test_every_section_is_filled(page: str, tmp_path: Path) -> None:
    assert 'data-live="yes"' in page
    assert section(page, "fleet").startswith("production ready leader on node-4 · epoch 3 · incarnation 2 · lock configMap")
    assert "4 / 5 clusters reachable" in section(page, "tiles")
    assert "58 / 96 slots busy" in section(page, "tiles")
    assert "batchjob, critical 99.9 % in 1.0 s" in section(page, "slo")
    assert "19 ms" in section(page, "slo")
    assert "background 612" in section(page, "lanes")
    assert page.count("<polygon") == 4
    assert "hub hub reachable yes 214" in section(page, "clusters")
    assert "region=east" in section(page, "clusters")
    assert "raycp.io/cluster" not in section(page, "clusters")
    assert "0 running 4 1 3 163 MiB node-1" in section(page, "shards")
    assert "standard/0 running 30 / 32" in section(page, "workers")


async def test_a_cluster_in_trouble_is_shown_first(page: str) -> None:
    assert section(page, "clusters").index("west-2") < section(page, "clusters").index("hub hub")
    assert "west-2 member unreachable no" in section(page, "clusters")
    assert "tried again in 8 s" in section(page, "clusters")
    assert "cluster-west-2: connection refused" in section(page, "notready")
    assert "1 budget alerts" in section(page, "tiles")
    assert "-27.0 %" in section(page, "slo")
    assert "page" in section(page, "slo")


async def test_the_timeline_of_an_object_has_its_own_address(tmp_path: Path) -> None:
    server = await serve(CannedView())
    dom = await shown(server, tmp_path, "#hub/batch.raycp.io/v1alpha1/BatchJob/default/hello")
    short = await shown(server, tmp_path, "#hub/BatchJob")
    await server.stop()
    timeline = section(dom, "timeline")
    assert re.search(r"\.700 batchjob received reason update, tier critical, delay 0, why field spec.qosTier", timeline), timeline
    assert "handed out worker standard/0, attempt 1, waited 0.0002" in timeline
    assert "create /api/v1/namespaces/default/pods 201 in 4.0 ms" in timeline
    assert "Write CLUSTER/KIND/NAMESPACE/NAME" in section(short, "timeline")


async def test_an_unknown_object(tmp_path: Path) -> None:
    """A 404 is shown; it is the one message that Chromium itself writes to the console."""
    server = await serve(CannedView())
    dom, _ = await chromium(tmp_path, "--virtual-time-budget=3000", "--dump-dom", server.url + "/#hub/v1/Pod/default/nobody")
    await server.stop()
    assert section(dom, "timeline") == "no recent step of this object is known"


async def test_an_empty_fleet_is_shown_as_such(tmp_path: Path) -> None:
    server = await serve(Empty())
    dom = await shown(server, tmp_path)
    await server.stop()
    assert section(dom, "fleet").startswith("not ready no leader")
    assert 'the leader is not recorded in cluster "hub" yet' in section(dom, "notready")
    assert "has no objectives yet" in section(dom, "slo")
    assert section(dom, "workers") == "none"


@pytest.mark.parametrize("width", [400, 1300])
async def test_it_fits_the_window(width: int, tmp_path: Path) -> None:
    server = await serve(CannedView())
    picture = tmp_path / "page.png"
    await chromium(tmp_path, "--virtual-time-budget=3000", f"--window-size={width},1100", f"--screenshot={picture}", server.url)
    await server.stop()
    assert picture.stat().st_size > 20_000
    if kept := os.environ.get("RAYCP_SCREENSHOTS"):
        shutil.copy(picture, Path(kept) / f"status-{width}.png")
