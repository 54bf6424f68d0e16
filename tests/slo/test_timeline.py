"""Timelines: content, order and bounds of packed steps."""

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall
from raycp.metrics.recorder.record_format import SHAPES
from raycp.slo.packed_steps import MOST_STEPS, MOST_TEXTS, Texts
from raycp.slo.timeline import DELETED_SECONDS, MEANINGS, Step, Timelines

KEY = RequestKey("echo", "east", "default", "a")
PATH = "/api/v1/namespaces/default/configmaps/app-{}/status"


async def test_timeline_of_a_change() -> None:
    clock = VirtualClock(wall=100.0)
    lines = Timelines(clock)
    lines.received(KEY, reason="user-update", source="watch", tier="high", rv=12, why="label raycp.io/qos-tier")
    lines.record(KEY, "queued", tier="high", why="the rules have changed")
    await clock.advance(0.5)
    lines.handed_out(KEY, worker="w0", attempt=1, waited=0.5)
    calls = [ApiCall("create", "east", f"/api/v1/pods/{i}", 409, 0.01) for i in range(25)]
    lines.ended(KEY, "failed", seconds=0.1, calls=calls, error="x" * 2000, waiting="quota")
    lines.delayed(KEY, seconds=1.0, reason="retry")
    received, queued, handed_out, failed, delayed = lines.of(KEY)
    assert received == Step(
        100.0,
        "received",
        {"reason": "user-update", "source": "watch", "tier": "high", "resource_version": 12, "delay": 0.0,
         "why": "label raycp.io/qos-tier"},
    )  # fmt: skip
    assert list(received.detail) == ["reason", "source", "tier", "resource_version", "delay", "why"], "printed in this order"
    assert queued == Step(100.0, "queued", {"tier": "high", "why": "the rules have changed"})
    assert handed_out == Step(100.5, "handed_out", {"worker": "w0", "attempt": 1, "waited": 0.5})
    assert delayed == Step(100.5, "delayed", {"seconds": 1.0, "reason": "retry"})
    detail = failed.detail
    assert (failed.what, len(detail["calls"]), detail["calls_left_out"]) == ("failed", 20, 5)
    assert detail["calls"][3] == {"verb": "create", "cluster": "east", "path": "/api/v1/pods/3", "status": 409, "seconds": 0.01}
    assert (detail["seconds"], len(detail["error"]), detail["waiting"]) == (0.1, 500, "quota")
    lines.ended(KEY, "succeeded", seconds=0.2, calls=[])
    assert lines.of(KEY)[-1].detail == {"seconds": 0.2, "calls": []}, "what there is none of is left out"
    assert lines.of(KEY._replace(controller="other")) == []


def test_the_last_steps_of_a_busy_key_stay_and_quiet_keys_leave() -> None:
    lines = Timelines(VirtualClock(), per_key=5, limit=50)
    for i in range(1000):
        lines.record(KEY._replace(name=str(i % 30)), "received", n=i)
        lines.record(KEY, "woken", n=i)
    assert 45 <= len(lines) <= 50
    assert [step.detail["n"] for step in lines.of(KEY)] == [995, 996, 997, 998, 999]
    assert [step.detail["n"] for step in lines.of(KEY._replace(name=str(999 % 30)))][-1] == 999


def test_steps_of_any_size_are_kept_and_found() -> None:
    lines = Timelines(VirtualClock(), per_key=3)
    sizes = [1, 200, 250, 255, 300, 70_000, 5, 66_000, 1]
    for size in sizes:
        lines.record(KEY, "problem", problem="p" * size)
        assert lines.of(KEY)[-1].detail["problem"] == "p" * size
    assert [len(step.detail["problem"]) for step in lines.of(KEY)] == sizes[-3:]


@pytest.mark.parametrize("per_key", [0, MOST_STEPS + 1])
def test_more_steps_per_key_than_the_format_counts_are_refused(per_key: int) -> None:
    with pytest.raises(ValueError, match="steps per key"):
        Timelines(VirtualClock(), per_key=per_key)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 400)), max_size=120), st.integers(1, 6), st.integers(3, 40))
def test_what_is_kept_is_what_a_plain_list_would_keep(recorded: list[tuple[int, int]], per_key: int, limit: int) -> None:
    lines, model = Timelines(VirtualClock(), per_key=per_key, limit=limit), dict[str, list[int]]()
    for number, (name, size) in enumerate(recorded):
        lines.record(KEY._replace(name=str(name)), "problem", n=number, text="x" * size)
        steps = model.pop(str(name), [])
        model[str(name)] = [*steps, number][-per_key:]
        while sum(map(len, model.values())) > limit:
            del model[next(iter(model))]
    assert len(lines) == sum(map(len, model.values()))
    found = {str(name): [step.detail["n"] for step in lines.of(KEY._replace(name=str(name)))] for name in range(7)}
    assert {name: steps for name, steps in found.items() if steps} == model


def test_each_step_is_reported_to_a_listener_as_the_recorder_wants_it() -> None:
    heard: list[tuple[float, str, RequestKey, Any]] = []
    lines = Timelines(VirtualClock(wall=7.0), listener=lambda *step: heard.append(step))
    lines.received(KEY, reason="create", source="watch", tier="high", rv=1, delay=2.5)
    lines.handed_out(KEY, worker="w", attempt=2, waited=0.0)
    lines.ended(KEY, "failed", seconds=0.1, calls=[ApiCall("get", "east", "/p", 200, 0.1)] * 22, error="E: no")
    lines.delayed(KEY, seconds=3.0, reason="retry")
    lines.record(KEY, "problem", problem="p")
    assert {key for _, _, key, _ in heard} == {KEY}
    for (at, what, _, fields), step in zip(heard, lines.of(KEY), strict=True):
        named = fields if isinstance(fields, dict) else dict(zip(SHAPES[what], fields, strict=True))
        shown = {name: value for name, value in named.items() if value != "" and name != "calls"}
        kept = {name: value for name, value in step.detail.items() if value != "" and name != "calls"}
        assert (at, what, shown) == (step.at, step.what, kept)
    assert len(heard[2][3][1]) == 20


def busy_shard(lines: Timelines, keys: list[RequestKey], changes: int) -> None:
    """So many changes of each key, each with one request: three steps."""
    for change in range(changes):
        for number, key in enumerate(keys):
            why = "the default: no rule holds"
            lines.received(key, reason="update", source="watch", tier="standard", rv=900_000 + change, why=why)
            lines.handed_out(key, worker=f"raycp::worker::standard/{number % 4}::g0", attempt=1, waited=0.000731)
            calls = [ApiCall("patch", "east", PATH.format(number), 200, 0.00417)]
            lines.ended(key, "succeeded", seconds=0.0071, calls=calls)


@pytest.mark.parametrize(("keys", "changes"), [(2_600, 13), (11_200, 3), (33_400, 1)])
def test_a_hundred_thousand_steps_take_twelve_megabytes_at_most(keys: int, changes: int) -> None:
    """Measured with everything that the timelines allocate, for few and for many keys. The keys themselves are the cache's."""
    names = [RequestKey("app", "east", "default", f"app-{number}") for number in range(keys)]
    lines = Timelines(VirtualClock())
    tracemalloc.start()
    try:
        busy_shard(lines, names, changes)
        gc.collect()  # and the interpreter's free lists
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(lines) >= 98_000
    assert size <= 12_000_000, f"{size / len(lines):.0f} bytes per step"


def test_bytes_are_bounded_whatever_the_steps_carry() -> None:
    """Steps with twenty long requests each: fewer of them are kept, in no more memory."""
    lines = Timelines(VirtualClock(), most_bytes=1_000_000)
    calls = [ApiCall("patch", "east", PATH.format("x" * 200), 200, 0.004)] * 20
    names = [KEY._replace(name=str(number)) for number in range(2_000)]
    tracemalloc.start()
    try:
        for name in names:
            lines.ended(name, "succeeded", seconds=0.1, calls=calls)
        gc.collect()  # and the interpreter's free lists
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size <= 1_000_000
    assert 100 <= len(lines) < 2_000
    assert lines.of(names[-1])
    assert not lines.of(names[0])


async def test_the_steps_of_deleted_objects_are_forgotten_unless_work_goes_on() -> None:
    clock = VirtualClock()
    lines = Timelines(clock)
    names = [KEY._replace(name=str(number)) for number in range(3)]
    deleted, again, lives = names
    for name in names:
        lines.record(name, "problem", text="a test's")
    lines.object_deleted(deleted)
    lines.object_deleted(again)
    await clock.advance(DELETED_SECONDS - 10)
    lines.record(again, "problem", text="a namesake was made")
    assert lines.of(deleted)
    await clock.advance(20)
    lines.object_deleted(KEY)
    assert not lines.of(deleted)
    assert [len(lines.of(name)) for name in (again, lives)] == [2, 1]
    assert len(lines) == 3


def test_frequent_texts_are_numbers_and_their_table_is_bounded() -> None:
    table = Texts()
    assert [table["high"], table["low"], table["high"]] == [0, 1, 0]
    numbers = [table[text] for text in texts(2 * MOST_TEXTS)]
    assert len(table) == MOST_TEXTS
    assert [table.text(number) for number in numbers] == list(texts(2 * MOST_TEXTS)), "a text without a number is itself"
    assert table["y" * 1000] == "y" * 1000
    assert table.text(table["low"]) == "low"


def texts(count: int) -> Iterator[str]:
    return (f"text {number}" for number in range(count))


def test_every_kind_of_step_has_a_meaning() -> None:
    lines = Timelines(VirtualClock())
    for what in MEANINGS:
        lines.record(KEY, what, n=1)
    assert [step.what for step in lines.of(KEY)] == list(MEANINGS)
    with pytest.raises(KeyError):
        lines.record(KEY, "unheard_of")
