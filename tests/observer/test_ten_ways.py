"""A controller that is broken, in ten ways: each is shown wherever one looks, and the secret in one of them nowhere."""

import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from broken_samples import SECRET
from deadly import Deaths
from inprocess import QUIET, Led, fleet_doc, fleet_of, led, until
from printed_log import printed

from raycp.cli.failure_notices import FailureNotices
from raycp.cli.failures import show
from raycp.config.embedded import FaultSpec
from raycp.metrics.log import LineHandler
from raycp.protocol.members import LEADER
from raycp.sdk.loader import ControllerLoadError
from raycp.worker import controllers as loading


class Way(NamedTuple):
    """``cause``: what is to be read of it; ``reason``: of its Event, empty where no object is concerned. ``problem``: it is one."""

    cause: str
    reason: str = "ReconcileFailed"
    problem: str = ""


WAYS = {
    "typo": Way("TypeError: object of type 'NoneType' has no len()"),
    "field": Way("spec.containers"),
    "forbidden": Way("403"),
    "endless": Way("timed out: no result within 0.3 s"),
    "deadly": Way("the worker in which it ran alone", "WorkerDied"),
    "missing": Way("this worker does not know the controller", problem="ControllerFailed"),
    "hasty": Way("it asks to be reconciled again at once", "RequeueLoop"),
    "outdated": Way("example.com/v1beta9/Website", "", "KindFailed"),
    "greedy": Way("MemoryError"),
    "talkative": Way("RuntimeError: login failed with password"),
}


@contextlib.asynccontextmanager
async def broken(path: Path) -> AsyncIterator[Led]:
    """A fleet of all ten; the cluster forbids to create Secrets. Its log and recordings are below ``path``."""
    fault = {"kind": "error", "status": 403, "verbs": ["create"], "resources": ["secrets"], "after": "0s"}
    uses = [f"{'fleet_samples' if name == 'deadly' else 'broken_samples'}:{name}" for name in WAYS]
    tiers = {"standard": {"workers": {"min": 2, "max": 2}}}
    times = {"drain": 2, "syncDeadline": "1s"}
    doc = fleet_doc(("here",), uses, {"controllers": QUIET}, tiers=tiers, shards={"standby": 0}, timeouts=times)
    with (path / "stderr").open("w") as stream, printed("info", stream):
        async with led(path / "rec") as fleet:
            await fleet.leader.apply(fleet_of(doc))
            (handler,) = [each for each in logging.getLogger("raycp").handlers if isinstance(each, LineHandler)]
            lines = fleet.substrate.recorders[LEADER].recorder.lines
            assert lines is not None
            handler.also = lines.add
            await until(lambda: fleet.status()["ready"], what="it works, as far as it can")
            fleet.cluster("here").faults.add(FaultSpec.model_validate(fault))
            yield fleet


def is_shown(way: Way, name: str, errors: dict[str, Any], events: list[dict[str, Any]], told: list[str]) -> list[str]:
    """Where it is not shown yet."""
    objects = [row for row in errors["items"] if row["controller"] == name and way.cause in row["cause"]]
    problems = [row for row in errors["problems"] if row["code"] == way.problem]
    places = {
        "errors": objects or (not way.reason and any(way.cause in json.dumps(row) for row in problems)),
        "problems": not way.problem or problems,
        "event": not way.reason or [each for each in events if each["reason"] == way.reason and way.cause in each["note"]],
        "terminal": [line for line in told if way.cause in line],
    }
    return [place for place, found in places.items() if not found]


async def test_each_way_is_shown_everywhere_and_the_secret_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "home"))
    real = loading.load_controllers

    def load(uses: list[str]) -> Any:
        if uses == ["broken_samples:missing"]:
            raise ControllerLoadError("broken_samples:missing", "no module named 'website'")
        return real(uses)

    monkeypatch.setattr(loading, "load_controllers", load)
    async with broken(tmp_path) as fleet:
        Deaths(fleet.substrate)
        view = (await until(lambda: fleet.substrate.living("observer")))[0].view
        for name in WAYS:
            await fleet.put("here", name, name)
        notices, told = FailureNotices(), list[str]()

        async def unseen() -> dict[str, list[str]]:
            errors = await view.errors()
            told.extend([*notices.lines(errors["items"], 0.0), *notices.problems(errors["problems"])])
            events = fleet.cluster("here").api.list("events.events.k8s.io")[0]
            return {name: left for name, way in WAYS.items() if (left := is_shown(way, name, errors, events, told))}

        try:
            await until(lambda: _no(unseen), 20.0)
        except AssertionError:
            assert await unseen() == {}
        overview = {"status": await view.status(), "errors": await view.errors()}
        page = json.dumps([overview, fleet.cluster("here").api.list("events.events.k8s.io")[0], told])
        assert SECRET not in page + str(show(overview["errors"], "table"))
    for file in [tmp_path / "stderr", *(tmp_path / "rec").iterdir()]:
        assert SECRET.encode() not in file.read_bytes(), file


async def _no(found: Any) -> bool:
    return not await found()
