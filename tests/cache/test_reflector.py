"""The reflector against a server that does everything wrong, over real sockets; both with and without WatchList."""

import logging

import pytest
from scripted_api import ScriptedApi, answer, cut_in_line, is_list, is_watch, once_for, reset, short_watch
from watched import Watched

from raycp.base.events import Source
from raycp.cache import Phase


async def test_list_then_watch(api: ScriptedApi, watched: Watched) -> None:
    for n in range(30):
        api.put(f"a{n:02}")
    watched.start()
    await watched.synced()
    assert sorted(watched.take()) == [("added", f"a{n:02}") for n in range(30)]
    api.put("new")
    api.put("a00", x=1)
    api.drop("a01")
    await watched.same()
    assert watched.told() == [("added", "new"), ("modified", "a00"), ("deleted", "a01")]
    assert all(event.source is Source.WATCH for event in watched.events)
    status = watched.reflector.status()
    assert (status.phase, status.synced, status.objects, status.failures) == (Phase.WATCHING, True, 30, 0)


async def test_410_relists_and_unchanged_objects_stay_silent(api: ScriptedApi, watched: Watched) -> None:
    for n in range(20):
        api.put(f"a{n}")
    watched.start()
    await watched.synced()
    watched.take()
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)

    # The connection breaks; while away one is changed, one deleted, one made anew; and history is compacted.
    async def away(request: object) -> object:
        api.put("a1", x=2)
        api.drop("a2")
        api.drop("a3")
        api.put("a3")
        api.compact()
        return await short_watch(request)  # type: ignore[arg-type]

    api.faults.append(once_for(is_watch, away))  # type: ignore[arg-type]
    await end_streams(watched)
    await watched.until(lambda: watched.reflector.status().lists == 2)
    await watched.same()
    told = watched.told()
    assert set(told[:2]) == {("deleted", "a2"), ("deleted", "a3")}
    assert set(told[2:]) == {("added", "a3"), ("modified", "a1")}
    assert {event.source for event in watched.events} == {Source.RELIST}
    assert watched.reflector.status().lists == 2


async def end_streams(watched: Watched) -> None:
    """Break all connections of the client, as a load balancer does."""
    watched.client.pool.drop()


@pytest.mark.parametrize("fault", [reset, short_watch, cut_in_line, answer(429, "TooManyRequests"), answer(503, "Down")])
async def test_a_broken_watch_is_taken_up_where_it_ended_without_a_list(api: ScriptedApi, watched: Watched, fault: object) -> None:
    api.put("a")
    watched.start()
    await watched.synced()
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)
    for _ in range(2):
        api.faults.append(once_for(is_watch, fault))  # type: ignore[arg-type]
    await end_streams(watched)
    api.put("b")
    await watched.same()
    assert watched.told() == [("added", "a"), ("added", "b")]
    assert watched.reflector.status().lists == 1


async def test_retry_after_is_kept(api: ScriptedApi, watched: Watched) -> None:
    watched.start()
    await watched.synced()
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)
    api.faults.append(once_for(is_watch, answer(429, "TooManyRequests", {"Retry-After": "1"})))
    await end_streams(watched)
    await watched.until(lambda: "429" in watched.reflector.status().last_error)
    status = watched.reflector.status()
    assert status.phase is Phase.BACKING_OFF
    assert status.retry_at - status.since > 0.9
    assert "429" in status.reason


async def test_server_gone_and_back(api: ScriptedApi, watched: Watched) -> None:
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


async def test_a_stalled_watch_is_noticed(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    watched.start(stall=0.2)
    await watched.synced()
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)
    api.mute_watch = True
    await watched.until(lambda: "stalled" in watched.reflector.status().last_error)
    api.mute_watch = False
    api.put("b")
    await watched.same()


async def test_bookmarks_move_the_version_of_a_quiet_kind(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    watched.start()
    await watched.synced()
    api.rv += 50  # other kinds are written
    await watched.until(lambda: watched.store.rv == api.rv)
    api.compact()
    lists = watched.reflector.status().lists
    await end_streams(watched)
    api.put("b")
    await watched.same()
    assert watched.reflector.status().lists == lists


async def test_list_fails_at_first(api: ScriptedApi, watched: Watched) -> None:
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


async def test_watchlist_without_its_end_falls_back_to_a_list(watched: Watched, api: ScriptedApi) -> None:
    api.skip_initial_end = True
    api.put("a")
    watched.start()
    await watched.synced()
    api.put("b")
    await watched.same()
    assert watched.told() == [("added", "a"), ("added", "b")]


async def test_a_raising_handler_stops_nothing(api: ScriptedApi, watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
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


async def test_another_cluster_under_the_same_name_voids_the_cache(api: ScriptedApi, watched: Watched) -> None:
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
    assert set(watched.told()) == {("deleted", "a"), ("deleted", "b"), ("added", "a")}
    assert watched.store.rv < 100


async def test_a_restored_cluster_is_known_by_its_lower_versions(api: ScriptedApi, watched: Watched) -> None:
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


async def test_replay_from_the_watermark_tells_deletions_and_what_changed(api: ScriptedApi, watched: Watched) -> None:
    for name in ("kept", "changed", "gone"):
        api.put(name)
    watermark = api.rv
    api.drop("gone")
    api.put("changed", x=1)
    api.put("changed", x=1, y=2)
    api.put("made")
    api.put("made-and-gone")
    api.drop("made-and-gone")
    watched.start(watermark=watermark)
    await watched.synced()
    await watched.until(watched.reflector.replayed.is_set)
    replayed = [e for e in watched.events if e.source is Source.REPLAY]
    found = {(e.type.value, e.obj.meta.name): e for e in replayed}
    assert set(found) == {("deleted", "gone"), ("modified", "changed"), ("added", "made"), ("deleted", "made-and-gone")}
    changed = found["modified", "changed"]
    assert changed.old is not None
    assert changed.old.rv < changed.obj.rv
    assert sum(e.source is Source.INITIAL for e in watched.events) == 3
    watched.take()
    api.put("later")
    await watched.same()
    assert watched.told() == [("added", "later")]


async def test_a_watermark_too_old_falls_back_to_comparing(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    api.put("b")
    api.compact()
    watched.start(watermark=100)
    await watched.synced()
    await watched.until(watched.reflector.replayed.is_set)
    api.put("c")
    await watched.same()
    assert sorted(watched.told()) == [("added", "a"), ("added", "b"), ("added", "c")]
    assert watched.reflector.status().lists == 1


async def test_label_selector_travels(api: ScriptedApi, watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    watched.start(label_selector="app in (a,b)")
    await watched.synced()
    assert api.count("GET", labelSelector="app in (a,b)") >= 1
    assert api.token is not None
    assert api.token not in caplog.text


async def test_a_reflector_that_takes_over_a_filled_store_tells_only_the_difference(api: ScriptedApi, watched: Watched) -> None:
    for name in ("same", "changed", "gone"):
        api.put(name)
    watched.start()
    await watched.synced()
    await watched.stop()
    watched.take()
    api.put("changed", x=1)
    api.drop("gone")
    watched.start(watermark=101)
    await watched.same()
    assert watched.told() == [("deleted", "gone"), ("modified", "changed")]
    assert {event.source for event in watched.events} == {Source.RELIST}
