"""The console's actions: every refusal, every action against a leader, and who did what."""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from inprocess import fleet_doc, led, until
from test_access import Files
from test_standby import ran, warm
from test_web import SmallView

from raycp.base.clock import SystemClock
from raycp.cli.debug import wanted
from raycp.config.observer import ObserverSpec
from raycp.driver.flight_recordings import FlightRecordings
from raycp.metrics.log import fields_of
from raycp.metrics.recorder import FlightRecorder
from raycp.metrics.recorder.scrubber import scrubbed
from raycp.observer import action_routes
from raycp.observer.access import WRITE_HEADER
from raycp.observer.audit import KEPT, ActionRecord, Audit
from raycp.observer.web import WebServer, serve
from raycp.protocol.control import Amended, ErrorCode, HandOver, HandoverResult, ReconcileNow, RequestedKey, SetDrain, SetPause
from raycp.protocol.members import LEADER
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable

READ, WRITE = "reader-0123456789abcdef", "writer-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {WRITE}", WRITE_HEADER: "test"}


class Leader:
    """Answers with ``answer``, or raises it."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, float]] = []
        self.answer: Any = Amended(True, "abc")

    async def __call__(self, question: Any, timeout: float) -> Any:
        self.asked.append((question, timeout))
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer is None:
            await asyncio.Event().wait()
        return self.answer


class Site:
    def __init__(self, server: WebServer, leader: Leader, session: aiohttp.ClientSession, audit: Audit) -> None:
        self.server = server
        self.leader = leader
        self.session = session
        self.audit = audit

    async def post(self, action: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        sent = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        shown = {"Content-Type": "application/json", **HEADERS, **{name.replace("_", "-"): each for name, each in headers.items()}}
        async with self.session.post(f"/api/v1/actions/{action}", data=sent, headers=shown) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, await answer.json()


@contextlib.asynccontextmanager
async def site(path: Path, **fields: Any) -> AsyncIterator[Site]:
    for name, token in (("read", READ), ("write", WRITE)):
        (path / name).write_text(token)
    tokens = {"tokens": {"read": str(path / "read"), "write": str(path / "write")}}
    spec = ObserverSpec.model_validate({"port": 0, **(fields or tokens)})
    leader, audit = Leader(), Audit(SystemClock())
    server = await serve(SmallView(), spec, ask=leader, audit=audit)
    try:
        async with aiohttp.ClientSession(server.url) as session:
            yield Site(server, leader, session, audit)
    finally:
        await server.stop()


BY = "write token from 127.0.0.1"
EAST = {"clusters": ["east"]}
KEY = {"cluster": "east", "kind": "v1/ConfigMap", "namespace": "default", "name": "a"}


@pytest.mark.parametrize(
    ("action", "body", "order", "answer", "shown"),
    [
        ("pause", EAST, SetPause(True, ["east"], [], BY), Amended(True, "g"), {"changed": True, "generation": "g"}),
        (
            "resume", {"clusters": ["east"], "controllers": ["echo"]}, SetPause(False, ["east"], ["echo"], BY), Amended(False, "g"),
            {"changed": False, "generation": "g"},
        ),
        ("drain", EAST, SetDrain(True, ["east"], BY), Amended(True, "g"), {"changed": True, "generation": "g"}),
        ("undrain", EAST, SetDrain(False, ["east"], BY), Amended(True, "g"), {"changed": True, "generation": "g"}),
        (
            "reconcile", KEY, ReconcileNow("east", "v1/ConfigMap", "default", "a", "", BY), [RequestedKey("echo", "ready", "")],
            {"keys": [{"controller": "echo", "state": "ready", "waitsFor": ""}]},
        ),
        (
            "handover", {}, HandOver([], BY), [HandoverResult("0", "s", 0.1, 0.2)],
            {"shards": [{"shard": "0", "to": "s", "drain": 0.1, "took": 0.2, "revoked": 0, "problem": ""}]},
        ),
    ],
)  # fmt: skip
async def test_each_action_is_an_order_to_the_leader(
    action: str, body: Any, order: Any, answer: Any, shown: Any, tmp_path: Path
) -> None:
    async with site(tmp_path) as found:
        found.leader.answer = answer
        assert await found.post(action, body) == (200, {"action": action, **shown})
        ((asked, within),) = found.leader.asked
        assert asked == order
        assert within == (60.0 if action == "handover" else 10.0)
        (record,) = found.audit.records
        assert (record.action, record.by, record.origin, record.status) == (action, "write token", "127.0.0.1", 200)
        assert json.loads(record.about) == body


async def test_who_may_not_write_gets_no_action(tmp_path: Path) -> None:
    body = {"clusters": ["east"]}
    async with site(tmp_path) as found:
        expected = {
            401: [{"Authorization": ""}, {"Authorization": "Bearer wrong-0123456789abcdef"}],
            403: [
                {"Authorization": f"Bearer {READ}"}, {WRITE_HEADER: ""}, {"Origin": "https://evil.example"}, {"Origin": "null"},
                {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
            ],
        }  # fmt: skip
        for status, shown in expected.items():
            for headers in shown:
                code, answer = await found.post("pause", body, **headers)
                assert (headers, code, bool(answer["error"])) == (headers, status, True)
        assert not found.leader.asked
        assert not found.audit.records, "strangers fill no memory"
        assert (await found.post("pause", body, Origin=found.server.url))[0] == 200


async def test_a_certificate_acts_by_its_name_and_only_for_this_servers_page(tmp_path: Path) -> None:
    files = Files(tmp_path)
    spec = ObserverSpec.model_validate({"port": 0, "tls": files.tls, "clients": {"ca": files.ca, "write": ["ops"]}})
    leader, audit = Leader(), Audit(SystemClock())
    server = await serve(SmallView(), spec, ask=leader, audit=audit)

    async def act(name: str, **headers: str) -> int:
        shown = ssl.create_default_context(cafile=files.ca)
        pair = files.pair(name, files.authority.client(name))
        shown.load_cert_chain(pair["cert"], pair["key"])
        async with session.post("/api/v1/actions/pause", json=EAST, ssl=shown, headers=headers) as answer:
            return answer.status

    async with aiohttp.ClientSession(server.url) as session:
        assert await act("ann", **{WRITE_HEADER: "pause"}) == 403
        assert await act("ops") == 403, "a form of another page has no such header"
        assert await act("ops", **{WRITE_HEADER: "pause", "Sec-Fetch-Site": "cross-site"}) == 403
        assert await act("ops", **{WRITE_HEADER: "pause", "Sec-Fetch-Site": "same-origin", "Origin": server.url}) == 200
    await server.stop()
    assert [question.by for question, _ in leader.asked] == ["certificate ops from 127.0.0.1"]
    assert [record.by for record in audit.records] == ["certificate ops"]


async def test_without_a_token_nobody_acts(tmp_path: Path) -> None:
    async with site(tmp_path, hosts=[]) as found:
        code, answer = await found.post("pause", EAST)
        assert (code, "nobody may write here: set spec.observer.tokens.write" in answer["error"]) == (403, True)
        async with found.session.get("/api/v1/actions", headers=HEADERS) as shown:
            assert await shown.json() == {"write": False, "writable": False, "by": "", "actions": []}
        assert not found.leader.asked


async def test_the_page_learns_who_may_act_and_what_was_done(tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        await found.post("pause", EAST)
        for token, write in ((READ, False), (WRITE, True)):
            async with found.session.get("/api/v1/actions", headers={"Authorization": f"Bearer {token}"}) as answer:
                shown = await answer.json()
            assert (shown["write"], shown["writable"], shown["by"]) == (write, True, f"{'write' if write else 'read'} token")
            assert [(row["action"], row["outcome"]) for row in shown["actions"]] == [("pause", "done")]
        async with found.session.get("/api/v1/actions") as answer:
            assert answer.status == 401


@pytest.mark.parametrize(
    ("action", "body", "status", "told"),
    [
        ("pause", {}, 400, "name what: clusters, controllers, or both"),
        ("drain", {"clusters": []}, 400, "name a cluster"),
        ("drain", {}, 400, "clusters"),
        ("pause", {"clusters": "east"}, 400, "Expected `array`, got `str` - at `$.clusters`"),
        ("pause", {"clusters": [""]}, 400, "$.clusters[0]"),
        ("pause", {"cluster": ["east"]}, 400, "unknown field `cluster`"),
        ("reconcile", {"cluster": "east"}, 400, "missing required field `kind`"),
        ("pause", b"\xff", 400, "is not the JSON of this action"),
        ("pause", b"[" * 50_000, 400, "is not the JSON of this action"),
        ("pause", b'{"clusters": ["' + b"x" * 70_000, 413, "too large"),
        ("explode", {}, 404, "no such action; there are: pause, resume, reconcile, drain, undrain, handover"),
    ],
)  # fmt: skip
async def test_a_request_that_makes_no_sense_is_refused_with_the_reason(
    action: str, body: Any, status: int, told: str, tmp_path: Path
) -> None:
    async with site(tmp_path) as found:
        code, answer = await found.post(action, body)
        assert (code, told in answer["error"]) == (status, True), answer
        assert not found.leader.asked
        assert [record.status for record in found.audit.records] == ([status] if status != 404 else [])


async def test_other_methods_and_forms_are_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
            async with found.session.request(method, "/api/v1/actions/pause", headers=HEADERS) as answer:
                assert (method, answer.status) == (method, 405)
                assert "Access-Control-Allow-Origin" not in answer.headers
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            code, answer = await found.post("pause", {"clusters": ["east"]}, Content_Type=kind)
            assert (code, "Content-Type: application/json" in answer["error"]) == (415, True)
        assert not found.leader.asked


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (MemberFailed("the fleet has no cluster 'west'", ErrorCode.NOT_FOUND), 404, "the fleet has no cluster 'west'"),
        (MemberFailed("this fleet is a standby", ErrorCode.REFUSED), 409, "this fleet is a standby"),
        (MemberFailed("ask again", ErrorCode.BUSY), 409, "ask again"),
        (MemberFailed("too long", ErrorCode.TIMED_OUT), 504, "too long"),
        (MemberFailed("KeyError", ErrorCode.INTERNAL), 502, "KeyError"),
        (MemberUnavailable("no answer within 10 s"), 503, "no answer within 10 s): it is not known whether this was done"),
        (MemberDied(LEADER, "gone", certain=True), 503, "gone): it is not known"),
        (TimeoutError(), 503, "TimeoutError): it is not known"),
        ([HandoverResult("0", problem="no warm standby"), HandoverResult("1")], 409, "shard 0: no warm standby"),
    ],
)  # fmt: skip
async def test_what_the_leader_refuses_is_told_and_kept(answer: Any, status: int, told: str, tmp_path: Path) -> None:
    async with site(tmp_path) as found:
        found.leader.answer = answer
        code, shown = await found.post("handover")
        assert (code, told in shown["error"]) == (status, True), shown
        (record,) = found.audit.records
        assert (record.status, told in record.outcome) == (status, True)


async def test_each_wait_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_routes, "BODY_WITHIN", 0.05)
    monkeypatch.setattr(action_routes, "MARGIN", -9.95)
    async with site(tmp_path) as found:
        found.leader.answer = None
        code, answer = await found.post("pause", EAST)
        assert (code, "did not answer in time" in answer["error"]) == (503, True)

        async def slowly() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(30.0)

        shown = {"Content-Type": "application/json", **HEADERS}
        async with found.session.post("/api/v1/actions/pause", data=slowly(), headers=shown) as late:
            assert (late.status, "did not arrive" in (await late.json())["error"]) == (408, True)


async def test_an_action_is_a_record_of_the_log_and_a_flood_of_strangers_a_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "raycp.observer.audit")
    monkeypatch.setattr(logging.getLogger("raycp"), "propagate", True)
    clock = SystemClock()
    audit = Audit(clock)
    audit.acted("pause", '{"clusters":\n["east"]}', "certificate ops", "10.0.0.7", 200, "done", 0.01)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("INFO", "action pause: done")
    assert fields_of(record) == {
        "action": "pause", "about": '{"clusters":\\n["east"]}', "by": "certificate ops", "origin": "10.0.0.7", "status": 200,
        "outcome": "done", "seconds": 0.01,
    }  # fmt: skip
    caplog.clear()
    for _ in range(1000):
        audit.refused("/api/v1/actions/pause", "", "10.0.0.8", 401, "writing needs the token")
    (line,) = caplog.records
    assert fields_of(line)["by"] == "nobody known"
    for number in range(2 * KEPT):
        audit.acted("pause", str(number), "x", "y", 200, "done", 0.0)
    assert [record.about for record in audit.records][:2] == [str(2 * KEPT - 1), str(2 * KEPT - 2)]
    assert len(audit.records) == KEPT


class Recorded(FlightRecorder):
    """Has what a recorder would keep."""

    kept: Any = None

    def note(self, what: str, subject: Any = "", /, *, urgent: bool = False, **fields: Any) -> None:
        self.kept = scrubbed(fields)


async def test_a_secret_in_a_body_is_kept_nowhere() -> None:
    recorder = Recorded(SystemClock())
    acted: list[ActionRecord] = []
    audit = Audit(SystemClock(), recorder, acted.append)
    for body in (f'{{"clusters":["east"],"token":"{WRITE}"}}', f'{{"token":"{WRITE}"', f'{{"password":"{WRITE}"' + 1000 * "x"):
        audit.acted("pause", body, "x", "y", 400, f"unknown: Bearer {WRITE}", 0.0)
        assert WRITE not in f"{acted}{audit.records}{recorder.kept}"
    assert "east" in acted[0].about


async def test_actions_of_a_fleet_reach_its_leader_and_its_recordings(tmp_path: Path) -> None:
    for name, token in (("read", READ), ("write", WRITE)):
        (tmp_path / name).write_text(token)
    observer = {"port": 0, "tokens": {"read": str(tmp_path / "read"), "write": str(tmp_path / "write")}}
    async with led(tmp_path / "recordings") as fleet:
        await fleet.apply(fleet_doc(["here"], ["fleet_samples:tracked"], observer=observer))
        await fleet.put("here", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        await warm(fleet)
        async with aiohttp.ClientSession(fleet.status()["observer"]["url"], headers=HEADERS) as session:

            async def act(action: str, /, **body: Any) -> tuple[int, dict[str, Any]]:
                async with session.post(f"/api/v1/actions/{action}", json=body) as answer:
                    return answer.status, await answer.json()

            code, answer = await act("reconcile", cluster="here", kind="ConfigMap", namespace="default", name="a")
            assert (code, [key["controller"] for key in answer["keys"]]) == (200, ["tracked"])
            await until(lambda: ran()["a"] == 2)
            async with session.get("/api/v1/timeline/here/ConfigMap/default/a") as found:
                (row,) = (await found.json())["controllers"]
            assert [step["by"] for step in row["steps"] if step["what"] == "requested"] == [BY]
            code, answer = await act("pause", clusters=["nowhere"])
            assert (code, answer["error"].startswith("the fleet has no cluster 'nowhere'")) == (404, True)
            assert (await act("pause", controllers=["tracked"]))[1]["changed"]
            assert not (await act("pause", controllers=["tracked"]))[1]["changed"]
            await until(lambda: fleet.status()["controllers"][0]["paused"])
            assert (await act("resume", controllers=["tracked"]))[1]["changed"]
            code, answer = await act("handover")
            assert (code, [shard["problem"] for shard in answer["shards"]]) == (200, [""])
            async with session.get("/api/v1/actions") as found:
                names = [each["action"] for each in (await found.json())["actions"]]
            assert names == ["handover", "resume", "pause", "pause", "pause", "reconcile"]
            async with session.get("/api/v1/changes") as found:
                told = [each for each in (await found.json())["changes"] if each["kind"] == "action"]
            assert {(each["what"], each["level"]) for each in told} >= {
                ("handover by write token", "note"), ("pause by write token", "note"), ("pause by write token", "warn")
            }  # fmt: skip
        await fleet.ready()
        flight = await FlightRecordings([fleet.substrate]).collect(0.0, wanted(None, "", None))
        acted = [record.fields for record, origin in flight.records if record.what == "action"]
        assert [(each["action"], each["by"], each["status"]) for each in acted] == [
            (name, "write token", status)
            for name, status in zip(reversed(names), (200, 404, 200, 200, 200, 200), strict=True)
        ]  # fmt: skip
        reconciled = {"cluster": "here", "kind": "ConfigMap", "namespace": "default", "name": "a"}
        assert [each["about"] for each in acted][:3] == [reconciled, {"clusters": ["nowhere"]}, {"controllers": ["tracked"]}]
        orders = {record.fields["order"]: record.fields for record, origin in flight.records if record.what == "order"}
        assert orders["MakeDue"]["by"] == BY, "who ordered it is with the member that did it, too"
