"""The console's history and changes over the observer's death, in a fleet in one process, with the record that it leaves in the
hub: whole, and damaged."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from inprocess import Led, fleet_doc, fleet_of, led, problem_of, until
from revisions import Revision, house

from raycp.base.problems import ProblemCode
from raycp.driver.upgrade import upgrade
from raycp.observer import core as observer_core
from raycp.observer.chronicle import Chronicle
from raycp.observer.core import ObserverCore

RECORD = ("configmaps", "raycp-system", "raycp-t-history")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer_core, "STORED_EVERY", 0.0)
    monkeypatch.setattr(observer_core, "CHANGES_EVERY", 0.1)


def observer(fleet: Led) -> ObserverCore:
    found: ObserverCore = fleet.substrate.living("observer")[0]
    return found


async def changes(fleet: Led) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession(fleet.status()["observer"]["url"]) as session, session.get("/changes.json") as answer:
        found: list[dict[str, Any]] = (await answer.json())["changes"]
        return found


Changes = Callable[[], Awaitable[list[dict[str, Any]]]]


async def told(changes: Changes, subject: str, *words: str) -> dict[str, Any]:
    """The change of this subject in one of these words, once it is there."""

    async def found() -> dict[str, Any] | None:
        return next((row for row in await changes() if row["subject"] == subject and row["what"] in words), None)

    row: dict[str, Any] = await until(found, 15.0, f"a change: {subject} {words}")
    return row


async def named(fleet: Led, subject: str, *words: str) -> dict[str, Any]:
    """See ``told``: over HTTP."""
    return await told(lambda: changes(fleet), subject, *words)


BACK = ("replaced", "started")
"""Where its successor is there within a look, or later."""


def stored(fleet: Led) -> dict[str, str]:
    record = fleet.cluster("hub").api.get(*RECORD)
    return record["data"] if record else {}


async def replaced(fleet: Led) -> None:
    """Another observer, which listens."""
    before = observer(fleet)
    await fleet.substrate.kill(before.member)

    def listens() -> bool:
        row = fleet.status()["observer"]
        living = fleet.substrate.living("observer")
        return bool(living and living[0] is not before and row["ready"] and row["member"] == living[0].member.actor_name)

    await until(listens, 15.0, "another observer")


def doc() -> Any:
    return fleet_doc(["hub", "east"], ["fleet_samples:tracked"], state={"checkpoint": 0.3})


async def test_another_observer_goes_on() -> None:
    async with led() as fleet:
        await fleet.apply(doc())
        await named(fleet, "leader", "started")
        worker = fleet.substrate.living("worker")[0]
        await fleet.substrate.kill(worker.member)
        died = await named(fleet, "worker standard/0", *BACK)
        await until(lambda: "state" in stored(fleet), 10.0)
        before = stored(fleet)["state"]
        await until(lambda: stored(fleet)["state"] != before, 10.0, "the death is stored")
        await replaced(fleet)
        assert (await named(fleet, "worker standard/0", died["what"]))["at"] == died["at"]
        assert (await named(fleet, "observer observer", *BACK))["at"] > died["at"], "which it sees of itself"


async def test_a_new_leader_brings_no_false_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first status knows neither members nor clusters."""
    looks, look = 0, Chronicle.look

    async def counted(chronicle: Chronicle) -> None:
        nonlocal looks
        await look(chronicle)
        looks += 1

    monkeypatch.setattr(Chronicle, "look", counted)
    async with led() as fleet:
        await fleet.apply(doc())
        await named(fleet, "leader", "started")
        view = observer(fleet).view

        async def all_there() -> bool:
            status = await view.status()
            standbys = status["standbys"]
            return status["readiness"] == "ready" and bool(standbys) and all(row["member"] and row["ready"] for row in standbys)

        await until(all_there, what="what comes up late is news of its own")
        seen = looks
        await until(lambda: looks > seen + 1, what="the observer has looked since")
        before = await view.changes()
        await fleet.die()
        fleet.start_leader()
        await told(view.changes, "leader", "switched")
        await fleet.ready()
        later = [row for row in await view.changes() if row["seq"] > max(each["seq"] for each in before)]
        assert {row["kind"] for row in later} <= {"switch", "readiness"}, later


async def test_a_damaged_record_is_a_problem_and_the_history_begins_anew() -> None:
    async with led() as fleet:
        await fleet.apply(doc())
        await named(fleet, "leader", "started")
        await until(lambda: "state" in stored(fleet), 10.0)
        api = fleet.cluster("hub").api
        before = observer(fleet)
        await fleet.substrate.kill(before.member)
        damaged = base64.b64encode(b"not a history").decode()
        await api.patch_merge(*RECORD, msgspec.json.encode({"data": {"state": damaged}}))
        await until(lambda: fleet.status()["observer"]["ready"], 15.0)
        await named(fleet, "observer", "began anew")
        await until(lambda: stored(fleet)["state"] != damaged, 10.0, "it is written over")
        assert "what was stored is refused" in (await named(fleet, "observer", "began anew"))["text"]
        await until(lambda: not problem_of(fleet.status(), ProblemCode.STATE_NOT_STORED), 10.0, "the problem ends")


@pytest.mark.wide
async def test_a_fleet_that_takes_over_goes_on() -> None:
    async with house() as fleet:
        await fleet.up(fleet_doc(["here"], ["fleet_samples:tracked"]))

        def known(revision: Revision) -> Changes:
            return lambda: revision.living("observer")[0].view.changes()

        await told(known(fleet.base), "leader", "started")
        await fleet.base.kill(fleet.base.living("worker")[0].member)
        back = await told(known(fleet.base), "worker standard/0", *BACK)
        result = await upgrade(fleet.client, fleet_of(fleet_doc(["here"], ["fleet_samples:tracked"], timeouts={"drain": 3})))
        assert not result.problem

        over = await told(known(fleet.other), "leader", "switched")
        rows = await known(fleet.other)()
        assert back["at"] in [row["at"] for row in rows if row["subject"] == "worker standard/0"], "and what was before"
        assert next(row["text"] for row in rows if row["kind"] == "apply").startswith("changed spec.timeouts; generation ")
        assert over["kind"] == "hand-over"
        assert not [row for row in rows if row["kind"] == "process" and row["at"] > over["at"]], "its processes are all others"
