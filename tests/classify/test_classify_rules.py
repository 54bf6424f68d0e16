"""The table of verdicts: each row as a property over all events and all known states."""

import timeit
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.events import Event, EventType, Source
from raycp.base.objects import Meta, Obj
from raycp.classify import Known, Priority, Reason, begins_deletion, classify, resync_period, spread_delay


def obj(rv: int, version: int) -> Obj:
    return Obj(Meta(name="x", namespace="n"), b"{}", rv, version)


objects = st.builds(obj, st.integers(1, 4), st.integers(1, 3))
knowledge = st.builds(
    Known,
    version_reconciled=st.none() | st.integers(1, 3),
    covered=st.booleans(),
    has_watermark=st.booleans(),
    is_child=st.just(False),
    first_start=st.booleans(),
    own_writer=st.booleans(),
)
children = st.builds(Known, covered=st.booleans(), has_watermark=st.booleans(), is_child=st.just(True), first_start=st.booleans())


@st.composite
def events(draw, sources=tuple(Source)):
    kind = draw(st.sampled_from(tuple(EventType)))
    source = draw(st.sampled_from(sources))
    old = None if kind is EventType.ADDED else draw(objects)
    new = None if kind is EventType.DELETED else draw(objects)
    return Event(kind, source, old, new, 1.0)


@given(events((Source.WATCH,)), knowledge)
def test_live_changes_of_a_version_go_to_their_tier_at_once(event, known):
    verdict = classify(event, known)
    if event.type is EventType.MODIFIED and event.old.version == event.new.version:
        return
    wanted = {EventType.ADDED: Reason.CREATE, EventType.MODIFIED: Reason.UPDATE, EventType.DELETED: Reason.DELETE}
    assert (verdict.enqueue, verdict.reason) == (True, wanted[event.type])
    assert (verdict.user, verdict.clock, verdict.real) == (True, "live", True)
    assert (verdict.background, verdict.spread, verdict.priority) == (False, False, Priority.LIVE)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), knowledge)
def test_foreign_status_changes_are_queued_behind_live_changes_without_a_clock(rv, later, version, known):
    event = Event(EventType.MODIFIED, Source.WATCH, obj(rv, version), obj(rv + later, version), 1.0)
    verdict = classify(event, known)
    assert (verdict.enqueue, verdict.reason, verdict.clock) == (True, Reason.STATUS, None)
    assert verdict.priority < Priority.LIVE
    assert not verdict.background
    assert not verdict.user
    assert not verdict.real, "a flapping status must not defeat a backoff"


@given(events((Source.OWN_WRITE,)), knowledge | children)
def test_own_writes_are_silent_and_others_writes_are_not(event, known):
    verdict = classify(event, known)
    if known.own_writer and (known.is_child or not begins_deletion(event)):
        assert (verdict.enqueue, verdict.clock) == (False, None)
    elif event.type is not EventType.MODIFIED or event.old.version != event.new.version:
        assert verdict.enqueue


@given(events((Source.INITIAL,)), knowledge)
def test_initial_lists(event, known):
    if event.type is not EventType.ADDED:
        return
    verdict = classify(event, known)
    assert verdict.enqueue
    same = known.version_reconciled == event.new.version
    if same:
        expected = Reason.EXISTING
    elif known.version_reconciled is not None:
        expected = Reason.AWAY
    elif known.first_start or not known.has_watermark:
        expected = Reason.BACKLOG
    else:
        expected = Reason.EXISTING if known.covered else Reason.AWAY
    assert verdict.reason is expected
    if expected is Reason.EXISTING:
        assert (verdict.background, verdict.spread, verdict.clock, verdict.user) == (True, True, None, False)
    elif expected is Reason.AWAY:
        assert (verdict.background, verdict.spread, verdict.clock, verdict.user) == (False, False, "away", True)
        assert Priority.BACKLOG < verdict.priority <= Priority.LIVE
    else:
        assert (verdict.background, verdict.spread, verdict.clock, verdict.user) == (False, False, "backlog", False)
        assert verdict.priority < Priority.AWAY


@given(events((Source.RELIST, Source.REPLAY)), knowledge)
def test_changes_made_while_no_shard_was_watching(event, known):
    verdict = classify(event, known)
    if event.type is EventType.DELETED:
        assert (verdict.reason, verdict.clock, verdict.enqueue) == (Reason.AWAY, "away", True)
    elif event.type is EventType.MODIFIED and event.old.rv == event.new.rv and event.old.version == event.new.version:
        assert not verdict.enqueue, "an unchanged object of a relist enqueues nothing"
    elif event.type is EventType.MODIFIED and event.old.version != event.new.version:
        assert verdict.enqueue
        assert verdict.reason is (Reason.STATUS if known.version_reconciled == event.new.version else Reason.AWAY)
    elif event.type is EventType.ADDED and not known.covered and known.version_reconciled != event.new.version:
        first = known.first_start and known.version_reconciled is None
        assert verdict.reason is (Reason.BACKLOG if first else Reason.AWAY)


@given(events((Source.RESYNC,)), knowledge | children)
def test_resyncs_are_spread_over_the_background(event, known):
    verdict = classify(event, known)
    assert verdict.clock is None
    if known.is_child:
        assert not verdict.enqueue, "its owner is resynced itself"
    else:
        assert (verdict.reason, verdict.background, verdict.spread) == (Reason.RESYNC, True, True)
        assert verdict.priority is Priority.SYSTEM


@given(events(tuple(source for source in Source if source is not Source.OWN_WRITE)), children)
def test_a_childs_change_enqueues_its_owner_and_starts_no_clock(event, known):
    verdict = classify(event, known)
    assert verdict.clock is None
    assert not verdict.user
    assert not verdict.background
    away = event.source not in (Source.WATCH, Source.OVERTAKEN)
    changed = event.type is EventType.DELETED or (event.type is EventType.MODIFIED and event.old.rv != event.new.rv)
    if changed and event.source is not Source.RESYNC:
        assert verdict.enqueue
        assert verdict.reason is (Reason.OWNED_AWAY if away else Reason.OWNED)
        assert (verdict.priority < Priority.LIVE) is away
    if verdict.debounce:
        assert event.old.version == event.new.version


@given(events(), knowledge | children)
def test_every_verdict_is_consistent(event, known):
    """Nothing in the background starts a user's clock; what is not enqueued starts none; only system work is spread;
    and the function is pure."""
    verdict = classify(event, known)
    assert verdict == classify(event, known)
    assert not (verdict.clock and not verdict.enqueue)
    assert not (verdict.background and (verdict.user or verdict.clock))
    assert verdict.spread == verdict.background
    assert verdict.user == (verdict.clock in ("live", "away"))
    changed = event.old is None or event.new is None or event.old.version != event.new.version
    if changed and event.source in (Source.WATCH, Source.RELIST, Source.REPLAY) and not known.is_child:
        assert verdict.enqueue, "law 2: no change of a version is dropped"


@given(st.floats(0, 1e5), st.floats(0, 1e4), st.integers())
def test_spread_is_within_its_bounds(resync, spread, seed):
    delay = spread_delay(Random(seed), resync, spread)
    assert 0 <= delay <= spread
    assert resync == 0 or delay <= resync * 0.9 + 1e-9
    assert resync * 0.9 - 1e-6 <= resync_period(Random(seed), resync) <= resync * 1.1 + 1e-6


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_spread_refuses_invalid_durations(wrong):
    with pytest.raises(ValueError, match="no duration"):
        spread_delay(Random(1), 0.0, wrong)
    with pytest.raises(ValueError, match="no duration"):
        resync_period(Random(1), wrong)


def test_spread_is_even():
    rng = Random(5)
    delays = [spread_delay(rng, 36_000, 60) for _ in range(6_000)]
    per_second = [sum(int(delay) == second for delay in delays) for second in range(60)]
    assert min(per_second) > 50
    assert max(per_second) < 160


def test_an_event_is_classified_within_10_microseconds():
    event = Event(EventType.MODIFIED, Source.WATCH, obj(1, 1), obj(2, 2), 1.0)
    seconds = min(timeit.repeat(lambda: classify(event, Known(version_reconciled=1)), number=2_000, repeat=5)) / 2_000
    assert seconds <= 10e-6


def marked(rv: int, deleted: bool) -> Obj:
    return Obj(Meta(name="x", deletion_timestamp="2030-01-01T00:00:00Z" if deleted else None), b"{}", rv, rv)


@given(st.booleans(), st.booleans(), st.booleans())
def test_an_own_write_makes_its_key_due_only_where_it_begins_the_deletion_of_the_object(before, after, is_child):
    """Finalizers are the next reconcile's; that of a child is the owner's own doing, which it goes on with at once."""
    event = Event(EventType.MODIFIED, Source.OWN_WRITE, marked(1, before), marked(2, after), 1.0)
    verdict = classify(event, Known(is_child=is_child, own_writer=True))
    assert verdict.enqueue == (after and not before and not is_child)
    assert not verdict.user
    assert verdict.clock is None, "no user made it"


def test_an_own_deletion_that_removed_the_object_at_once_is_reconciled_too():
    event = Event(EventType.DELETED, Source.OWN_WRITE, marked(1, False), None, 1.0)
    assert classify(event, Known(own_writer=True)).reason is Reason.DELETE


@given(events(), st.builds(Known, covered=st.booleans(), has_watermark=st.booleans(), own_writer=st.booleans()))
def test_a_watched_object_is_judged_as_a_child_whose_first_list_says_nothing(event, known):
    watched = classify(event, msgspec.structs.replace(known, is_watched=True))
    child = classify(event, msgspec.structs.replace(known, is_child=True))
    assert (watched.user, watched.clock) == (False, None)
    if child.reason is Reason.BACKLOG:
        assert not watched.enqueue
    else:
        assert (watched.enqueue, watched.priority, watched.debounce) == (child.enqueue, child.priority, child.debounce)
        assert not watched.enqueue or watched.reason is Reason.WATCHED
