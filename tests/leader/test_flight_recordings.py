"""The flight recorders of a whole fleet: what the dead did last is found, in the history of switches too, and no secret in it."""

import io
import json
import time
from pathlib import Path
from typing import Any

import fleet_samples as samples
import pytest
from inprocess import Led, led, until, users
from test_standby import doc, primary, ran, warm

from raycp.cli.debug import document_of, show, wanted
from raycp.driver.flight_recordings import Flight, FlightRecordings
from raycp.leader import tails
from raycp.leadership.switches import Switch
from raycp.metrics.recorder import RecorderDir, SegmentReader
from raycp.protocol.control import RecordingContent
from raycp.protocol.members import LEADER, Member, Role
from raycp.protocol.nodes import Node
from raycp.protocol.substrate import MemberFailed

SECRETS = ("hunter22abc", "tok3n-of-the-kube-api")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tails, "AFTER", 0.1)


def member_of(core: Any) -> Member:
    found: Member = core.member
    return found


async def collect(fleet: Led, since: float = 0.0, **question: Any) -> Flight:
    fits = wanted(question.get("named"), question.get("cluster", ""), question.get("controllers"))
    return await FlightRecordings([fleet.substrate]).collect(since, fits)


def last_switch(fleet: Led, what: str, cause: str) -> Switch | None:
    rows = [Switch(**{_snake(name): value for name, value in row.items()}) for row in fleet.leader.history.rows()]
    return next((row for row in reversed(rows) if (row.what, row.cause) == (what, cause)), None)


def _snake(name: str) -> str:
    return {"rampUp": "ramp_up"}.get(name, name)


async def test_what_a_dead_primary_did_last_is_beside_its_switch_and_in_the_merged_list(tmp_path: Path) -> None:
    async with led(tmp_path / "rec") as fleet:
        await fleet.apply(doc("tracked"))
        await warm(fleet)
        dead = primary(fleet).member
        async with users(fleet) as names:
            await until(lambda: len(names) > 30)
            created, fresh = time.time(), len(names)
            await until(lambda: len(names) > fresh and ran()[names[fresh]])
            recorder = fleet.substrate.recorders[dead].recorder
            recorder.flush()
            died, last = time.time(), names[fresh]
            await fleet.substrate.kill(dead)
            await until(lambda: (found := fleet.leader.roster.primary_of("0")) is not None and found.member != dead)
            later = len(names) + 1
            await until(lambda: len(names) > later and all(ran()[name] for name in names[:later]))

        # beside the switch, in memory and in the hub
        switch = await until(lambda: (found := last_switch(fleet, "shard 0", "death")) and found.tail and found)
        assert switch.before == dead.actor_name
        assert len(switch.tail) == tails.LINES
        assert any("tracked:here/default/u" in line for line in switch.tail)
        assert all(len(line) <= 200 for line in switch.tail)
        assert not any(row.tail for row in fleet.leader.history.newest(10)), "the status is sent every second"
        await until(lambda: _stored(fleet, "shard 0") == switch.tail)

        # merged with those of all others
        flight = await collect(fleet)
        assert [each.record.at for each in flight.records] == sorted(each.record.at for each in flight.records)
        by_actor: dict[str, set[str]] = {}
        for record, origin in flight.records:
            by_actor.setdefault(origin.actor, set()).add(record.what)
        assert {"process", "received", "handed_out", "succeeded", "connection", "state"} <= by_actor[dead.actor_name]
        assert {"promoted", "received", "handed_out"} <= by_actor[primary(fleet).member.actor_name]
        (worker,) = fleet.substrate.living(Role.WORKER)
        assert {"started", "finished", "permit", "order"} <= by_actor[worker.member.actor_name]
        assert {"switch", "plan", "adopted", "removed"} <= by_actor[LEADER.actor_name]
        (observer,) = fleet.substrate.living(Role.OBSERVER)
        assert "fleet" in by_actor[observer.member.actor_name]
        reports = {report.origin.actor: report for report in flight.recordings if report.origin is not None}
        assert {actor for actor, report in reports.items() if not report.living} == {dead.actor_name}
        assert len(flight.recordings) == len({report.name for report in flight.recordings}), "each once"
        assert not [report.problem for report in flight.recordings if report.problem]

        # the dead one's last moments
        of_dead = [record for record, origin in flight.records if origin.actor == dead.actor_name]
        assert created < of_dead[-1].at <= died

        # of one object, of one cluster, of the last moments
        one = await collect(fleet, named=("here", "v1/ConfigMap", "default", last), controllers={"tracked"})
        assert {record.subject.name for record, _ in one.records if not isinstance(record.subject, str)} == {last}
        assert {record.what for record, _ in one.records} >= {"received", "handed_out", "started", "finished", "succeeded"}
        assert not (await collect(fleet, named=("here", "v1/Pod", "default", last), controllers={"pods"})).records
        assert {record.cluster for record, _ in (await collect(fleet, cluster="here")).records} == {"here"}
        assert not (await collect(fleet, cluster="elsewhere")).records
        assert all(record.at >= died for record, _ in (await collect(fleet, since=died)).records)

        # as the command shows it
        text = show(flight)
        assert f"shard 0 g{dead.generation} (" in text
        assert "1 of them dead" in text
        shown = document_of(flight)
        assert len(shown["records"]) == len(flight.records)
        assert {"at", "actor", "node", "pid", "what", "controller", "cluster", "namespace", "name", "fields"} == set(
            next(row for row in shown["records"] if row["what"] == "handed_out")
        )


def _stored(fleet: Led, what: str) -> list[str]:
    """The tail of the newest switch, as the hub has it."""
    assert fleet.leader.plan is not None
    namespace = fleet.leader.plan.fleet.doc.spec.state.namespace
    found = fleet.cluster("here").api.get("configmaps", namespace, "raycp-t-switches")
    rows = json.loads(found["data"]["switches"]) if found is not None else []
    return next((row.get("tail") or [] for row in reversed(rows) if row["what"] == what), [])


async def test_what_a_dead_leader_did_last_is_beside_its_restart(tmp_path: Path) -> None:
    async with led(tmp_path / "rec") as fleet:
        await fleet.apply(doc("tracked"))
        fleet.substrate.recorders[LEADER].recorder.flush()
        await fleet.restart()
        await fleet.ready()
        switch = await until(lambda: (found := last_switch(fleet, "leader", "restart")) and found.tail and found)
        assert any("adopted" in line for line in switch.tail)
        await until(lambda: _stored(fleet, "leader") == switch.tail)


async def test_a_member_that_does_not_answer_is_read_through_another(tmp_path: Path) -> None:
    async with led(tmp_path / "rec") as fleet:
        await fleet.apply(doc("tracked"))
        silent = primary(fleet).member
        fleet.substrate.recorders[silent].recorder.flush()
        fleet.substrate.silent.add(silent)
        flight = await collect(fleet)
        assert any(str(silent) in problem for problem in flight.problems)
        assert silent.actor_name in {origin.actor for _, origin in flight.records}
        assert "note: " in show(flight)
        fleet.substrate.silent.clear()


async def test_a_node_without_a_process_of_the_fleet_is_named(tmp_path: Path) -> None:
    async with led(tmp_path / "rec") as fleet:
        await fleet.apply(doc("tracked"))
        fleet.substrate.ground = [Node("node", "10.0.0.1"), Node("elsewhere", "10.0.0.2")]
        flight = await collect(fleet)
        assert [problem for problem in flight.problems if "10.0.0.2" in problem]
        assert not [problem for problem in flight.problems if "10.0.0.1" in problem]


async def test_damaged_and_foreign_files_are_said_to_be_so(tmp_path: Path) -> None:
    async with led(tmp_path / "rec") as fleet:
        await fleet.apply(doc("tracked"))
        (tmp_path / "rec" / "raycp-shard-9-g0.1.1.rec").write_bytes(b"not a recording at all")
        flight = await collect(fleet)
        (report,) = [report for report in flight.recordings if report.problem]
        assert (report.origin, report.living, report.problem) == (None, False, "not a flight recording")
        assert f"note: {report.name}: not a flight recording" in show(flight)


async def test_only_recordings_are_given_out(tmp_path: Path) -> None:
    async with led(tmp_path / "rec") as fleet:
        await fleet.apply(doc("tracked"))
        (tmp_path / "secret.1.1.rec").write_text("secret")
        for name in ("../secret.1.1", "/etc/passwd", "", "unknown.1.1"):
            with pytest.raises(MemberFailed, match="no recording"):
                await fleet.substrate.ask(primary(fleet).member, RecordingContent(name))


async def test_no_secret_of_the_fleet_its_clusters_or_its_objects_is_in_any_file(tmp_path: Path) -> None:
    """A reconciler fails with the whole object in its message; the fleet's and the clusters' tokens are in the plan that each
    process is given."""
    directory = RecorderDir(tmp_path / "rec")
    async with led(directory.path) as fleet:
        await fleet.apply(doc("wild"))
        await fleet.put("here", "wild", "leaky", do="leak", password=SECRETS[0], token=SECRETS[1])
        await until(lambda: ran()["leaky"] >= 2)
        await until(lambda: any(step.what == "failed" for step in _steps(fleet)))
        plan = fleet.leader.plan
        assert plan is not None
        tokens = [plan.token, *(cluster.connect.token for cluster in plan.clusters if cluster.connect is not None)]
        assert all(len(token) > 8 for token in tokens)
        kept = any(SECRETS[0] in str(step.detail) for step in _steps(fleet))
        assert kept, "the message had it"
        found = await collect(fleet, named=("here", "v1/ConfigMap", "default", "leaky"))
        failures = [record for record, _ in found.records if record.fields.get("error")]
        assert {record.what for record in failures} >= {"failed", "finished"}
        assert all(record.fields["error"].startswith("RuntimeError: the Secret of {...") for record in failures)
        names = [info.name for info in directory.recordings()]
        everything = "".join(
            str(list(SegmentReader(io.BytesIO(part)))) for name in names for part in directory.read(name)
        )
    assert len(names) >= 4
    assert "leaky" in everything
    for secret in (*SECRETS, *tokens):
        assert secret not in everything


def _steps(fleet: Led) -> Any:
    from raycp.base.keys import RequestKey

    return primary(fleet).ledger.timelines.of(RequestKey("wild", "here", "default", "leaky"))


async def test_the_tail_is_not_asked_of_nodes_where_nobody_lives() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        assert await tails.Tails(fleet.substrate, fleet.substrate.clock, fleet.leader.roster).of("raycp::shard::0::g0") == []
    assert samples.RAN == []
