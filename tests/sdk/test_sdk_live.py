"""A ``Context`` against a real API server (embedded, over HTTPS)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from live_fleet import LiveFleet, make_task

from raycp import ALL, Context, controller, finalizer
from raycp.base.clock import VirtualClock
from raycp.base.tasks import Outcome
from raycp.kube import ApiError
from raycp.sdk import ApiRequest, EventRecorder
from raycp.sdk.event_recorder import SERIES_PERIOD

POD = {"containers": [{"name": "main", "image": "busybox"}]}


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("one", "two") as made:
        await made.send("create", "one", config())
        yield made


def config(name: str = "n") -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "labels": {"app": "x"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "1"}}


def pod(name: str = "p") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": POD}


async def call(fleet: LiveFleet, fn: Any) -> None:
    done = await fleet.reconcile(controller("v1/ConfigMap", name="c", owns=["v1/Pod"])(fn), "default", "n")
    assert done.outcome is Outcome.OK, done.error


async def test_create_of_our_own_object_succeeds_and_of_anothers_fails(fleet: LiveFleet) -> None:
    async def fn(ctx: Context, cm: dict[str, Any]) -> None:
        first = await ctx.create(pod())
        again = await ctx.create(pod())
        assert first["metadata"]["uid"] == again["metadata"]["uid"]
        assert first["metadata"]["ownerReferences"][0]["uid"] == cm["metadata"]["uid"]
        await ctx.create(pod("stranger"), own=False)
        with pytest.raises(ApiError) as refused:
            await ctx.create(pod("stranger"))
        assert refused.value.already_exists

    await call(fleet, fn)


async def test_children_come_with_the_task_and_carry_the_owner_label_in_other_clusters(fleet: LiveFleet) -> None:
    async def make(ctx: Context, cm: dict[str, Any]) -> None:
        await ctx.create(pod())
        made = await ctx.create(pod("far"), cluster="two")
        assert made["metadata"]["labels"]["raycp.io/owner-uid"] == cm["metadata"]["uid"]
        assert made["metadata"]["annotations"]["raycp.io/owner"] == "one/default/n"

    async def look(ctx: Context, cm: dict[str, Any]) -> None:
        assert [child["metadata"]["name"] for child in ctx.children("v1/Pod")] == ["p"]
        far = await ctx.list("v1/Pod", owner=cm["metadata"]["uid"], cluster="two")
        assert [child["metadata"]["name"] for child in far] == ["far"]
        assert await ctx.get("v1/Pod", "none") is None
        assert await ctx.live.get("v1/Namespace", "default") is not None
        assert len(await ctx.live.list("v1/Pod", ALL)) == 1
        with pytest.raises(ValueError, match="owns"):
            ctx.children("v1/Secret")

    await call(fleet, make)
    await call(fleet, look)


async def test_apply_creates_and_changes_and_retries_after_a_version_conflict(fleet: LiveFleet) -> None:
    target = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "t"}, "data": {"a": "1", "b": "2"}}

    async def fn(ctx: Context, cm: dict[str, Any]) -> None:
        await ctx.apply(target)
        found = await ctx.live.get("v1/ConfigMap", "t")
        assert found is not None
        await fleet.send("patch", "one", found, {"metadata": {"labels": {"by": "other"}}})
        changed = await ctx.apply({**target, "data": {"a": "3"}})
        assert changed["data"] == {"a": "3"}, "a field that it no longer applies is removed"
        assert changed["metadata"]["labels"] == {"by": "other"}, "what others set stays"

    await call(fleet, fn)


async def test_writes_on_a_changed_object_conflict(fleet: LiveFleet) -> None:
    async def fn(ctx: Context, cm: dict[str, Any]) -> None:
        await fleet.send("patch", "one", cm, {"data": {"a": "2"}})
        for patch, kind in (({"data": {"a": "3"}}, "merge"), ([{"op": "remove", "path": "/data"}], "json")):
            with pytest.raises(ApiError) as refused:
                await ctx.patch(cm, patch, type=kind)
            assert refused.value.conflict
        with pytest.raises(ApiError) as refused:
            await ctx.delete(cm)
        assert refused.value.conflict

    await call(fleet, fn)


async def test_delete_of_a_deleted_or_replaced_object_returns_false(fleet: LiveFleet) -> None:
    async def fn(ctx: Context, cm: dict[str, Any]) -> None:
        made = await ctx.create({**config("t"), "metadata": {"name": "t"}})
        assert await ctx.delete(made)
        assert not await ctx.delete(made)
        await ctx.create({**config("t"), "metadata": {"name": "t"}})
        assert not await ctx.delete(made), "another object has its name"
        assert await ctx.live.get("v1/ConfigMap", "t") is not None

    await call(fleet, fn)


async def test_the_finalizer_guards_cleanup(fleet: LiveFleet) -> None:
    called: list[str] = []

    @controller("v1/ConfigMap", name="c")
    async def fn(ctx: Context, cm: dict[str, Any]) -> Any:
        async def apply(obj: dict[str, Any]) -> None:
            assert obj["metadata"]["finalizers"] == ["example.com/f"]
            called.append("apply")

        async def cleanup(obj: dict[str, Any]) -> None:
            called.append("cleanup")

        return await finalizer(ctx, cm, "example.com/f", apply=apply, cleanup=cleanup)

    await fleet.reconcile(fn, "default", "n")
    await fleet.send("delete", "one", config(), {})
    assert len(await fleet.objects("one", "v1/ConfigMap", "default", "app=x")) == 1
    done = await fleet.reconcile(fn, "default", "n")
    assert done.error == ""
    assert called == ["apply", "cleanup"]
    assert await fleet.objects("one", "v1/ConfigMap", "default", "app=x") == []


async def test_equal_events_reach_the_server_as_one_with_a_count(fleet: LiveFleet) -> None:
    clock = VirtualClock()
    recorder = EventRecorder(fleet.request, clock)
    fleet.event = recorder.record  # type: ignore[method-assign]

    async def fn(ctx: Context, cm: dict[str, Any]) -> None:
        for _ in range(3):
            ctx.event("Echoed", "a note")

    await call(fleet, fn)
    await recorder.flush()
    found = [e for e in await fleet.objects("one", "events.k8s.io/v1/Event", "default") if e["reason"] == "Echoed"]
    assert len(found) == 1
    assert found[0]["regarding"]["name"] == "n"
    await clock.advance(SERIES_PERIOD + 1)
    await call(fleet, fn)
    await recorder.flush()
    found = [e for e in await fleet.objects("one", "events.k8s.io/v1/Event", "default") if e["reason"] == "Echoed"]
    assert [event["series"]["count"] for event in found] == [6]
    assert recorder.dropped == 0

    async def refuse(call: ApiRequest) -> None:
        raise ApiError(403, "Forbidden", "no")

    fleet.before = refuse
    recorder.record(make_task("c", "one", config()), "one", b"not json")
    await recorder.flush()
    assert recorder.dropped == 1

    async def broken(call: ApiRequest) -> None:
        fleet.before = None
        raise ValueError("a bug")

    sent, fleet.before = recorder.sent, broken
    fleet.event = recorder.record  # type: ignore[method-assign]

    async def two(ctx: Context, cm: dict[str, Any]) -> None:
        ctx.event("First", "a note")
        ctx.event("Second", "a note")

    await call(fleet, two)
    await recorder.flush()
    assert (recorder.dropped, recorder.sent) == (2, sent + 1), "the one that fails costs itself"
