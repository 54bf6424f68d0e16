"""From one fleet to another, warm to warm: nothing lost, nothing twice, and a clean return wherever a side dies. Without Ray."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import fleet_of, holds, until
from revisions import LEADER, House, Revision, house
from test_standby import doc, ran

from raycp.config import FleetDoc
from raycp.driver.fleet_client import FleetError
from raycp.driver.upgrade import abandon, stand_by, switch, upgrade
from raycp.protocol.control import Apply, FollowPrimaries, Prepare, Question, Release, Rest, Slo, TakeLead
from raycp.protocol.members import Member
from raycp.protocol.plan import Fleet
from raycp.protocol.substrate import MemberFailed, MemberUnavailable

PERMIT = {"leader": {"permit": 1.5}}


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


def newer(*uses: str, **spec: Any) -> FleetDoc:
    """Another generation of the same fleet."""
    return doc(*(uses or ("tracked",)), workers={"slots": 16}, **spec)


class Load:
    """Creates ConfigMaps; ``names`` are those that the server has taken."""

    def __init__(self, fleet: House) -> None:
        self.names: list[str] = []
        self._fleet = fleet
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            name = f"w{len(self.names)}"
            await self._fleet.put("here", "tracked", name)
            self.names.append(name)
            await asyncio.sleep(0.03)

    def stop(self) -> None:
        self._task.cancel()

    async def more(self, count: int = 10) -> None:
        wanted = len(self.names) + count
        await until(lambda: len(self.names) >= wanted)

    async def settled(self, seconds: float = 15.0) -> None:
        """No change was lost, none was worked on by two at once."""
        self.stop()
        await until(lambda: all(ran()[name] >= 1 for name in self.names), seconds, "every change is reconciled")
        assert not samples.OVERLAPS


@contextlib.asynccontextmanager
async def loaded(first: FleetDoc | None = None) -> AsyncIterator[tuple[House, Load]]:
    """A fleet that leads, under load."""
    async with house() as fleet:
        await fleet.up(first or doc("tracked"))
        samples.DELAY = 0.01
        load = Load(fleet)
        await load.more()
        try:
            yield fleet, load
        finally:
            load.stop()


def leads(revision: Revision) -> int:
    """The epoch that a revision leads in, 0 if it does not."""
    leader = revision.leader
    leadership = leader.hub.lock.leadership if leader is not None else None
    return leadership.epoch if leadership is not None else 0


def epochs(fleet: House) -> list[int]:
    """Of the writes that the hub has taken, in order."""
    return [int(each.epoch) for each in fleet.cluster("here").recorder.select("secrets") if each.epoch]


# the switch


async def test_upgrade_under_load_loses_nothing() -> None:
    async with loaded() as (fleet, load):
        yielded = await upgrade(fleet.client, fleet_of(newer()))
        await load.more()
        await load.settled()
        assert (yielded.epoch, yielded.shards, yielded.cold, yielded.problem) == (2, ["0"], [], "")
        await fleet.until_stopped(fleet.base)
        status = await fleet.client.status()
        assert status["leader"]["epoch"] == 2
        assert status["shards"][0]["term"] == 2
        assert fleet.other.leader is not None
        await until(lambda: fleet.other.leader.history.rows()[-1]["rampUp"] is not None)
        rows = fleet.other.leader.history.rows()
        assert [(row["cause"], row["what"]) for row in rows[-2:]] == [("upgrade", "leader"), ("upgrade", "shard 0")]
        assert all(rows[-1][phase] is not None for phase in ("drain", "leaderless", "rampUp", "backlog"))
        assert fleet.base.living("embedded"), "embedded clusters belong to the fleet, not to the revision"
        back = await upgrade(fleet.client, fleet_of(doc("tracked")))
        assert (back.to, back.epoch) == ("raycp-t", 3)
        names = [
            member.actor_name for revision in fleet.revisions.values() for member in revision.created if member.role != "embedded"
        ]
        assert len(names) == len(set(names)), "no name was used twice"


async def test_upgrade_repeats_no_reconcile_and_no_old_epoch_writes() -> None:
    async with house() as fleet:
        await fleet.up(doc("parent"))
        for number in range(30):
            await fleet.put("here", "parent", f"p{number}")
        await until(lambda: len(ran()) == 30)
        await until(lambda: len(epochs(fleet)) == 30)
        await stand_by(fleet.client, fleet_of(newer("parent")))
        standby = fleet.other.living("standby")[0]
        lists = {str(kind): informer.store for kind, informer in standby.caches.clusters["here"].informers.items()}
        samples.RAN.clear()
        await switch(fleet.client)
        await fleet.put("here", "parent", "after")
        await until(lambda: ran()["after"] >= 1)
        primary = fleet.other.living("standby")[0]
        assert primary.identity.term == 2
        assert {str(k): i.store for k, i in primary.caches.clusters["here"].informers.items()} == lists, "no relist"
        await holds(lambda: set(ran()) == {"after"}, 0.3, "no storm")
        await until(lambda: epochs(fleet)[-1] == 2)
        assert epochs(fleet) == sorted(epochs(fleet))


async def test_reconcile_beyond_the_grace_is_interrupted_and_run_by_the_new_fleet() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked"))
        await stand_by(fleet.client, fleet_of(newer()))
        samples.DELAY = 0.8
        await fleet.put("here", "tracked", "long")
        await until(lambda: ran()["long"] == 1)
        yielded = await switch(fleet.client)
        assert yielded.revoked == 1
        await until(lambda: ran()["long"] == 2)
        assert not samples.OVERLAPS


async def test_reconcile_that_can_not_be_stopped_delays_the_upgrade_and_nothing_else() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked", "threaded"))
        await fleet.put("here", "threaded", "stuck")
        await until(lambda: ran()["stuck"] == 1)
        with pytest.raises(FleetError, match="did not end within"):
            await upgrade(fleet.client, fleet_of(newer("tracked", "threaded")))
        await fleet.until_stopped(fleet.other)
        assert leads(fleet.base) == 1
        await fleet.put("here", "tracked", "on")
        await until(lambda: ran()["on"] == 1)
        samples.OPEN["stuck"] = True
        await until(lambda: not len(fleet.base.living("shard")[0].ledger))
        assert (await upgrade(fleet.client, fleet_of(newer("tracked", "threaded")))).epoch == 2


async def test_no_member_of_the_old_fleet_may_write_once_the_new_one_leads() -> None:
    held: list[bool] = []

    async def look(_: Revision, __: Member) -> None:
        holders = [*fleet.base.living("shard"), *fleet.base.living("worker")]
        for holder in holders:
            await holder.permits.pull()
            held.append(holder.permits.held or holder.permits.left() > 0)

    async with house() as fleet:
        await fleet.up(doc("tracked"))
        await stand_by(fleet.client, fleet_of(newer()))
        fleet.after = at("lead", after=True, act=look)
        await switch(fleet.client)
        assert held == [False] * len(held)
        assert len(held) >= 2


async def test_active_fleet_is_never_dismissed() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked"))
        with pytest.raises(FleetError, match="is active"):
            await fleet.client.dismiss("raycp-t", force=False)
        assert fleet.base.living("embedded")
        assert leads(fleet.base) == 1


async def test_upgrade_adds_and_removes_controllers() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked", "plain"))
        await fleet.put("here", "plain", "old")
        await until(lambda: ran()["old"] == 1)
        await fleet.put("here", "parent", "waiting")
        samples.RAN.clear()
        await upgrade(fleet.client, fleet_of(newer("tracked", "parent")))
        await until(lambda: ran()["waiting"] >= 1, what="objects of before reach the new controller")
        await fleet.put("here", "plain", "unmatched")
        await fleet.put("here", "tracked", "matched")
        await until(lambda: ran()["matched"] == 1)
        assert not ran()["unmatched"]


async def test_upgraded_fleet_can_be_changed_and_restarted() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked", **PERMIT))
        await upgrade(fleet.client, fleet_of(newer(**PERMIT)))
        after = fleet_of(doc("tracked", "plain", **PERMIT))
        await fleet.client.apply(after)
        await fleet.client.wait_ready(after.generation, 10.0)
        await fleet.other.lose_leader()
        fleet.other.lead()
        await until(lambda: leads(fleet.other) == 2, what="its leader goes on in the same epoch")
        status = await fleet.client.wait_ready(after.generation, 10.0)
        assert status["leader"]["incarnation"] == 3
        await fleet.put("here", "plain", "a")
        await until(lambda: ran()["a"] == 1)
        await fleet.client.down(2.0)
        assert not await fleet.client.exists()


async def test_upgrade_adds_and_removes_clusters() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked", clusters=("hub", "east")))
        await fleet.put("east", "tracked", "e")
        await until(lambda: ran()["e"] == 1)
        await stand_by(fleet.client, fleet_of(newer(clusters=("hub", "east", "west"))))
        assert not fleet.base.living("embedded", "west"), "only the fleet that leads makes clusters"
        await switch(fleet.client)
        await until(lambda: fleet.base.living("embedded", "west"))
        await fleet.client.wait_ready(fleet_of(newer(clusters=("hub", "east", "west"))).generation, 20.0)
        await fleet.put("west", "tracked", "w")
        await fleet.put("east", "tracked", "e2")
        await until(lambda: ran()["w"] == 1 and ran()["e2"] == 1)
        assert ran()["e"] == 1
        await upgrade(fleet.client, fleet_of(newer(clusters=("hub", "west"))))
        await until(lambda: not fleet.base.living("embedded", "east"), 10.0, "the new fleet ends what it does not want")
        await fleet.put("west", "tracked", "w2")
        await until(lambda: ran()["w2"] == 1)


async def test_upgraded_shards_go_on_waking_each_other() -> None:
    """Hub and members in shards of their own: an owner's children in another shard, made once, before and after and meanwhile."""
    clusters, shards = ("hub", "east", "west"), {"clustersPerShard": 1, "standby": 1}
    async with house() as fleet:
        await fleet.up(doc("remote", clusters=clusters, shards=shards))
        upgrading = None
        for number in range(60):
            await fleet.put("hub", "remote", f"r{number}")
            if number == 20:
                upgrading = asyncio.ensure_future(
                    upgrade(fleet.client, fleet_of(newer("remote", clusters=clusters, shards=shards)))
                )
            await asyncio.sleep(0.03)
        assert upgrading is not None
        yielded = await upgrading
        assert (yielded.shards, yielded.cold) == (["0", "1", "2"], [])
        await until(lambda: all(samples.CHILDREN.get(("hub", f"r{number}")) == ["east", "west"] for number in range(60)), 15.0)
        for member in ("east", "west"):
            made = [each.name for each in fleet.cluster(member).recorder.select("secrets", "create")]
            assert len(made) == len(set(made)) == 60
        assert not samples.OVERLAPS


async def test_cluster_that_changes_its_shard_starts_from_the_watermark() -> None:
    clusters, spread = ("hub", "east", "west"), {"clustersPerShard": 1, "standby": 1}
    old = [f"{cluster}-{number}" for cluster in clusters[1:] for number in range(10)]
    slow = {"spread": "9h"}
    async with house() as fleet:
        await fleet.up(doc("tracked", clusters=clusters, timeouts=slow))
        for name in old:
            await fleet.put(name.split("-")[0], "tracked", name)
        await until(lambda: len(ran()) == 20)

        def kept() -> bool:
            record = fleet.cluster("hub").api.get("configmaps", "raycp-system", "raycp-t-watermark-0")
            return record is not None and "west" in record["data"]

        await until(kept, what="the watermark is in the hub")
        yielded = await upgrade(fleet.client, fleet_of(newer(clusters=clusters, shards=spread, timeouts=slow)))
        assert yielded.shards == ["0"]
        for cluster in clusters[1:]:
            await fleet.put(cluster, "tracked", f"{cluster}-new")
        await until(lambda: all(ran()[f"{cluster}-new"] == 1 for cluster in clusters[1:]), 15.0)
        again = [name for name in old if ran()[name] != 1]
        assert len(again) <= 2, "what was reconciled is known by the watermark: at most one or two are due early in the spread"
        assert not samples.OVERLAPS


async def test_slo_sums_continue_after_an_upgrade() -> None:
    slo = [{"controller": "tracked", "objective": 0.99, "within": "1s"}]
    async with house() as fleet:
        await fleet.up(doc("tracked", slo=slo))
        for number in range(20):
            await fleet.put("here", "tracked", f"a{number}")
        await until(lambda: len(ran()) == 20)
        await upgrade(fleet.client, fleet_of(newer(slo=slo)))
        for number in range(5):
            await fleet.put("here", "tracked", f"b{number}")

        async def counted() -> bool:
            return (await fleet.client.ask_observer(Slo()))[0]["total"] == 25.0

        await until(counted, 15.0, "all that both have counted")


# standing by


async def test_standby_fleet_writes_nothing() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked"))
        await fleet.put("here", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        namespace = await stand_by(fleet.client, fleet_of(newer()))
        assert namespace == "raycp-t.b"
        beside = await fleet.client.beside()
        assert beside is not None
        assert beside["warm"]
        assert beside["standbys"][0]["cachedBytes"] > 0
        assert beside["standbys"][0]["lagSeconds"] < 2.0
        observer = fleet.other.living("observer")[0]

        async def ready() -> bool:
            return all(check.ok for check in await observer.view.ready())

        await until(ready, what="/readyz of a standby fleet")
        await until(lambda: "here" in observer._clients._clients, what="the way to the hub is there before the switch")
        assert leads(fleet.other) == 0
        record = fleet.cluster("here").api.get("configmaps", "raycp-system", "raycp-t-leader")
        assert record["data"]["epoch"] == "1"
        await fleet.put("here", "tracked", "b")
        await until(lambda: ran()["b"] == 1)
        standby = fleet.other.living("standby")[0]
        await until(lambda: any(key.name == "b" for key in standby.ledger.reconciled), what="it follows")
        with pytest.raises(MemberFailed, match="it is changed by `raycp upgrade`"):
            await fleet.other.ask(LEADER, Apply(fleet_of(doc("tracked"))))
        assert await abandon(fleet.client)
        assert not await abandon(fleet.client)
        await fleet.until_stopped(fleet.other)
        assert fleet.base.living("embedded")
        await fleet.put("here", "tracked", "c")
        await until(lambda: ran()["c"] == 1)


def described(fleet: Fleet, text: str) -> Fleet:
    """The same with another description in its CRDs, and so another generation."""
    controllers = []
    for known in fleet.controllers:
        crds = [json.loads(crd) for crd in known.crds]
        for crd in crds:
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = text
        controllers.append(msgspec.structs.replace(known, crds=tuple(json.dumps(crd, sort_keys=True) for crd in crds)))
    return msgspec.structs.replace(fleet, controllers=tuple(controllers), generation=f"{fleet.generation}-{text}")


async def test_standby_fleet_installs_missing_crds_and_changed_ones_at_the_switch() -> None:
    def found() -> str | None:
        crd = fleet.cluster("here").api.get("customresourcedefinitions", "", "batchjobs.batch.raycp.io")
        return None if crd is None else crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].get("description", "")

    async with house() as fleet:
        await fleet.up(doc("tracked"))
        assert found() is None
        spec = doc("tracked").model_dump(mode="json", by_alias=True, exclude_unset=True)
        spec["spec"]["controllers"].append({"use": "raycp.controllers.batchjob"})
        with_jobs = fleet_of(FleetDoc.model_validate(spec))
        await stand_by(fleet.client, described(with_jobs, "one"))
        assert found() == "one", "it could not watch its kind otherwise"
        await switch(fleet.client)
        await stand_by(fleet.client, described(with_jobs, "two"))
        assert found() == "one", "the fleet that leads works with this one"
        await switch(fleet.client)
        assert found() == "two"


async def test_standby_fleet_that_does_not_get_warm_is_taken_down() -> None:
    async with loaded() as (fleet, load):
        fleet.other.refuse = lambda member: RuntimeError("no CPU is free") if member.role == "worker" else None
        with pytest.raises(FleetError, match="worker standard/0 is not there yet"):
            await upgrade(fleet.client, fleet_of(newer(timeouts={"ready": 1.0, "drain": 2})))
        await fleet.until_stopped(fleet.other)
        assert leads(fleet.base) == 1
        await load.more()
        await load.settled()


async def test_another_upgrade_replaces_the_standby_fleet() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked"))
        await stand_by(fleet.client, fleet_of(newer()))
        yielded = await upgrade(fleet.client, fleet_of(newer("tracked", "plain")))
        assert yielded.epoch == 2
        status = await fleet.client.status()
        assert {each["name"] for each in status["controllers"]} == {"tracked", "plain"}


async def test_impossible_upgrade_is_refused_with_the_reason() -> None:
    async with house() as fleet:
        with pytest.raises(FleetError, match="raycp run"):
            await upgrade(fleet.client, fleet_of(newer()))
        await fleet.up(doc("tracked", clusters=("hub", "east")))
        with pytest.raises(FleetError, match=r"the hub is .hub."):
            await upgrade(fleet.client, fleet_of(newer(clusters=("east", "hub"))))
        with pytest.raises(FleetError, match=r"leader\.lock"):
            await upgrade(fleet.client, fleet_of(newer(clusters=("hub", "east"), leader={"lock": {"configMap": {}}})))
        with pytest.raises(FleetError, match="no second fleet"):
            await switch(fleet.client)
        await fleet.until_stopped(fleet.other)
        assert leads(fleet.base) == 1


async def test_down_ends_both_revisions() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked"))
        await stand_by(fleet.client, fleet_of(newer()))
        await fleet.client.down(2.0)
        assert not await fleet.client.exists()


async def test_standby_fleet_takes_over_when_the_active_one_is_dead() -> None:
    async with loaded(doc("tracked", **PERMIT)) as (fleet, load):
        await stand_by(fleet.client, fleet_of(newer(**PERMIT)))
        await fleet.base.lose_leader(for_good=True)
        for member in [member for member in fleet.base.cores if member.role != "embedded"]:
            await fleet.base.kill(member)
        await until(lambda: leads(fleet.other) == 2, 20.0)
        await load.more()
        await load.settled()
        assert fleet.other.leader is not None
        assert fleet.other.leader.history.rows()[-1]["cause"] == "death"


# deaths in the middle

STEPS: dict[str, type[Question[Any]]] = {
    "prepare": Prepare,
    "release": Release,
    "follow": FollowPrimaries,
    "rest": Rest,
    "lead": TakeLead,
}


def at(step: str, *, after: bool, act: Any) -> Any:
    """A hook that does ``act`` once, before or after the first question ``step``."""
    done = False

    async def hook(revision: Revision, member: Member, question: Question[Any]) -> None:
        nonlocal done
        if isinstance(question, STEPS[step]) and not done:
            done = True
            await act(revision, member)

    return hook


async def one_leads(fleet: House) -> Revision:
    """Exactly one revision is left, and it leads."""

    async def good() -> bool:
        living = [revision for revision in fleet.revisions.values() if fleet.roles(revision) & {"shard", "standby", "worker"}]
        return len(living) == 1 and leads(living[0]) > 0

    await until(good, 20.0, "one of the two leads, and the other has ended")
    return next(revision for revision in fleet.revisions.values() if leads(revision))


@pytest.mark.parametrize(
    ("victim", "step", "after"),
    [
        pytest.param(
            victim, step, after, id=f"{victim}-{'after' if after else 'before'}-{step}",
            marks=() if (step, after) in (("follow", False), ("lead", False), ("lead", True)) else pytest.mark.wide,
        )
        for victim in ("old", "new") for step in STEPS for after in (False, True)
    ],
)  # fmt: skip
async def test_upgrade_survives_a_leader_killed_at_any_step(victim: str, step: str, after: bool) -> None:
    """Ray restarts it; whatever becomes of the upgrade, one fleet leads, the other has ended, and no change is lost."""
    async with loaded(doc("tracked", **PERMIT)) as (fleet, load):
        await stand_by(fleet.client, fleet_of(newer(**PERMIT)))
        revision = fleet.base if victim == "old" else fleet.other

        async def kill(_: Revision, __: Member) -> None:
            async def die() -> None:
                await revision.lose_leader()
                await asyncio.sleep(0.2)
                revision.lead()

            dying = asyncio.ensure_future(die())
            await asyncio.sleep(0.01)
            if victim == "new" and step in ("prepare", "follow", "lead"):
                await asyncio.shield(dying)  # the question that is cut off must not keep Ray from the restart
                raise MemberUnavailable("its process is dead")

        hook = at(step, after=after, act=kill)
        if after:
            fleet.after = hook
        else:
            fleet.before = hook
        with contextlib.suppress(FleetError):
            await switch(fleet.client)
        left = await one_leads(fleet)
        await load.more()
        await load.settled()
        assert left is not None


@pytest.mark.parametrize("role", ["shard", "standby", "worker", "observer"])
@pytest.mark.parametrize("victim", ["old", "new"])
async def test_upgrade_survives_a_member_killed_in_the_middle(victim: str, role: str) -> None:
    async with loaded(doc("tracked", **PERMIT)) as (fleet, load):
        await stand_by(fleet.client, fleet_of(newer(**PERMIT)))
        revision = fleet.base if victim == "old" else fleet.other

        async def kill(_: Revision, __: Member) -> None:
            for member in [member for member in revision.cores if member.role == role]:
                await revision.kill(member)

        fleet.before = at("follow", after=False, act=kill)
        with contextlib.suppress(FleetError):
            await switch(fleet.client)
        await one_leads(fleet)
        await load.more()
        await load.settled()


async def test_old_fleet_goes_on_when_its_successor_hangs() -> None:
    async with loaded(doc("tracked", leader={"permit": 1.5, "handover": {"timeout": 1.0}})) as (fleet, load):
        await stand_by(fleet.client, fleet_of(newer(leader={"permit": 1.5, "handover": {"timeout": 1.0}})))

        async def hang(_: Revision, __: Member) -> None:
            await asyncio.sleep(5.0)

        fleet.before = at("follow", after=False, act=hang)
        with pytest.raises(FleetError, match=r"leader\.handover\.timeout"):
            await switch(fleet.client)
        assert leads(fleet.base) == 1
        await fleet.until_stopped(fleet.other)
        await load.more()
        await load.settled()


async def test_successor_that_does_not_begin_loses_the_lock() -> None:
    async with loaded(doc("tracked", **PERMIT)) as (fleet, load):
        await stand_by(fleet.client, fleet_of(newer(**PERMIT)))

        async def hang(_: Revision, __: Member) -> None:
            await fleet.other.lose_leader(for_good=True)
            raise MemberUnavailable("it does not answer")

        fleet.before = at("lead", after=False, act=hang)
        with pytest.raises(FleetError, match="goes on as it was"):
            await switch(fleet.client)
        await until(lambda: leads(fleet.base) == 1)
        await load.more()
        await load.settled()
        await fleet.until_stopped(fleet.other)


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(12))
async def test_any_process_may_die_at_any_moment_of_an_upgrade(seed: int) -> None:
    """Upgrades in a row under load; in each, one process of either revision dies at a random moment of the switch."""
    rng = random.Random(seed)
    async with loaded(doc("tracked", "parent", **PERMIT)) as (fleet, load):
        for turn in range(4):
            uses = ("tracked", "parent") if turn % 2 else ("tracked", "parent", "plain")
            await fleet.put("here", "parent", f"p{turn}")
            leading = await one_leads(fleet)
            await stand_by(fleet.client, fleet_of(newer(*uses, **PERMIT)))
            revision = rng.choice([leading, leading.beside("raycp-t" if leading is fleet.other else "raycp-t.b")])
            role, moment = rng.choice(["leader", "leader", "shard", "standby", "worker", "observer"]), rng.uniform(0.0, 0.03)

            async def strike(revision: Revision = revision, role: str = role, moment: float = moment) -> None:
                await asyncio.sleep(moment)
                if role == "leader":
                    if revision.leader is not None:
                        await revision.lose_leader()
                        await asyncio.sleep(0.1)
                        if revision.dead:
                            revision.lead()
                    return
                for member in [member for member in revision.cores if member.role == role]:
                    await revision.kill(member)

            striking = asyncio.ensure_future(strike())
            with contextlib.suppress(FleetError):
                await switch(fleet.client)
            await striking
            await one_leads(fleet)
            await load.more()
        await until(lambda: all(ran()[f"p{turn}"] for turn in range(4)), 15.0)
        await load.settled(25.0)
        made = [each.name for each in fleet.cluster("here").recorder.select("secrets", "create")]
        assert len(made) == len(set(made))
        assert epochs(fleet) == sorted(epochs(fleet))


async def test_cluster_that_is_down_is_excused_after_an_upgrade() -> None:
    """Its primaries are promoted standbys, which are no less primaries."""
    clusters = ("hub", "east")
    async with house() as fleet:
        await fleet.up(doc("tracked", clusters=clusters))
        await upgrade(fleet.client, fleet_of(newer(clusters=clusters)))
        observer = fleet.other.living("observer")[0]

        async def excused() -> bool:
            return not any(check.required for check in await observer.view.ready() if check.name == "cluster-east")

        await until(excused, 15.0)
