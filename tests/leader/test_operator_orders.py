"""What a person asks of a running fleet: pauses, which outlive the leader and start nothing, drains, and reconciles now."""

from typing import Any

import pytest
from inprocess import Led, fleet_doc, holds, led, problem_of, until
from test_standby import primary, ran, warm

from raycp.base.keys import RequestKey
from raycp.base.problems import ProblemCode
from raycp.protocol.control import Amended, ControlError, ErrorCode, HandOver, ReconcileNow, SetDrain, SetPause
from raycp.protocol.members import Role
from raycp.protocol.status import ReadinessState, readiness
from raycp.shard.core import ShardCore

USES = ["fleet_samples:tracked"]


def shard(fleet: Led) -> ShardCore:
    (core,) = fleet.substrate.living(Role.SHARD)
    assert isinstance(core, ShardCore)
    return core


def key(name: str, controller: str = "tracked") -> RequestKey:
    return RequestKey(controller, "here", "default", name)


def waits_for(fleet: Led, name: str, controller: str = "tracked") -> str:
    why = shard(fleet).queue.why(key(name, controller))
    return why.waits_for if why is not None else ""


@pytest.mark.parametrize(("clusters", "controllers"), [(["here"], []), ([], ["tracked"])])
async def test_a_pause_outlives_the_leader_and_what_is_due_meanwhile_is_reconciled_after_it(
    clusters: list[str], controllers: list[str]
) -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["here"], USES))
        await fleet.put("here", "tracked", "before")
        await until(lambda: ran()["before"] == 1)
        order = SetPause(True, clusters, controllers, "ann")
        paused = await fleet.leader.ask(order)
        assert paused.changed
        assert await fleet.leader.ask(order) == Amended(False, paused.generation), "once more changes nothing"
        status = await fleet.ready(paused.generation)
        assert "resume with" not in problem_of(status, ProblemCode.PAUSED)
        assert "raycp resume --c" in problem_of(status, ProblemCode.PAUSED)
        assert [row["paused"] for row in (*status["clusters"], *status["controllers"])] == [bool(clusters), bool(controllers)]
        found = readiness(fleet.leader.status())
        assert found.state is ReadinessState.READY, "a pause is wanted"
        assert ("paused", True) in [(check.name, check.ok) for check in found.checks]
        await fleet.put("here", "tracked", "meanwhile")
        await until(lambda: "it is paused" in waits_for(fleet, "meanwhile"))
        await fleet.restart()
        await fleet.ready(paused.generation)
        await fleet.put("here", "tracked", "later")
        await until(lambda: "it is paused" in waits_for(fleet, "later"))
        await holds(lambda: not ran()["meanwhile"] and not ran()["later"], 0.2)
        resumed = await fleet.leader.ask(SetPause(False, clusters, controllers))
        assert resumed.changed
        await until(lambda: ran()["meanwhile"] == ran()["later"] == 1)
        assert not problem_of(await fleet.ready(resumed.generation), ProblemCode.PAUSED)


async def test_a_pause_concerns_what_it_names_alone() -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["hub", "here", "there"], USES))
        await fleet.leader.ask(SetPause(True, ["here"], []))
        await fleet.put("here", "tracked", "paused")
        await fleet.put("there", "tracked", "free")
        await until(lambda: ran()["free"] == 1)
        assert not ran()["paused"]


async def test_a_pause_outlives_the_shard() -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["here"], USES))
        standby = await warm(fleet)
        await fleet.leader.ask(SetPause(True, ["here"], []))
        await fleet.put("here", "tracked", "a")
        await until(lambda: "it is paused" in waits_for(fleet, "a"))
        await fleet.substrate.kill(primary(fleet).member)
        await until(lambda: standby.identity.term == 2 and standby.queue.why(key("a")))
        await until(lambda: standby.dispatcher.open)
        await holds(lambda: not ran()["a"], 0.2)
        await fleet.leader.ask(SetPause(False, ["here"], []))
        await until(lambda: ran()["a"] == 1)


async def test_a_drain_is_that_of_the_fleet_file_and_can_be_undone() -> None:
    async with led() as fleet:
        doc = fleet_doc(["hub", "east"], USES)
        first = await fleet.apply(doc)
        drained = await fleet.leader.ask(SetDrain(True, ["east"]))
        assert [row["closed"] for row in (await fleet.ready(drained.generation))["clusters"]] == ["", "drained"]
        assert await fleet.leader.ask(SetDrain(True, ["east"])) == Amended(False, drained.generation)
        undone = await fleet.leader.ask(SetDrain(False, ["east"]))
        assert undone.generation == first["generation"], "the same document, as `raycp apply` would make it"


async def asked(fleet: Led, order: Any) -> tuple[ErrorCode, str]:
    with pytest.raises(ControlError) as refused:
        await fleet.leader.ask(order)
    return refused.value.code, str(refused.value)


async def test_what_can_not_be_done_is_refused_with_the_reason() -> None:
    async with led() as fleet:
        assert await asked(fleet, SetPause(True, ["here"], [])) == (
            ErrorCode.REFUSED, "no fleet runs: bring one up with `raycp run`",
        )  # fmt: skip
        assert await asked(fleet, HandOver()) == (ErrorCode.REFUSED, "no fleet runs")
        await fleet.apply(fleet_doc(["hub", "east"], USES))
        before = fleet.leader.status().generation
        missing = {
            "the fleet has no cluster 'west'; there are: hub, east": SetPause(True, ["east", "west"], []),
            "the fleet has no controller 'echo'; there are: tracked": SetPause(True, [], ["echo"]),
            "the fleet has no member 'hub'; there are: east": SetDrain(True, ["hub"]),
            "no shard 7; there are 0": HandOver(["7"]),
            "the fleet has no cluster 'west'": ReconcileNow("west", "ConfigMap", "default", "a"),
            "no controller reconciles Pod in cluster east": ReconcileNow("east", "Pod", "default", "a"),
            "controller echo does not reconcile ConfigMap": ReconcileNow("east", "ConfigMap", "default", "a", "echo"),
            "east/ConfigMap/default/a does not exist, or no controller selects": ReconcileNow("east", "ConfigMap", "default", "a"),
        }
        for told, order in missing.items():
            code, message = await asked(fleet, order)
            assert (code, told in message) == (ErrorCode.NOT_FOUND, True), message
        assert fleet.leader.status().generation == before, "what names something unknown changes nothing"
        (member,) = [each for each in fleet.substrate.cores if each.role is Role.SHARD]
        fleet.substrate.silent.add(member)
        code, message = await asked(fleet, ReconcileNow("east", "ConfigMap", "default", "a"))
        assert (code, "does not answer" in message) == (ErrorCode.BUSY, True)


@pytest.mark.parametrize("kind", ["ConfigMap", "v1/ConfigMap"])
async def test_an_object_is_reconciled_now_although_it_has_not_changed(kind: str) -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["here"], USES))
        await fleet.put("here", "tracked", "a")
        await fleet.put("here", "other", "not-selected")
        await until(lambda: ran()["a"] == 1)
        (made,) = await fleet.leader.ask(ReconcileNow("here", kind, "default", "a", by="ann"))
        assert (made.controller, made.state in ("ready", "running")) == ("tracked", True)  # the first reconcile may be ending
        await until(lambda: ran()["a"] == 2)
        steps = shard(fleet).ledger.timelines.of(key("a"))
        ((step,),) = [[each for each in steps if each.what == "requested"]]
        assert step.detail == {"by": "ann"}
        assert [each.detail["reason"] for each in steps if each.what == "received"][-1] == "requested"
        code, _ = await asked(fleet, ReconcileNow("here", kind, "default", "not-selected"))
        assert code is ErrorCode.NOT_FOUND


async def test_a_request_ends_the_backoff_of_a_key_and_no_pause() -> None:
    async with led() as fleet:
        wild = {"use": "fleet_samples:wild", "retry": {"min": "300s", "max": "300s"}}
        await fleet.apply(fleet_doc(["here"], [], controllers=[wild]))
        await fleet.put("here", "wild", "fails", do="raise")
        await fleet.put("here", "wild", "gave-up", do="permanent")
        await until(lambda: waits_for(fleet, "fails", "wild") == "its backoff")
        await until(lambda: ran()["gave-up"] == 1)
        paused = await fleet.leader.ask(SetPause(True, [], ["wild"]))
        await fleet.ready(paused.generation)
        for name in ("fails", "gave-up"):
            (made,) = await fleet.leader.ask(ReconcileNow("here", "ConfigMap", "default", name))
            assert (made.state, made.waits_for) == ("ready", "controller wild to be resumed: it is paused")
        assert ran() == {"fails": 1, "gave-up": 1}
        await fleet.leader.ask(SetPause(False, [], ["wild"]))
        await until(lambda: ran() == {"fails": 2, "gave-up": 2})
