"""The reflector against a faulty server, over real sockets, with and without WatchList."""

import logging

import pytest
from scripted_api import ScriptedApi, answer, cut_in_line, is_list, is_watch, once_for, reset, short_watch
from watched import Watched

from raycp.base.events import Source
from raycp.cache import Phase


async def test_objects_are_listed_then_watched(api: ScriptedApi, watched: Watched) -> None:
    for n in range(30):
        api.put(f"a{n:02}")
    watched.start()
    await watched.synced()
    assert sorted(watched.take()) == [("added", f"a{n:02}") for n in range(30)]
    api.put("new")
    api.put("a00", x=1)
    api.drop("a01")
    await watched.same()
    assert watched.emitted() == [("added", "new"), ("modified", "a00"), ("deleted", "a01")]
    assert all(event.source is Source.WATCH for event in watched.events)
    status = watched.reflector.status()
    assert (status.phase, status.synced, status.objects, status.failures) == (Phase.WATCHING, True, 30, 0)


async def test_a_410_is_followed_by_a_list_that_emits_only_changes(api: ScriptedApi, watched: Watched) -> None:
    for n in range(20):
        api.put(f"a{n}")
    watched.start()
    await watched.synced()
    watched.take()
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)

    # The connection breaks. Meanwhile one object is changed, one deleted, one recreated, and the history is compacted.
    async def meanwhile(request: object) -> object:
        api.put("a1", x=2)
        api.drop("a2")
        api.drop("a3")
        api.put("a3")
        api.compact()
        return await short_watch(request)  # type: ignore[arg-type]

    api.faults.append(once_for(is_watch, meanwhile))  # type: ignore[arg-type]
    break_connections(watched)
    await watched.until(lambda: watched.reflector.status().lists == 2)
    await watched.same()
    emitted = watched.emitted()
    assert set(emitted[:2]) == {("deleted", "a2"), ("deleted", "a3")}
    assert set(emitted[2:]) == {("added", "a3"), ("modified", "a1")}
    assert {event.source for event in watched.events} == {Source.RELIST}
    assert watched.reflector.status().lists == 2


def break_connections(watched: Watched) -> None:
    """Break all connections of the client, as a load balancer does."""
    watched.client.pool.drop()


@pytest.mark.parametrize("fault", [reset, short_watch, cut_in_line, answer(429, "TooManyRequests"), answer(503, "Down")])
async def test_a_broken_watch_continues_from_its_last_version_without_a_list(
    api: ScriptedApi, watched: Watched, fault: object
) -> None:
    api.put("a")
    watched.start()
    await watched.synced()
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)
    for _ in range(2):
        api.faults.append(once_for(is_watch, fault))  # type: ignore[arg-type]
    break_connections(watched)
    api.put("b")
    await watched.same()
    assert watched.emitted() == [("added", "a"), ("added", "b")]
    assert watched.reflector.status().lists == 1


async def test_the_backoff_respects_retry_after(api: ScriptedApi, watched: Watched) -> None:
    watched.start()
    await watched.synced()
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)
    api.faults.append(once_for(is_watch, answer(429, "TooManyRequests", {"Retry-After": "1"})))
    break_connections(watched)
    await watched.until(lambda: "429" in watched.reflector.status().last_error)
    status = watched.reflector.status()
    assert status.phase is Phase.BACKING_OFF
    assert status.retry_at - status.since > 0.9
    assert "429" in status.reason


async def test_the_watch_continues_after_an_outage_of_the_server(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    watched.start()
    await watched.synced()
    port = api.port
    await api.stop()
    await watched.until(lambda: watched.reflector.status().failures > 1)
    assert watched.reflector.status().synced
    assert len(watched.store) == 1
    api.put("b")
    await api.start(port)
    await watched.same()
    assert watched.reflector.status().lists == 1


async def test_a_stalled_watch_is_replaced(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    watched.start(stall=0.2)
    await watched.synced()
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)
    api.mute_watch = True
    await watched.until(lambda: "stalled" in watched.reflector.status().last_error)
    api.mute_watch = False
    api.put("b")
    await watched.same()


async def test_bookmarks_advance_the_version_of_an_unchanged_kind(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    watched.start()
    await watched.synced()
    api.rv += 50  # other kinds are written
    await watched.until(lambda: watched.store.rv == api.rv)
    api.compact()
    lists = watched.reflector.status().lists
    break_connections(watched)
    api.put("b")
    await watched.same()
    assert watched.reflector.status().lists == lists


async def test_a_failing_list_is_retried(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    for act in (answer(500, "InternalError"), answer(403, "Forbidden"), reset):
        api.faults.append(once_for(lambda r: r.path == "/api/v1/configmaps", act))
    watched.start()
    await watched.same()
    assert watched.reflector.status().failures == 3


async def test_an_expired_continue_token_starts_the_list_over(watched: Watched, api: ScriptedApi) -> None:
    for n in range(20):
        api.put(f"a{n}")
    expired = once_for(lambda r: is_list(r) and r.query.get("continue") == "14", answer(410, "Expired"))
    api.faults.append(expired)
    watched.start(watch_list=False)
    await watched.synced()
    assert len(watched.store) == 20
    assert len(watched.events) == 20
    assert watched.reflector.status().failures == 0


async def test_a_stream_without_an_end_mark_is_followed_by_a_list(watched: Watched, api: ScriptedApi) -> None:
    api.skip_initial_end = True
    api.put("a")
    watched.start()
    await watched.synced()
    api.put("b")
    await watched.same()
    assert watched.emitted() == [("added", "a"), ("added", "b")]


async def test_an_error_of_the_handler_is_logged_and_the_watch_continues(
    api: ScriptedApi, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def bad(events: object) -> None:
        calls.append(events)
        raise RuntimeError("boom")

    watched.start(bad)
    api.put("a")
    await watched.same()
    api.put("b")
    await watched.same()
    await watched.until(lambda: len(calls) >= 2)
    assert "handler failed" in caplog.text


async def test_a_recreated_cluster_voids_the_cache(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    api.put("b")
    voided: list[str] = []
    watched.start(on_void=voided.append)
    await watched.synced()
    watched.take()
    port = api.port
    await api.stop()
    api.objects.clear()
    api.history.clear()
    api.system_uid = "kube-system-2"
    api.rv = 40
    api.put("a")
    await api.start(port)
    await watched.until(lambda: bool(voided))
    await watched.same()
    assert watched.store.voids == 1
    assert set(watched.emitted()) == {("deleted", "a"), ("deleted", "b"), ("added", "a")}
    assert watched.store.rv < 100


async def test_a_restored_cluster_is_detected_by_its_lower_versions(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    api.rv += 100
    watched.start(check_identity=False)
    await watched.synced()
    port = api.port
    await api.stop()
    api.rv -= 80
    api.put("b")
    api.compact()
    api.compacted = 10_000  # 410 at the old version
    await api.start(port)
    await watched.until(lambda: watched.store.voids == 1)
    api.compacted = 0
    await watched.same()


async def test_the_replay_from_a_watermark_emits_deletions_and_changes(api: ScriptedApi, watched: Watched) -> None:
    for name in ("kept", "changed", "deleted"):
        api.put(name)
    watermark = api.rv
    api.drop("deleted")
    api.put("changed", x=1)
    api.put("changed", x=1, y=2)
    api.put("made")
    api.put("made-and-deleted")
    api.drop("made-and-deleted")
    watched.start(watermark=watermark)
    await watched.synced()
    await watched.until(watched.reflector.replayed.is_set)
    replayed = [e for e in watched.events if e.source is Source.REPLAY]
    found = {(e.type.value, e.obj.meta.name): e for e in replayed}
    assert set(found) == {("deleted", "deleted"), ("modified", "changed"), ("added", "made"), ("deleted", "made-and-deleted")}
    changed = found["modified", "changed"]
    assert changed.old is not None
    assert changed.old.rv < changed.obj.rv
    assert sum(e.source is Source.INITIAL for e in watched.events) == 3
    watched.take()
    api.put("later")
    await watched.same()
    assert watched.emitted() == [("added", "later")]


async def test_a_watermark_that_is_too_old_is_not_replayed(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    api.put("b")
    api.compact()
    watched.start(watermark=100)
    await watched.synced()
    await watched.until(watched.reflector.replayed.is_set)
    api.put("c")
    await watched.same()
    assert sorted(watched.emitted()) == [("added", "a"), ("added", "b"), ("added", "c")]
    assert watched.reflector.status().lists == 1


async def test_the_label_selector_is_sent_to_the_server(
    api: ScriptedApi, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    watched.start(label_selector="app in (a,b)")
    await watched.synced()
    assert api.count("GET", labelSelector="app in (a,b)") >= 1
    assert api.token is not None
    assert api.token not in caplog.text


async def test_a_reflector_on_a_filled_store_emits_only_the_difference(api: ScriptedApi, watched: Watched) -> None:
    for name in ("same", "changed", "deleted"):
        api.put(name)
    watched.start()
    await watched.synced()
    await watched.stop()
    watched.take()
    api.put("changed", x=1)
    api.drop("deleted")
    watched.start(watermark=101)
    await watched.same()
    assert watched.emitted() == [("deleted", "deleted"), ("modified", "changed")]
    assert {event.source for event in watched.events} == {Source.RELIST}


async def test_another_cluster_behind_a_new_connection_voids_the_cache_whatever_its_versions(
    api: ScriptedApi, watched: Watched
) -> None:
    """A reflector that goes on in the store of a stopped one, and finds higher versions: of another cluster all the same."""
    api.put("a")
    watched.start()
    await watched.synced()
    identity = watched.reflector.identity
    await watched.stop()
    watched.take()
    api.objects.clear()
    api.history.clear()
    api.system_uid = "kube-system-2"
    api.put("b")
    voided: list[str] = []
    watched.start(identity=identity, on_void=voided.append)
    await watched.same()
    assert watched.emitted() == [("deleted", "a"), ("added", "b")]
    assert watched.store.voids == 1
    await watched.until(lambda: bool(voided))
