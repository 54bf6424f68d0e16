"""The logs of a whole fleet: of a failed reconcile its key, change and traceback, of living and dead processes, and no secret."""

import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import Led, led, until
from printed_log import printed
from test_standby import doc

from raycp.cli.logs import as_json, line_of
from raycp.driver.fleet_logs import FleetLogs, LogAnswer, LogQuery, logs_here
from raycp.metrics.log import LineHandler
from raycp.protocol.members import LEADER
from raycp.protocol.substrate import MemberUnavailable

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text().partition("## Logs")[2]
DOCUMENTED = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.M) for name in re.findall(r"`(\w+)`", row)}
"""The fields of a record."""

SECRETS = ("hunter22abc", "tok3n-of-the-kube-api")


@contextlib.asynccontextmanager
async def logged(path: Path) -> AsyncIterator[Led]:
    """A fleet in this process, whose log is that of its leader."""
    with (path / "stderr").open("w") as stream, printed("info", stream):
        async with led(path / "rec") as made:
            await made.apply(doc("wild", "parent"))
            lines = made.substrate.recorders[LEADER].recorder.lines
            assert lines is not None
            (handler,) = [each for each in logging.getLogger("raycp").handlers if isinstance(each, LineHandler)]
            handler.also = lines.add
            yield made


def change_of(fleet: Led, name: str) -> str:
    found = fleet.cluster("here").api.get("configmaps", "default", name)
    assert found is not None
    return f"here@{found['metadata']['resourceVersion']}"


async def read(fleet: Led, query: LogQuery, since: float = 0.0) -> LogAnswer:
    answer = await FleetLogs([fleet.substrate]).read(since, query)
    assert answer is not None
    return answer


async def failed(fleet: Led, name: str, **data: str) -> dict[str, Any]:
    """An object of ``wild`` has failed: the line about it."""
    await fleet.put("here", "wild", name, **data)
    query = LogQuery("error", (("name", name),))

    async def row() -> Any:
        return next(iter((await read(fleet, query)).rows), None)

    found: dict[str, Any] = await until(row, what="it is logged")
    return found


async def test_a_failed_reconcile_is_a_record_of_the_living_and_of_the_dead_fleet(tmp_path: Path) -> None:
    async with logged(tmp_path) as fleet:
        row = await failed(fleet, "a", do="raise")
        expected = {
            "level": "error", "logger": "raycp.controller.wild", "controller": "wild", "cluster": "here", "namespace": "default",
            "name": "a", "attempt": 1, "tier": "standard", "process": "leader g0", "change": change_of(fleet, "a"),
        }  # fmt: skip
        assert {name: row.get(name) for name in expected} == expected
        assert set(row) <= DOCUMENTED | {"node"}
        assert row["msg"].startswith("failed: ZeroDivisionError: on purpose (fleet_samples.py, line ")
        assert row["traceback"].startswith("Traceback (most recent call last):\n")
        assert 'raise ZeroDivisionError("on purpose")' in row["traceback"]
        text = line_of(row)
        assert "wild:here/default/a  failed: ZeroDivisionError: on purpose" in text
        assert text.count("\n    ") == row["traceback"].count("\n") + 1
        assert json.loads(as_json(row)) == row

        # one id leads from the watch event (the version, in `raycp why`) through the log to the write
        await fleet.put("here", "parent", "w")
        made = fleet.cluster("here").recorder
        writes = await until(lambda: [each for each in made.select("secrets", "create") if each.namespace == "default"])
        assert writes[0].change == change_of(fleet, "w")

    assert await FleetLogs([fleet.substrate]).read(0.0, LogQuery()) is None
    found = logs_here(tmp_path / "rec", 0.0, LogQuery("error", (("name", "a"),)))
    assert row["traceback"] in [each["traceback"] for each in found.rows]


async def test_what_is_asked_for_is_all_that_is_read_and_no_secret_of_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logged(tmp_path) as fleet:
        row = await failed(fleet, "b", do="leak", password=SECRETS[0], token=SECRETS[1])
        assert "RuntimeError: the Secret of {..." in row["msg"]
        assert "RuntimeError: the Secret of {..." in row["traceback"]
        for file in [tmp_path / "stderr", *(tmp_path / "rec").iterdir()]:
            assert not [secret for secret in SECRETS if secret.encode() in file.read_bytes()], file

        await failed(fleet, "c", do="raise")
        assert {row["name"] for row in (await read(fleet, LogQuery(of=(("controller", "wild"),)))).rows} == {"b", "c"}
        assert (await read(fleet, LogQuery(of=(("controller", "another"),)))).rows == []
        assert (await read(fleet, LogQuery(controllers=frozenset({"another"})))).rows == []
        assert (await read(fleet, LogQuery("critical"))).rows == []
        assert (await read(fleet, LogQuery(), time.time() + 60)).rows == []
        everything = (await read(fleet, LogQuery())).rows
        assert [row["ts"] for row in everything] == sorted(row["ts"] for row in everything)

        async def unreachable(member: Any, question: Any, timeout: float = 0.0) -> Any:
            raise MemberUnavailable(f"{member} is not reachable")

        monkeypatch.setattr(fleet.substrate, "ask", unreachable)
        silent = await read(fleet, LogQuery())
        assert silent.rows == []
        assert any("its log is read through another process" in problem for problem in silent.problems)
