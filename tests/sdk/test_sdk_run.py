"""``run_reconcile``: a reconciler that returns, raises, hangs, or leaves tasks behind."""

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict

from raycp import Context, Permanent, Result, Retry, SyncContext, controller
from raycp.base.clock import Clock, SystemClock, VirtualClock
from raycp.base.keys import GVK, RequestKey
from raycp.base.owner_marks import MarkKeys
from raycp.base.tasks import Child, Done, Outcome, Task
from raycp.kube.errors import ApiError, CircuitOpen, Fenced, Unreachable
from raycp.sdk import Answer, ApiRequest, CacheRead, ClusterInfo, DefinitionError, Session, run_reconcile

CM = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "n", "namespace": "ns", "uid": "u1", "resourceVersion": "7"},
}


class Memory:
    """A ``Backend`` that answers writes with what was written."""

    def __init__(self) -> None:
        self.calls: list[ApiRequest] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.rv = 100

    marks: MarkKeys | None = None

    @property
    def clusters(self) -> Mapping[str, ClusterInfo]:
        return {"a": ClusterInfo("a", labels={"region": "east"})}

    async def namespaced(self, cluster: str, kind: GVK) -> bool:
        return kind.kind != "Namespace"

    async def read(self, task: Task, query: CacheRead) -> list[Child]:
        return []

    async def request(self, task: Task, call: ApiRequest) -> Answer:
        self.calls.append(call)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.rv += 1
        body = msgspec.json.decode(call.body or b"{}")
        meta = {"name": call.name, "namespace": call.namespace, "uid": "c1"} | body.get("metadata", {})
        return Answer(200, msgspec.json.encode({**body, "metadata": {**meta, "resourceVersion": str(self.rv)}}))

    def event(self, task: Task, cluster: str, event: bytes) -> None:
        self.calls.append(ApiRequest("create", cluster, GVK("events.k8s.io", "v1", "Event"), body=event))


def task(obj: dict[str, Any] | None = CM, children: list[Child] | None = None) -> Task:
    raw = msgspec.json.encode(obj) if obj is not None else None
    return Task(3, RequestKey("c", "a", "ns", "n"), "high", "user", 2, 1, "s", 1, 9, 0.0, raw, children or [])


def session(fn: Any, given: Task | None = None, backend: Memory | None = None, clock: Clock | None = None) -> Session:
    made = fn if hasattr(fn, "kind") else controller("v1/ConfigMap", name="c", owns=["v1/Pod"])(fn)
    return Session(made, given or task(), backend or Memory(), clock or SystemClock())


async def run(fn: Any, *, given: Task | None = None, backend: Memory | None = None, **options: Any) -> Done:
    return await run_reconcile(session(fn, given, backend), **options)


async def test_returned_values_and_raised_errors_become_outcomes() -> None:
    async def ends(how: Any) -> Done:
        async def fn(ctx: Context, obj: dict[str, Any]) -> Any:
            if isinstance(how, BaseException):
                raise how
            return how

        return await run(fn)

    assert (await ends(None)).outcome is Outcome.OK
    done = await ends(Result(requeue_after=3, tier="high", waiting="quota"))
    assert (done.outcome, done.requeue_after, done.tier, done.waiting) == (Outcome.OK, 3.0, "high", "quota")
    assert (await ends(Result(waiting="login, token=hunter22"))).waiting == "login, token=[redacted]"
    done = await ends(Retry("not yet", after=5))
    assert (done.outcome, done.retry_after, done.error) == (Outcome.RETRY, 5.0, "not yet")
    assert (await ends(Permanent("never"))).outcome is Outcome.PERMANENT
    done = await ends(ApiError(429, "TooManyRequests", "slow down", 2.5))
    assert (done.outcome, done.retry_after) == (Outcome.RETRY, 2.5)
    assert (await ends(CircuitOpen("a", "down", 4.0))).retry_after == 4.0
    assert (await ends(Fenced("permit ended"))).outcome is Outcome.INTERRUPTED
    assert "changed meanwhile" in (await ends(ApiError(409, "Conflict", "x"))).error
    assert "no answer" in (await ends(Unreachable("no answer", sent=True))).error
    for error, told in ((SystemExit(3), "sys.exit"), (StopIteration(), "StopIteration")):
        assert told in (await ends(error)).error
        assert "(test_sdk_run.py, line " in (await ends(error)).error, "the author's line, not raycp's"
    assert "cancelled itself" in (await ends(asyncio.CancelledError())).error


@pytest.mark.parametrize("nonsense", [{"ok": 1}, 5, "done", Result(requeue_after=-1), Result(requeue_after=float("nan"))])
async def test_an_invalid_return_value_is_an_error_that_names_it(nonsense: Any) -> None:
    async def fn(ctx: Context, obj: dict[str, Any]) -> Any:
        return nonsense

    done = await run(fn)
    assert done.outcome is Outcome.RETRY
    assert done.error.startswith("c returned ")
    assert "(test_sdk_run.py, line " in done.error


async def test_a_traceback_shows_the_authors_frames_only(caplog: pytest.LogCaptureFixture) -> None:
    def helper() -> None:
        raise ValueError("the cause")

    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        helper()

    with caplog.at_level(logging.ERROR):
        done = await run(fn)
    assert done.error.startswith("ValueError: the cause (test_sdk_run.py, line ")
    assert "helper()" in caplog.text
    assert "raycp/sdk/run.py" not in caplog.text
    record = caplog.records[0]
    assert (record.cluster, record.namespace, record.attempt, record.tier) == ("a", "ns", 2, "high")  # type: ignore[attr-defined]


async def test_a_reconcile_that_times_out_is_cancelled_and_its_context_refuses_writes() -> None:
    clock, backend = VirtualClock(), Memory()
    after: list[str] = []

    @controller("v1/ConfigMap", name="c", timeout="2s")
    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await ctx.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})
            except Exception as error:
                after.append(str(error))

    work = asyncio.create_task(run_reconcile(session(fn, backend=backend, clock=clock)))
    await clock.advance(3)
    done = await work
    assert (done.outcome, done.error) == (Outcome.RETRY, "timed out: no result within 2 s")
    assert backend.calls == []
    assert "timed out" in after[0]


async def test_a_thread_that_times_out_is_awaited() -> None:
    release, entered = threading.Event(), threading.Event()

    @controller("v1/ConfigMap", name="c", timeout=0.05)
    def fn(ctx: SyncContext, obj: dict[str, Any]) -> None:
        entered.set()
        release.wait(10)

    with ThreadPoolExecutor(1) as executor:
        work = asyncio.create_task(run_reconcile(session(fn), executor=executor))
        await asyncio.to_thread(entered.wait, 5)
        await asyncio.sleep(0.15)
        assert not work.done(), "law 1: the key is not released under a running thread"
        release.set()
        assert (await work).error.startswith("timed out")


async def test_a_reconcile_revoked_during_a_write_reports_the_write() -> None:
    backend = Memory()
    backend.gate = asyncio.Event()

    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        await ctx.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})

    running = session(fn, backend=backend)
    work = asyncio.create_task(run_reconcile(running))
    async with asyncio.timeout(5):
        while not backend.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.revoke("hand-over")
    await asyncio.sleep(0)
    assert not work.done()
    backend.gate.set()
    done = await work
    assert (done.outcome, done.error) == (Outcome.INTERRUPTED, "hand-over")
    assert [write.name for write in done.writes] == ["p"]


async def test_a_task_that_outlives_its_reconcile_can_not_write() -> None:
    backend, failed = Memory(), []
    go = asyncio.Event()

    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        async def later() -> None:
            await go.wait()
            try:
                await ctx.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})
            except Exception as error:
                failed.append(error)

        background.append(asyncio.create_task(later()))

    background: list[asyncio.Task[None]] = []
    assert (await run(fn, backend=backend)).outcome is Outcome.OK
    go.set()
    await background[0]
    assert backend.calls == []
    assert "has ended" in str(failed[0])


async def test_cancelling_run_reconcile_ends_the_function_first() -> None:
    ended: list[str] = []

    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("yes")

    work = asyncio.create_task(run(fn))
    await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert ended == ["yes"]


async def test_a_plain_function_runs_in_a_thread_with_blocking_calls() -> None:
    backend = Memory()

    def fn(ctx: SyncContext, obj: dict[str, Any]) -> Result:
        assert threading.current_thread() is not threading.main_thread()
        ctx.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})
        ctx.event("Made", "a pod")
        return Result(requeue_after=1)

    done = await run(fn, backend=backend)
    assert (done.outcome, done.requeue_after) == (Outcome.OK, 1.0)
    assert [call.kind.kind for call in backend.calls] == ["Pod", "Event"]


class Widget(BaseModel):
    model_config = ConfigDict(extra="ignore")
    metadata: dict[str, Any]
    size: int


async def test_an_object_is_decoded_as_the_annotated_model() -> None:
    async def fn(ctx: Context, obj: Widget) -> None:
        assert obj.size == 3

    assert (await run(fn, given=task({**CM, "size": 3}))).outcome is Outcome.OK
    done = await run(fn, given=task({**CM, "size": "big"}))
    assert done.outcome is Outcome.PERMANENT
    assert "does not fit Widget: size" in done.error


async def test_a_deleted_object_is_reconciled_only_if_the_controller_asks_for_it() -> None:
    called: list[Any] = []

    async def fn(ctx: Context, obj: Any) -> None:
        called.append(obj)

    assert (await run(fn, given=task(None))).outcome is Outcome.OK
    assert called == []
    await run(controller("v1/ConfigMap", name="c", deleted=True)(fn), given=task(None))
    assert called == [None]


async def test_consecutive_writes_carry_the_version_of_the_previous_one() -> None:
    backend = Memory()

    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        await ctx.patch(obj, {"metadata": {"labels": {"a": "b"}}})
        assert await ctx.status({"phase": "x"})
        assert not await ctx.status({"phase": "x"}), "nothing changes, nothing is sent"
        await ctx.delete(obj)

    assert (await run(fn, backend=backend)).error == ""
    sent = [msgspec.json.decode(call.body or b"{}") for call in backend.calls]
    assert sent[0]["metadata"]["resourceVersion"] == "7"
    assert sent[1]["metadata"]["resourceVersion"] == "101"
    assert sent[2]["preconditions"] == {"uid": "u1", "resourceVersion": "102"}


async def test_a_status_changed_in_place_is_still_sent() -> None:
    backend = Memory()

    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        obj.setdefault("status", {})["phase"] = "new"
        assert await ctx.status(obj["status"])

    assert (await run(fn, backend=backend)).error == ""
    assert len(backend.calls) == 1


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: controller("Pod"), "VERSION/Kind"),
        (lambda: controller("v1/Pod", on="everywhere"), "members"),  # type: ignore[arg-type]
        (lambda: controller("v1/Pod", owns="v1/Pod"), "list of kinds"),
        (lambda: controller("v1/Pod", resync="soon"), "not a duration"),
        (lambda: controller("v1/Pod", concurrency=0), "at least 1"),
        (lambda: controller("v1/Pod", name="Not Good"), "lower-case"),
        (lambda: controller("v1/Pod", labels={"a": 1}), "quote it"),  # type: ignore[dict-item]
    ],
)
def test_a_wrong_declaration_says_what_to_write(make: Any, problem: str) -> None:
    async def fn(ctx: Context, obj: Any) -> None: ...

    with pytest.raises(DefinitionError, match=problem):
        make()(fn)
    with pytest.raises(DefinitionError, match="takes"):
        controller("v1/Pod", name="c")(lambda ctx: None)


def test_importing_raycp_is_light() -> None:
    import subprocess

    heavy = "ray pydantic kubernetes"
    code = f"import sys, raycp; print([m for m in {heavy.split()!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


async def test_the_fleet_files_config_is_ctx_config() -> None:
    seen: list[Any] = []

    @controller("v1/ConfigMap", name="configured")
    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        seen.append(ctx.config["greeting"])

    @controller("v1/ConfigMap", name="plain")
    def plain(ctx: SyncContext, obj: dict[str, Any]) -> None:
        seen.append(ctx.config["greeting"])

    for each in (fn, plain):
        done = await run_reconcile(session(each), config={"greeting": "hello"})
        assert done.outcome is Outcome.OK, done.error
    assert seen == ["hello", "hello"]


async def test_a_reconcile_leaves_no_cycle_behind_for_the_collector() -> None:
    # 16 objects per reconcile cause collections of 45 to 70 ms, which delay reconciles.
    @controller("v1/ConfigMap", name="c", owns=["v1/Pod"])
    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        await ctx.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}})
        assert ctx.live is not None

    def living() -> int:
        return sum(isinstance(each, Context | SyncContext | Session) for each in gc.get_objects())

    with ThreadPoolExecutor(1) as threads:

        def plain(ctx: SyncContext, obj: dict[str, Any]) -> None:
            assert ctx.live is not None

        for one in (fn, controller("v1/ConfigMap", name="d")(plain)):
            await run(one, executor=threads)
            gc.collect()
            gc.disable()
            try:
                before = living()
                for _ in range(50):
                    await run(one, executor=threads)
                assert living() - before < 10
            finally:
                gc.enable()


async def test_thousands_of_children_are_decoded_one_by_one_while_others_go_on() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}, "spec": {"x": "x" * 14_000}}
    children = [Child(cluster, "v1/Pod", msgspec.json.encode(pod)) for cluster in ("a", "b") for _ in range(500)]
    children.append(Child("a", "v1/Secret", msgspec.json.encode({**pod, "kind": "Secret"})))
    turns = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    seen: list[str] = []

    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        before = turns
        async for cluster, child in ctx.each_child("v1/Pod"):
            assert child["kind"] == "Pod"
            seen.append(cluster)
        assert turns - before >= 20, "14 MB are not decoded in one go"

    def plain(ctx: SyncContext, obj: dict[str, Any]) -> None:
        seen.extend(cluster for cluster, _ in ctx.each_child("v1/Pod"))

    async def undeclared(ctx: Context, obj: dict[str, Any]) -> None:
        async for _ in ctx.each_child("v1/Secret"):
            raise AssertionError

    beside = asyncio.create_task(neighbour())
    try:
        for each in (fn, plain):
            seen.clear()
            with ThreadPoolExecutor(1) as executor:
                done = await run(each, given=task(children=children), executor=executor)
            assert (done.outcome, done.error) == (Outcome.OK, "")
            assert seen == ["a"] * 500 + ["b"] * 500
        assert "not among owns" in (await run(undeclared, given=task(children=children))).error
    finally:
        beside.cancel()
