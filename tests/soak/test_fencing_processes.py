"""Law 6 with real processes on two Ray nodes: for each clause the sequence that would break it. The old holder's write must not
take effect.

The second node can be frozen as a whole (raylet and actors), so that Ray does not end the old holder before it resumes.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import invariants
import psutil
import pytest
from apis import Api
from rayhouse import House, Node, house, until
from soakrun import CONFIG_MAPS, MERGE, api_servers, at_ray, bring_up, fleet_file

from raycp.driver.fleet_client import FleetClient

pytestmark = [pytest.mark.ray, pytest.mark.timeout(150)]


PATIENT = {"RAY_health_check_failure_threshold": "40"}
"""Ray must not end the frozen processes, since the test resumes them."""


FROZEN = 15.0
"""Seconds for which a primary is frozen."""


class Fenced:
    """A fleet of one cluster on two nodes; permits of 2 s."""

    def __init__(self, at: House, far: Node, kubeconfig: Path, client: FleetClient) -> None:
        self.house = at
        self.far = far
        self.kubeconfig = kubeconfig
        self.client = client

    def logged(self, what: str, key: str) -> list[dict[str, Any]]:
        """The lines of the controller's log about a key."""
        file = self.house.home / "diary.jsonl"
        lines = [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []
        return [line for line in lines if line["what"] == what and line["key"] == key]

    def status(self) -> dict[str, Any]:
        return asyncio.run(self.client.status())

    def whole(self, primary_far: bool = False) -> dict[str, Any]:
        """Wait until all members are ready, with a worker on each node; returns the status. The fleet places the primary away
        from the leader, on the far node, as long as that has not been frozen.
        """

        def good() -> dict[str, Any] | None:
            status = self.status()
            rows = (*status["standbys"], *status["workers"])
            far = self.far.pids()
            if status["unsettled"] or not rows or not all(row["ready"] for row in rows):
                return None
            if primary_far and (status["shards"][0]["pid"] not in far or any(row["pid"] in far for row in status["standbys"])):
                return None
            return status if len({row["pid"] in far for row in status["workers"]}) == 2 else None

        found: dict[str, Any] = until(good, 45.0, f"whole: {self.status()}")
        return found

    def user(self, work: Any) -> Any:
        """``await work(api)``, as a user of the cluster."""

        async def go() -> Any:
            api = await Api.connect("hub", self.kubeconfig)
            try:
                return await work(api)
            finally:
                await api.close()

        return asyncio.run(go())

    def put(self, name: str, n: int, **data: str) -> None:
        body = {"metadata": {"name": name, "labels": {"app": "frozen"}}, "data": {"n": str(n), **data}}
        self.user(lambda api: api.sure("POST", CONFIG_MAPS, body, done=(409,)))

    def change(self, name: str, n: int) -> None:
        patch = {"data": {"n": str(n)}}
        self.user(lambda api: api.sure("PATCH", f"{CONFIG_MAPS}/{name}", patch, content_type=MERGE))

    def data(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.user(lambda api: api.sure("GET", f"{CONFIG_MAPS}/{name}"))["data"]
        return found

    def open(self, name: str) -> None:
        (self.house.home / f"open-{name}").touch()

    @contextlib.contextmanager
    def only_far(self) -> Iterator[Callable[[], None]]:
        """Keep the only slot of the near worker busy, so that the far one gets the next task; the function releases it."""
        names = []
        try:
            while True:
                names.append(f"busy-{time.monotonic_ns()}")
                self.put(names[-1], 1, gate="yes")
                if not until(lambda: self.logged("begin", names[-1]), 10.0, "busy")[0]["there"]:
                    break
            for name in names[:-1]:
                self.open(name)
                until(lambda name=name: self.logged("end", name), 10.0, "the far worker has a free slot")
            yield lambda: self.open(names[-1])
        finally:
            self.open(names[-1])

    def writes(self) -> list[dict[str, Any]]:
        async def gather(api: Api) -> list[dict[str, Any]]:
            await api.gather()
            return api.writes

        found: list[dict[str, Any]] = self.user(gather)
        return found


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fenced]:
    with house(tmp_path_factory.mktemp("home"), PATIENT) as at, api_servers(at.home, ["hub"]) as servers:
        config = {"diary": str(at.home / "diary.jsonl"), "address": "127.0.0.2"}
        path = fleet_file(
            at, "fenced", {"hub": servers["hub"].kubeconfig}, [{"use": "frozen:frozen", "config": config}],
            leader={"permit": "2s"}, workers={"cpus": 3, "slots": 1},  # one per node: each node has four
            tiers={"standard": {"workers": {"min": 2, "max": 2}}},
        )  # fmt: skip
        path.write_text(path.read_text().replace("1500ms", "1s"))
        with at_ray(at.address):
            client = FleetClient("raycp-fenced")
            asyncio.run(client.ensure_leader({}))  # on the head, the only node so far
            made = Fenced(at, at.add_node("far"), servers["hub"].kubeconfig, client)
            asyncio.run(bring_up(path, client))
            yield made


def test_a_primary_frozen_for_long_changes_nothing_when_it_resumes(fleet: Fenced) -> None:
    """Frozen for ``FROZEN`` seconds with permits of 2 s: replaced after the permit; when it resumes, nothing of its term takes
    effect.
    """
    status = fleet.whole(primary_far=True)
    primary = status["shards"][0]["pid"]
    term = status["shards"][0]["term"]
    begun = time.monotonic()
    fleet.far.freeze()
    try:
        fleet.put("meanwhile", 1)
        until(
            lambda: fleet.data("meanwhile").get("by") == "1", 14.0, f"the successor works: {status['shards'], status['standbys']}"
        )
        gap = time.monotonic() - begun
        assert fleet.status()["shards"][0]["term"] > term
        fleet.put("more", 1)
        until(lambda: fleet.data("more").get("by") == "1", 10.0, "and goes on")
        time.sleep(max(0.0, begun + FROZEN - time.monotonic()))
    finally:
        fleet.far.thaw()
    woken = time.time()
    until(lambda: not psutil.pid_exists(primary) or psutil.Process(primary).status() == "zombie", 15.0, "the old primary ends")
    fleet.change("meanwhile", 2)
    until(lambda: fleet.data("meanwhile").get("by") == "2", 10.0, "undisturbed")
    assert gap < 2.0 + 2.0 + 4.0, f"succeeded after {gap:.1f} s"
    writes = fleet.writes()
    assert not [w for w in writes if w["term"] and int(w["term"]) <= term and w["time"] > woken]
    assert not invariants.late_writes({"hub": writes})


def test_a_key_in_flight_is_held_when_its_primary_dies(fleet: Fenced) -> None:
    """Law 6g: no second hand-out before the running worker's acknowledgement, and other keys do not wait for it."""
    status = fleet.whole()
    fleet.put("held", 1, gate="yes")
    until(lambda: fleet.logged("begin", "held"), 10.0, "in work")
    try:
        os.kill(status["shards"][0]["pid"], signal.SIGKILL)
        fleet.change("held", 2)
        fleet.put("other", 1)
        until(lambda: fleet.logged("wrote", "other"), 10.0, "others go on")
        assert fleet.status()["shards"][0]["term"] > status["shards"][0]["term"]
        quiet = time.monotonic() + 1.0
        while time.monotonic() < quiet:
            assert len(fleet.logged("begin", "held")) == 1, "handed out a second time while a running worker reconciles it"
            time.sleep(0.05)
    finally:
        fleet.open("held")
    until(lambda: fleet.data("held").get("by") == "2", 10.0, "the change that was made meanwhile")
    entries = [json.loads(line) for line in (fleet.house.home / "diary.jsonl").read_bytes().splitlines()]
    assert not invariants.overlaps(invariants.spans([e for e in entries if "id" in e], {}))
    assert fleet.logged("fenced", "held"), "a task of the old primary cannot write"


@pytest.mark.parametrize("how", ["send", "create", "renewal"])
def test_a_worker_frozen_at_the_worst_moment_writes_nothing(fleet: Fenced, how: str) -> None:
    """Law 6c and law 6e: frozen between check and sending, or with a permit in its buffer; resumed after its successor wrote."""
    fleet.whole()
    name = f"frozen-{how}"
    try:
        with fleet.only_far() as let_near_go:
            fleet.put(name, 1, freeze=how)
            frozen = until(lambda: fleet.logged("frozen", name), 10.0, "frozen")[0]
            until(lambda: psutil.Process(frozen["pid"]).status() == psutil.STATUS_STOPPED, 5.0, "stopped")
            fleet.far.freeze()
            let_near_go()
        until(lambda: fleet.data(name).get("by") == "1", 15.0, "its successor wrote")
        successor = fleet.data(name)["process"]
        assert successor != str(frozen["pid"])
        fleet.open(name)
        os.kill(frozen["pid"], signal.SIGCONT)
        if how == "renewal":
            outcome = until(lambda: fleet.logged("fenced", name), 5.0, "its write was refused before it was sent")[0]
            assert "permit" in outcome["error"]
        else:
            outcome = until(lambda: fleet.logged("answered", name), 5.0, "its write was answered")[0]
            assert outcome["status"] == 409, "refused by the server: it had passed the local check"
        assert outcome["pid"] == frozen["pid"]
        assert fleet.data(name)["process"] == successor
    finally:
        fleet.far.thaw()
    mine = [(w["verb"], w["resource"]) for w in fleet.writes() if w["name"] == name and w["term"]]
    assert mine == [("create", "secrets"), ("patch", "configmaps")][how != "create" :]
