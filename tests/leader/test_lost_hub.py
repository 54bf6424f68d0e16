"""A hub that lies, loses the fleet's namespace, or does not answer a leader that knows nothing else: the fleet writes again, under
the right epoch, and the status says what is wrong meanwhile (laws 6 and 12)."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
import pytest_asyncio
from inprocess import CLOCK, QUIET, fleet_of, holds, problem_of, until
from lying_proxy import LIES, LyingProxy
from test_two_fleets import Fleet, Hub, count, fleet

from raycp.base.problems import ProblemCode
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.leader import fleet_record, history, revival
from raycp.leadership.locks import eligibility
from raycp.protocol.control import Down
from raycp.protocol.members import Role

NAMESPACE = "raycp-system"
PERMIT = 2.0
WITHIN = 60.0
"""Seconds, for a machine under load."""


@pytest.fixture(autouse=True)
def _hurry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(eligibility, "KNOCK_SLACK", 0.3)
    monkeypatch.setattr(revival, "GRACE", 0.2)
    samples.reset()


class Far(Hub):
    """A hub behind a proxy."""

    def __init__(self, cluster: EmbeddedCluster, kubeconfig: Path, proxy: LyingProxy) -> None:
        super().__init__(cluster, kubeconfig)
        self.proxy = proxy

    async def works(self, name: str, seconds: float = 20.0) -> None:
        """A change is reconciled."""
        await self.put(name)
        await until(lambda: count(name), seconds, f"{name} is reconciled")


@pytest_asyncio.fixture(params=[{}], ids=[""])
async def hub(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Far]:
    cluster = EmbeddedCluster("hub", EmbeddedSpec.model_validate({"controllers": {**QUIET, **request.param}}), CLOCK)
    endpoint = await cluster.start()
    proxy = LyingProxy(endpoint)
    await proxy.open()
    path = tmp_path / "hub.kubeconfig"
    config = msgspec.json.decode(endpoint.kubeconfig)
    config["clusters"][0]["cluster"] = {"server": proxy.url}
    path.write_text(msgspec.json.encode(config).decode())
    yield Far(cluster, path, proxy)
    await proxy.close()
    await cluster.stop()


@contextlib.asynccontextmanager
async def up(hub: Far, **spec: Any) -> AsyncIterator[Fleet]:
    """A fleet of that hub, ready."""
    async with fleet("first") as made:
        await (await made.begin(hub.doc("ray", **spec))).ready(seconds=WITHIN)
        yield made


def led(made: Fleet) -> tuple[int, int]:
    leader = made.status()["leader"]
    return leader["epoch"], leader["incarnation"]


def permitted(made: Fleet) -> bool:
    return all(core.permits.held for core in [*made.substrate.living(Role.SHARD), *made.substrate.living(Role.WORKER)])


# lies


SHORT = ["html", "redirect", "truncated", "a wrong type", "not found, html", "invalid utf-8", "an empty object"]


@pytest.mark.parametrize("lie", SHORT)
async def test_hub_that_lies_about_the_leadership_for_a_second_ends_nothing(hub: Far, lie: str) -> None:
    async with up(hub) as made:
        before = led(made)
        hub.proxy.about, hub.proxy.lie = "raycp-t-leader", LIES[lie]
        await until(lambda: problem_of(made.status(), ProblemCode.PROOF), what="the problem is shown")
        assert made.status()["readiness"] in ("degraded", "not-ready")
        hub.proxy.lie = None
        await until(lambda: not problem_of(made.status(), ProblemCode.PROOF))
        await until(lambda: permitted(made), what="writing goes on")
        await hub.works("after")
        assert led(made) == before, "no other epoch, no other incarnation"


async def test_hub_that_lies_for_longer_than_the_permits_stops_writing_until_it_does_not(hub: Far) -> None:
    async with up(hub) as made:
        before = led(made)
        hub.proxy.about, hub.proxy.lie = "configmaps", LIES["html"]
        await until(lambda: not permitted(made), WITHIN, "permits end")
        await until(lambda: made.status()["readiness"] == "not-ready")
        hub.proxy.lie = None
        await until(lambda: permitted(made), 10.0, "and are granted again")
        await hub.works("after")
        assert led(made) == before


async def test_hub_that_lies_about_everything_at_the_start_is_asked_again(hub: Far) -> None:
    hub.proxy.about, hub.proxy.lie = "/api", LIES["html"]
    async with fleet("first") as made:
        await made.begin(hub.doc("ray"))
        await until(lambda: problem_of(made.status(), ProblemCode.LEADERSHIP), 10.0, "the reason is shown")
        hub.proxy.lie = None
        await made.ready(seconds=WITHIN)
        await hub.works("after")


# the namespace


def stored(hub: Far) -> set[str]:
    """The records of the fleet that exist."""
    wanted = ("leader", "epoch", "fleet", "switches", "watermark-0", "slo")
    return {what for what in wanted if hub.cluster.api.get("configmaps", NAMESPACE, f"raycp-t-{what}") is not None}


ALL = {"leader", "epoch", "fleet", "switches", "watermark-0", "slo"}


@pytest.mark.parametrize("hub", [{"namespace": True}], indirect=True, ids=["deleted by the namespace controller"])
async def test_namespace_that_is_deleted_is_made_again_with_all_records(hub: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_record, "RECHECK", 0.5)
    monkeypatch.setattr(history, "RECHECK", 0.5)
    async with up(hub) as made:
        await hub.works("before")
        await until(lambda: stored(hub) == ALL, 15.0)
        before, uid = led(made), hub.cluster.api.get("namespaces", "", NAMESPACE)["metadata"]["uid"]
        await hub.cluster.api.delete("namespaces", "", NAMESPACE)

        def again() -> bool:
            found = hub.cluster.api.get("namespaces", "", NAMESPACE)
            return found is not None and found["metadata"]["uid"] != uid and stored(hub) >= {"leader", "epoch"}

        await until(again, 20.0, "namespace, lock and record of epochs")
        await hub.works("after")
        await until(lambda: stored(hub) == ALL, 20.0, "and what is stored there")
        assert led(made) == before
        await made.ready(seconds=WITHIN)
        assert hub.record("leader")["epoch"] == hub.record("epoch")["epoch"] == str(before[0])


@pytest.mark.parametrize("hub", [{"namespace": True}], indirect=True, ids=["slowly"])
async def test_while_the_namespace_terminates_the_reason_is_shown_and_then_it_is_made_again(hub: Far) -> None:
    async with up(hub) as made:
        api = hub.cluster.api
        await api.patch_merge("namespaces", "", NAMESPACE, b'{"metadata":{"finalizers":["example.com/slow"]}}')
        await api.delete("namespaces", "", NAMESPACE)
        await until(lambda: "being deleted" in problem_of(made.status(), ProblemCode.PROOF), 10.0)
        await api.patch_merge("namespaces", "", NAMESPACE, b'{"metadata":{"finalizers":null}}')
        await until(lambda: "leader" in stored(hub), 20.0, "the lock is made again")
        await until(lambda: permitted(made), 10.0)
        await hub.works("after")


async def test_next_fleet_after_the_namespace_was_deleted_waits_and_begins_above_the_floor(hub: Far) -> None:
    async with fleet("first") as first, fleet("second") as second:
        await (await first.begin(hub.doc("ray"))).ready(seconds=WITHIN)
        assert led(first)[0] == 1
        await first.killed()  # its permits run on
        for what in stored(hub):
            await hub.cluster.api.delete("configmaps", NAMESPACE, f"raycp-t-{what}")
        begun = CLOCK.now()
        await second.begin(hub.doc("ray"))
        await until(lambda: hub.record("leader").get("epoch") == "2", 15.0, "not epoch 1 again")
        await until(lambda: second.leader.hub.lock.leadership is not None, 15.0)
        assert CLOCK.now() - begun >= PERMIT, "the first fleet's permits may have been valid for so long"
        await second.ready(seconds=WITHIN)
        await hub.works("after")


async def test_floor_that_was_deleted_stands_again(hub: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.leader.hub_lock.FLOOR_EVERY", 0.5)
    async with up(hub):
        api = hub.cluster.api
        await until(lambda: api.get("customresourcedefinitions", "", "epochs.raycp.io"))
        await api.delete("customresourcedefinitions", "", "epochs.raycp.io")

        def stands() -> bool:
            found = api.get("customresourcedefinitions", "", "epochs.raycp.io")
            return found is not None and '"epoch":1' in str(found["metadata"].get("annotations"))

        await until(stands, 10.0)


# all who know the plan


async def test_leader_and_all_members_die_together_and_the_hub_is_away(hub: Far) -> None:
    async with up(hub) as made:
        await hub.works("before")
        await until(lambda: made.substrate.note is not None)
        assert made.leader.plan is not None
        token = made.leader.plan.token
        assert token not in made.substrate.note.decode(), "no secret"
        await made.killed()
        await hub.proxy.close()
        made.start_leader()
        await until(lambda: "does not answer" in str(made.status()["reasons"]), 10.0)
        (reason,) = made.status()["reasons"]
        assert reason.startswith(f"the hub of fleet t is at 127.0.0.1:{hub.proxy.port}, kubeconfig {hub.kubeconfig}")
        assert made.status()["readiness"] == "not-ready"
        await holds(lambda: not made.substrate.cores, 0.5, "nothing is created before it is known who leads")
        await hub.proxy.open()
        await until(lambda: made.status()["fleet"] == "t", 15.0)
        await made.ready(seconds=WITHIN)
        epoch = led(made)[0]
        assert epoch >= 2
        await hub.works("after")
        assert made.leader.plan is not None
        assert made.leader.plan.token != token
        await made.restart()
        await made.ready(seconds=WITHIN)
        assert led(made)[0] == epoch, "and from then on it is a fleet like any other"


async def test_fleet_that_was_taken_down_is_not_brought_back(hub: Far) -> None:
    async with up(hub) as made:
        await until(lambda: made.substrate.note is not None)
        await made.leader.ask(Down())
        assert made.substrate.note is None
        await made.die()
        made.start_leader()
        await holds(lambda: made.status()["fleet"] == "" and not made.substrate.cores, 1.0)
        assert made.status()["reasons"] == ["no fleet has been applied yet"]


async def test_fleet_that_another_one_has_led_since_is_not_brought_back(hub: Far) -> None:
    async with fleet("first") as first, fleet("second") as second:
        await (await first.begin(hub.doc("ray"))).ready(seconds=WITHIN)
        await until(lambda: first.substrate.note is not None and b'"epoch":1' in first.substrate.note)
        await first.killed()
        await (await second.begin(hub.doc("ray"))).ready(seconds=WITHIN)
        first.start_leader()
        await until(lambda: first.substrate.note is None, 10.0, "what was kept is dropped")
        await holds(lambda: first.status()["fleet"] == "" and not first.substrate.cores, 0.5)
        assert led(second)[0] == 2


async def test_fleet_that_is_applied_while_the_old_one_is_brought_back_wins(hub: Far) -> None:
    async with up(hub) as made:
        await until(lambda: made.substrate.note is not None)
        await made.killed()
        await hub.proxy.close()
        made.start_leader()
        await until(lambda: "does not answer" in str(made.status()["reasons"]), 10.0)
        other = hub.doc("ray", tiers={"standard": {"workers": {"min": 2}}})
        await made.begin(other)
        await hub.proxy.open()
        await made.ready(fleet_of(other).generation, WITHIN)
        await hub.works("after")


async def test_kept_plan_that_can_not_be_decoded_is_none(hub: Far) -> None:
    async with fleet("first") as made:
        await made.die()
        made.substrate.note = b"{\xff"
        made.start_leader()
        await (await made.begin(hub.doc("ray"))).ready(seconds=WITHIN)
