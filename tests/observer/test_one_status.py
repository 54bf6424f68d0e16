"""Leader, observer and command line show the same status: a fleet in one process, asked in all three ways, in each state."""

import json
import re
from typing import Any

import aiohttp
import msgspec
import pytest
from inprocess import Led, fleet_doc, fleet_of, led, until
from revisions import house

from raycp.base.problems import FleetProblem
from raycp.cli.status import show, show_standby
from raycp.config import FleetDoc
from raycp.driver.upgrade import stand_by
from raycp.embedded.cluster import EmbeddedCluster
from raycp.leader.core import LeaderCore
from raycp.observer import status_feed
from raycp.protocol.control import StatusOf

Status = dict[str, Any]

NUMBERS = ("uptimeSeconds", "now", "alive", "lagSeconds", "cachedBytes", "objects", "busy", "slots", "lanes")
"""What the observer knows better than the leader, or adds."""


WORDS = {"ready": "Ready", "degraded": "Degraded", "not-ready": "NotReady"}
"""What the condition in the hub calls each readiness."""


def doc(**spec: Any) -> FleetDoc:
    return fleet_doc(["hub", "east"], ["fleet_samples:tracked"], timeouts={"syncDeadline": 1, "drain": 1}, **spec)


def facts(value: Any) -> Any:
    """A status without its numbers."""
    if isinstance(value, dict):
        return {key: facts(each) for key, each in value.items() if key not in NUMBERS}
    return [facts(each) for each in value] if isinstance(value, list) else value


class Shown:
    """What each of the four shows. ``readyz`` is its status code, ``first`` its first line, ``condition`` what the hub has; None
    where it can't have any."""

    def __init__(self, leader: Status, observer: Status, readyz: int, first: str, condition: dict[str, str] | None) -> None:
        self.condition = condition
        self.leader = leader
        self.observer = observer
        self.readyz = readyz
        self.first = first
        self.command = str(show_standby(leader, "table") if "following" in leader else show(leader, "table"))

    @property
    def agrees(self) -> bool:
        """Whether all show the same."""
        leader, observer = facts(self.leader), facts(self.observer)
        if "following" in leader:
            word = "warm" if leader["ready"] else "not warm"
            observer.pop("leader")
        else:
            word = leader["readiness"].replace("-", " ")
            observer["leader"].pop("node")
        problems = {str(problem) for problem in msgspec.convert(leader["problems"], list[FleetProblem])}
        reasons = re.findall(r"^  - (.*)$", self.command, re.MULTILINE)
        if "following" not in leader:  # the command shows problems with the time since when, once
            same = leader == observer and reasons == [each for each in leader["reasons"] if each not in problems]
        else:
            same = leader == observer and reasons == leader["reasons"]
        stored = self.condition
        if stored is not None:
            reasons = [each["message"] for each in json.loads(stored.get("problems", "[]"))]
            same = same and reasons == [each["message"] for each in leader["problems"]]
            same = same and (stored.get("reason"), stored.get("status")) == (WORDS[leader["readiness"]], str(leader["ready"]))
        same = same and self.first == f"{leader['verdict']['word']}: {leader['verdict']['text']}"
        if "following" not in leader:
            same = same and self.command.splitlines()[0] == self.first
        return same and self.readyz == (200 if leader["ready"] else 503) and f"({word})" in self.command


async def shown(leader: LeaderCore, hub: EmbeddedCluster | None = None) -> Shown:
    """Ask all, the ``hub`` too where it is given. The observer may be a moment behind: fails when they don't agree within
    seconds."""

    async def ask() -> Shown | None:
        found = msgspec.json.decode(msgspec.json.encode(await leader.ask(StatusOf())))
        if not found["observer"]["url"]:
            return None
        async with aiohttp.ClientSession(found["observer"]["url"]) as session:
            async with session.get("/api/v1/status") as answer:
                observer = await answer.json()
            async with session.get("/readyz?verbose") as answer:
                readyz, first = answer.status, (await answer.text()).splitlines()[0]
        stored = hub.api.get("configmaps", "raycp-system", "raycp-t-condition") if hub is not None else {}
        made = Shown(found, observer, readyz, first, stored["data"] if stored else None if hub is None else {})
        return made if made.agrees else None

    found: Shown = await until(ask, 10.0, "leader, observer, command line and hub agree")
    return found


async def standbys_on_the_page(fleet: Led) -> list[int]:
    return [row["standby"] for row in await fleet.substrate.living("observer")[0].view.shards()]


async def test_a_starting_fleet() -> None:
    async with led() as fleet:
        fleet.substrate.refuse = lambda member: RuntimeError("no room") if member.role == "worker" else None
        await fleet.leader.apply(fleet_of(doc()))
        await until(lambda: fleet.status()["observer"].get("ready"), 20.0)
        found = await shown(fleet.leader, fleet.cluster("hub"))
        assert (found.readyz, found.leader["ready"]) == (503, False)
        assert "worker standard/0 is not there yet" in found.leader["reasons"]
        assert "no room" in found.command


async def test_a_ready_fleet_whose_standby_dies() -> None:
    async with led() as fleet:
        await fleet.apply(doc(shards={"standby": 1}))
        await until(lambda: fleet.status()["shards"][0]["standbys"] == 1, 10.0)
        found = await shown(fleet.leader, fleet.cluster("hub"))
        assert (found.readyz, found.leader["ready"]) == (200, True)
        assert await standbys_on_the_page(fleet) == [1]
        fleet.substrate.refuse = lambda member: RuntimeError("no room") if member.role == "standby" else None
        await fleet.substrate.kill(fleet.substrate.living("standby")[0].member)
        await until(lambda: fleet.status()["shards"][0]["standbys"] == 0, 10.0)
        found = await shown(fleet.leader)
        assert (found.readyz, found.leader["standbys"][0]["state"]) == (200, "missing"), "a fleet works without its standbys"
        assert await standbys_on_the_page(fleet) == [0]


@pytest.mark.parametrize(("down", "code", "readiness"), [("east", 200, "degraded"), ("hub", 503, "not-ready")])
async def test_a_cluster_that_is_down_past_the_sync_deadline(down: str, code: int, readiness: str) -> None:
    """It holds readiness back only where it is the hub; else the fleet is degraded."""
    made = doc().model_dump(mode="json", by_alias=True)
    row = next(row for row in made["spec"]["clusters"] if row["name"] == down)
    row["embedded"] = {**row["embedded"], "faults": [{"kind": "error", "status": 503}]}
    async with led() as fleet:
        await fleet.leader.apply(fleet_of(FleetDoc.model_validate(made)))
        await until(lambda: fleet.status()["observer"].get("ready"), 20.0)
        if code == 200:
            await fleet.ready()
        found = await shown(fleet.leader, fleet.cluster("hub") if down != "hub" else None)
        assert (found.readyz, found.leader["readiness"]) == (code, readiness)
        assert {"cluster": down} in [row["owner"] for row in found.leader["problems"]]
        assert not next(row for row in found.observer["clusters"] if row["name"] == down)["synced"]


async def test_a_fleet_that_stands_by() -> None:
    async with house() as fleet:
        await fleet.up(fleet_doc(["here"], ["fleet_samples:tracked"]))
        await stand_by(fleet.client, fleet_of(fleet_doc(["here"], ["fleet_samples:tracked"], timeouts={"drain": 2})))
        leader = fleet.other.leader
        assert leader is not None
        found = await shown(leader)
        assert (found.readyz, found.observer["warm"], found.observer["following"]) == (200, True, "raycp-t")
        assert found.observer["clusters"][0]["synced"], "as its standbys see it"


async def test_while_the_leader_is_dead_the_members_speak_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_feed, "SILENT_AFTER", 1.5)
    async with led() as fleet:
        await fleet.apply(doc())
        view = fleet.substrate.living("observer")[0].view
        await until(lambda: fleet.status()["ready"])
        await fleet.die()

        async def silent() -> bool:
            return "silentSince" in (await view.status())["leader"]

        await until(silent, what="the leader is shown as silent")
        status = await view.status()
        assert not status["leader"]["alive"]
        assert status["ready"], "its members work on under their permits"
        assert [check.name for check in await view.ready() if not check.ok] == ["leader-reports"]
        assert (status["readiness"], status["problems"][0]["code"]) == ("degraded", "LeaderSilent")
        await fleet.substrate.kill(fleet.substrate.living("worker", "standard/0")[0].member)

        async def noticed() -> bool:
            return any(re.match(r"worker standard/0: silent for \d+ s", reason) for reason in (await view.status())["reasons"])

        await until(noticed, what="the worker's silence")
        assert not (await view.status())["ready"]
