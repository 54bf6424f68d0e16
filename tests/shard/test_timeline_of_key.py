"""``raycp why`` and ``raycp top``: a real shard's timeline, as text."""

import itertools
import json
from collections import Counter
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import stack, until

from raycp.cli.errors import BadInput
from raycp.cli.top import show as show_top
from raycp.cli.why import parse_object, show


async def timeline_of(fleet: Any, name: str) -> Any:
    return json.loads(msgspec.json.encode(fleet.shard().reporter.timeline("here", "ConfigMap", "default", name)))


async def test_the_timeline_of_a_failing_object_shows_attempts_and_its_wait() -> None:
    async with stack(["wild"]) as fleet:
        await fleet.put("here", "wild", "bad", do="raise")
        await until(lambda: Counter(name for *_, name in samples.RAN)["bad"] >= 3)
        text = str(show(await timeline_of(fleet, "bad")))
    assert "received" in text
    assert "create (watch" in text
    assert "lane standard, the default: no rule holds" in text
    assert "attempt 2" in text
    assert "ZeroDivisionError" in text
    assert "waits for its backoff" in text or "running" in text or "ready" in text


async def test_the_timeline_shows_calls_with_status_and_duration() -> None:
    async with stack(["parent"]) as fleet:
        await fleet.put("here", "parent", "p")
        await until(lambda: fleet.clusters["here"].api.get("secrets", "default", "p-child"))
        await until(lambda: fleet.shard().ledger.reconciled)
        text = str(show(await timeline_of(fleet, "p")))
        assert fleet.shard().reporter.timeline("here", "ConfigMap", "default", "nobody") is None
    assert "create /api/v1/namespaces/default/secrets in here: 201, " in text
    assert text.endswith("now            not queued")


async def test_the_steps_of_a_deleted_object_are_forgotten_when_another_is_deleted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.slo.timeline.DELETED_SECONDS", 0.2)
    async with stack(["tracked"]) as fleet:
        api = fleet.clusters["here"].api
        await fleet.put("here", "tracked", "stays")
        await fleet.put("here", "tracked", "old")
        await until(lambda: {name for *_, name in samples.RAN} == {"stays", "old"})
        await api.delete("configmaps", "default", "old")
        later = itertools.count()

        async def forgotten() -> bool:
            name = f"later-{next(later)}"
            await fleet.put("here", "tracked", name)
            await api.delete("configmaps", "default", name)
            return await timeline_of(fleet, "old") is None

        await until(forgotten)
        assert await timeline_of(fleet, "stays") is not None


@pytest.mark.parametrize("how", ["object", "secret", "server"])
async def test_errors_quote_no_contents_of_objects(how: str) -> None:
    """What authors and API servers put into their messages: neither steps nor queue show it, in whichever form they are read."""
    async with stack(["quoting"]) as fleet:
        await fleet.put("here", "quoting", "q", how=how, value="hunter2-hunter2")
        await until(lambda: Counter(name for *_, name in samples.RAN)["q"] >= 2)
        found = await timeline_of(fleet, "q")
        report = msgspec.json.encode(fleet.shard().report()).decode()
    (row,) = found["controllers"]
    errors = [step["error"] for step in row["steps"] if step.get("error")]
    assert errors
    if how != "server":
        assert all("(fleet_samples.py, line " in error for error in errors), "what it is and where it was raised stays"
    assert all("ValueError" in error or "ApiError" in error or "Invalid" in error for error in errors), errors
    for shown in (json.dumps(found), str(show(found)), report):
        assert "hunter2" not in shown


def test_objects_are_named_by_cluster_kind_namespace_and_name() -> None:
    assert parse_object("hub/BatchJob/default/train") == ("hub", "BatchJob", "default", "train")
    assert parse_object("hub/v1/Node/-/n0") == ("hub", "v1/Node", "-", "n0")
    assert parse_object("hub/batch.raycp.io/v1alpha1/BatchJob/a/b") == ("hub", "batch.raycp.io/v1alpha1/BatchJob", "a", "b")
    for wrong in ("a/b/c", "a//b/c", "", "a/b/c/d/e/f/g"):
        with pytest.raises(BadInput):
            parse_object(wrong)


def test_raycp_top_shows_one_picture() -> None:
    found = {
        "status": {"fleet": "f", "ready": False, "reasons": ["no worker"], "leader": {"epoch": 3}, "plan": 7},
        "lanes": [{"tier": "critical", "depth": 5, "delayed": 1, "in_work": 2, "oldest_ready_seconds": 0.2, "per_second": 9.0,
                   "share": 0.4}],
        "clusters": [{"name": "c", "synced": True, "objects": 4, "lag_seconds": None, "breaker": "open", "reason": "dead"}],
        "workers": [{"name": "standard/0", "state": "running", "active": 2, "slots": 32, "memory_bytes": 5e7}],
        "slo": [],
    }  # fmt: skip
    text = str(show_top(found, "table"))
    assert "epoch 3" in text
    assert "no worker" in text
    assert "40 %" in text
    assert "open" in text
    assert "2/32" in text
