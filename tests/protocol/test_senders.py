"""Every sender of frames, by the frame's type: what is unbounded in it is sent in parts that fit, for arbitrary sizes."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, get_args

import msgspec
import pytest
from channels import credentials, listening
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import CLOCK, HOST, until

from raycp.base.keys import RequestKey
from raycp.base.loops import Loops
from raycp.base.tasks import ApiCall, Child, Done, Outcome, Task, Written
from raycp.base.text import ERROR_LENGTH
from raycp.member.stats import StatsReporter
from raycp.metrics import Metrics
from raycp.observer import timelines
from raycp.observer.sources import Sources
from raycp.protocol.frames import (
    LARGEST,
    MAX_SENT,
    PAGE,
    CallOutcome,
    Clusters,
    ClusterState,
    ControllerStart,
    Culprit,
    Due,
    Fold,
    Held,
    Hello,
    HelloPart,
    KeyNote,
    KeyProgress,
    LivenessQuery,
    LivenessReply,
    MarkedKind,
    Message,
    Progress,
    Pull,
    Reached,
    Read,
    Refusal,
    Reply,
    ReplyCode,
    Revoke,
    Stats,
    Suspicion,
    SuspicionMark,
    Sync,
    SyncDone,
    Tasks,
    TimelineQuery,
    TimelineReply,
    TokenRequest,
    Wake,
    Wakes,
    WakesDone,
    Welcome,
    decode_body,
    encode,
)
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import ObserverPlan, ShardPlan
from raycp.protocol.report import Report
from raycp.protocol.transport import MAX_FRAME, Connection
from raycp.queueing import Item, Saved
from raycp.shard.cluster_states import cluster_frames, welcome_frames
from raycp.shard.dispatcher import Dispatcher
from raycp.shard.handouts import WorkerSeat
from raycp.shard.outbox import Outbox
from raycp.shard.progress_frames import Shared, progress_frames
from raycp.shard.read_pages import ReadPages
from raycp.shard.tasks import HandOuts
from raycp.shard.wakes import KeysDue, WakeSender
from raycp.worker.handout_frames import fit, held_frames, hello_frames, pull_frames
from raycp.worker.questions import ShardQuestions
from raycp.worker.write_folds import WriteFolds

KEY = RequestKey("c", "here", "default", "a")
LONG = RequestKey("c" * 63, "h" * 63, "d" * 63, "n" * 253)
SENDERS: dict[type, Callable[..., object] | str] = {}
"""By type of frame: the test of its sender, or what bounds it."""

few = settings(max_examples=12, deadline=None)
sizes = st.sampled_from([0, 10, 14_000, 200_000, PAGE - 1, PAGE, 3 * PAGE, LARGEST - 1_000])


def sends(*types: type) -> Callable[[Any], Any]:
    """The test below is that of the senders of these frames."""

    def note(test: Any) -> Any:
        SENDERS.update(dict.fromkeys(types, test))
        return test

    return note


def received(bodies: Sequence[bytes], first: int = MAX_FRAME) -> list[Any]:
    """The messages as a receiver gets them, which closes the connection for a larger frame."""
    assert all(len(body) <= MAX_SENT for body in bodies)
    assert len(bodies[0]) <= first
    return [decode_body(body) for body in bodies]


class Recorder:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.sent = 0
        self.backlog = 0

    def send(self, message: Message) -> None:
        self.write(encode(message))

    def write(self, body: bytes) -> None:
        self.sent += 1
        self.bodies.append(body)


# from workers


def done_of(identity: int, writes: int, size: int, calls: int, text: int) -> Done:
    written = Written("member", "v1/Pod", "default", "p" * 63, "u" * 36, 7, b"x" * size)
    failed = ApiCall("create", "member", "/api/v1/" + "p" * 500, 503, 0.1)
    passed = ApiCall("create", "member", "/api/v1/" + "p" * 500, 201, 0.1)
    listed = [failed if number % 3 else passed for number in range(calls)]
    done = Done(identity, KEY, Outcome.OK, 0.1, error="e" * min(text, ERROR_LENGTH), writes=[written] * writes, calls=listed)
    fit(done)
    return done


@sends(Pull)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 40, 30_000]), sizes, st.sampled_from([0, 5, 100_000]), sizes), max_size=4))
@few
def test_acknowledgements(specs: list[tuple[int, int, int, int]]) -> None:
    sent = [done_of(n, writes, 10 if writes > 1_000 else size, calls, text) for n, (writes, size, calls, text) in enumerate(specs)]
    messages = received(pull_frames(32, sent))
    assert sum(message.credit for message in messages) == 32
    found = [done for message in messages for done in message.done]
    assert [done.id for done in found] == [done.id for done in sent]
    for done, original in zip(found, sent, strict=True):
        whole = done.outcome is Outcome.OK
        assert whole or "could not be sent" in done.error
        assert len(done.writes) == len(original.writes), "the key waits for each of them"
        assert sum(call.seconds for call in done.calls) == pytest.approx(sum(call.seconds for call in original.calls)) or not whole


@pytest.mark.parametrize("length", [10, 253])
def test_acknowledgements_of_map_functions(length: int) -> None:
    keys = [RequestKey("c" * 63, "h" * 63, "d" * 63, f"{number}".ljust(length, "n")) for number in range(5_000)]
    sent = [Done(number, KEY, Outcome.OK, 0.0, wakes=keys) for number in range(30)]
    messages = received(pull_frames(32, sent))
    assert [done for message in messages for done in message.done] == sent
    assert all(len(encode(message)) < 3 * PAGE for message in messages), "one large acknowledgement at most"
    assert sum(message.credit for message in messages) == 32


def test_an_acknowledgement_with_many_requests_keeps_what_counts() -> None:
    done = done_of(1, 0, 0, 30_000, 0)
    assert len(done.calls) < 5_000
    passed = [call for call in done.calls if call.status == 201 or call.status == 200]
    assert sum(call.seconds for call in passed) == pytest.approx(0.1 * 10_000)
    assert sum(call.status == 503 for call in done.calls) > 1_000, "the breaker learns of failures"


def test_one_bad_acknowledgement_takes_no_other_with_it() -> None:
    bad = Done(2, KEY, Outcome.OK, 0.0, waiting="\ud800", writes=[Written("m", "v1/Pod", "d", "p", "u", 7, b"{}")], unused=3)
    huge = Done(4, KEY, Outcome.OK, 0.0, writes=[Written("m", "v1/Pod", "d", "p", "u", 2**70, b"{}")])
    good = [Done(number, KEY, Outcome.OK, 0.0) for number in (1, 3, 5)]
    messages = received(pull_frames(7, [good[0], bad, good[1], huge, good[2]]))
    found = {done.id: done for message in messages for done in message.done}
    assert sum(message.credit for message in messages) == 7
    assert [found[each.id] for each in good] == good
    assert found[2].outcome is found[4].outcome is Outcome.RETRY
    assert (found[2].unused, found[2].writes[0].raw) == (3, None), "tokens return, and the key waits for the write"
    assert found[4].writes == []


@sends(Held)
@given(st.sampled_from([0, 1, 64, 100_000, 2_000_000]))
@few
def test_reports_of_what_a_worker_has(count: int) -> None:
    ids = range(count)
    messages = received(held_frames(7, 32, ids))
    assert [number for message in messages for number in message.ids] == list(ids)
    assert [message.more for message in messages] == [True] * (len(messages) - 1) + [False]


@sends(Hello, HelloPart)
@given(st.sampled_from([0, 1, 32, 700, 20_000]), st.booleans())
@few
def test_hellos(count: int, long: bool) -> None:
    in_flight = [(number, LONG if long else KEY) for number in range(count)]
    hello, parts = hello_frames(Hello("w", "worker", HOST, 1, "", in_flight))
    messages = received([encode(hello), *parts])
    assert [each for message in messages for each in message.in_flight] == in_flight
    assert [message.more for message in messages] == [True] * (len(messages) - 1) + [False]


@sends(Fold)
@given(st.lists(st.tuples(st.sampled_from(["own", "other"]), st.sampled_from([1, 30]), sizes), max_size=4))
@few
def test_writes_of_other_shards_objects(specs: list[tuple[str, int, int]]) -> None:
    asyncio.run(_writes(specs))


async def _writes(specs: list[tuple[str, int, int]]) -> None:
    sent: dict[str, list[Fold]] = {"0": [], "1": []}

    class Link:
        def __init__(self, shard: str) -> None:
            self.shard = shard

        async def call(self, make: Callable[[int], Message], timeout: float) -> Reply:
            (message,) = received([encode(make(1))])
            sent[self.shard].append(message)
            return Reply(1)

        def send(self, message: Message) -> None: ...

    clusters = SimpleNamespace(shards={"own": "0", "other": "1"})
    folds = WriteFolds(clusters, ShardQuestions(clusters, {"0": Link("0"), "1": Link("1")}))
    writes = [
        Written(cluster, "v1/Pod", "d", f"{number}-{each}", "u", 7, b"x" * size)
        for number, (cluster, count, size) in enumerate(specs)
        for each in range(count)
    ]
    done = Done(1, KEY, Outcome.OK, 0.0, writes=list(writes))
    await folds.fold(done, "0")
    folded = {write.name for fold in sent["1"] for write in fold.writes}
    assert folded == {write.name for write in writes if write.cluster == "other"}
    assert {write.name for write in done.writes} == {write.name for write in writes if write.cluster == "own"}
    whole = {write.name for fold in sent["0"] for write in fold.writes} | {w.name for w in done.writes if w.raw is not None}
    assert whole == {write.name for write in done.writes}, "its own shard has every object, before or with the acknowledgement"
    received(pull_frames(0, [done]))


async def test_an_object_that_fits_in_no_frame_is_awaited() -> None:
    asked: list[Message] = []

    class Link:
        async def call(self, make: Callable[[int], Message], timeout: float) -> Reply:
            asked.append(make(1))
            return Reply(1)

        def send(self, message: Message) -> None: ...

    clusters = SimpleNamespace(shards={"own": "0", "other": "1"})
    folds = WriteFolds(clusters, ShardQuestions(clusters, {"0": Link(), "1": Link()}))
    large = b"x" * (LARGEST + 1)
    done = Done(1, KEY, Outcome.OK, 0.0, writes=[Written(name, "v1/Pod", "d", "p", "u", 7, large) for name in ("own", "other")])
    await folds.fold(done, "0")
    assert asked == []
    assert [(write.cluster, write.rv, write.raw) for write in done.writes] == [("own", 7, None), ("other", 7, None)]


SENDERS[Read] = "a question of one reconcile: the asker gets an error for one that is no frame"
SENDERS[TokenRequest] = SENDERS[Read]
SENDERS[CallOutcome] = "one failed request, and a count for each cluster of a shard"
SENDERS[Culprit] = "one hand-out, and a sentence of ours"
SENDERS[LivenessQuery] = SENDERS[LivenessReply] = "a number"


# from shards to workers


@sends(Tasks)
@given(st.lists(st.tuples(sizes, st.booleans()), max_size=8))
@few
def test_hand_outs(specs: list[tuple[int, bool]]) -> None:
    ended: list[Done] = []
    raws = dict(enumerate(specs))

    def make(worker: str, item: Item) -> Task:
        size, bad = raws[item.id]
        return Task(item.id, KEY, "\ud800" if bad else "standard", "", 1, 1, "0", 1, 7, 0.0, b"x" * size)

    maker: Any = SimpleNamespace(make=make, identity_of=lambda item: item.id)
    tokens: Any = SimpleNamespace(active=False)
    connection: Any = Recorder()
    seat = WorkerSeat("w", SimpleNamespace())  # type: ignore[arg-type]
    seat.connection, seat.credit = connection, 20
    out = HandOuts(SimpleNamespace(), maker, tokens, ReadPages(CLOCK), lambda _, done: ended.append(done))  # type: ignore[arg-type]
    out.send(seat, [Item(number, KEY, "standard", "", 0, 1, 0.0, 0.0) for number in raws])
    found = [task for message in received(connection.bodies) for task in message.tasks] if specs else []
    good = [number for number, (_, bad) in raws.items() if not bad]
    assert [task.id for task in found] == good == list(seat.in_flight)
    assert seat.credit == 20 - len(good)
    assert [(done.id, done.outcome) for done in ended] == [(number, Outcome.RETRY) for number, (_, bad) in raws.items() if bad]
    assert all(number <= connection.sent for number in seat.in_flight.values())


@sends(Reply)
@given(st.lists(sizes, max_size=30), st.sampled_from([0, 1, PAGE // 4, PAGE, 100 * PAGE]))
@few
def test_answers_to_reads(children: list[int], limit: int) -> None:
    pages = ReadPages(CLOCK)
    found = [Child("here", "v1/Pod", number.to_bytes(4, "big") + b"x" * size) for number, size in enumerate(children)]
    reply = pages.first("w", Reply(1, list(found)), limit)
    replies = [reply]
    while reply.token:
        (reply,) = received([encode(reply)])
        assert len(reply.found) >= 1
        assert sum(len(child.raw) for child in reply.found) <= (min(limit, PAGE) or PAGE) or len(reply.found) == 1
        reply = pages.more("w", Read(2, "more", [], [], "", reply.token, "", limit))
        replies.append(reply)
    received([encode(reply)])
    assert [child for reply in replies for child in reply.found] == found
    left = [reply.left for reply in replies]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert not pages.unfinished


def test_an_answer_with_an_object_that_fits_in_no_frame_names_it() -> None:
    pages = ReadPages(CLOCK)
    reply = pages.first("w", Reply(1, [Child("here", "v1/Pod", b"{}"), Child("here", "v1/Pod", b"x" * (LARGEST + 1))]), PAGE)
    reply = pages.more("w", Read(2, "more", [], [], "", reply.token, "", PAGE))
    assert reply.code is ReplyCode.TOO_LARGE
    assert "v1/Pod" in reply.error
    received([encode(reply)])
    assert not pages.unfinished
    assert pages.more("w", Read(3, "more", [], [], "", "read 1")).code is ReplyCode.FAILED


@sends(Clusters, Welcome)
@given(st.sampled_from([0, 1, 8, 5_000]), st.sampled_from([0, 30]), st.sampled_from([0, 500]))
@few
def test_cluster_states(count: int, labels: int, reason: int) -> None:
    many = {f"label-{number}": "v" * 63 for number in range(labels)}
    states = [ClusterState(f"cluster-{number}", "member", many, True, True, "r" * reason) for number in range(count)]
    for bodies in (cluster_frames(states), welcome_frames("0", 1, 1, states)):
        messages = received(bodies)
        assert [state for message in messages for state in message.clusters] == states
        assert [message.more for message in messages] == [True] * (len(messages) - 1) + [False]
    assert isinstance(received(welcome_frames("0", 1, 1, states))[0], Welcome)
    unsendable = ClusterState("c", "member", {"a": "\ud800"}, True, True)
    (message,) = received(cluster_frames([unsendable]))
    assert message.clusters[0].labels == {}


@sends(Revoke)
@given(st.sampled_from([0, 1, 3_000_000]))
@few
def test_revocations(count: int) -> None:
    connection: Any = Recorder()
    seat = WorkerSeat("w", SimpleNamespace())  # type: ignore[arg-type]
    seat.connection = connection
    Dispatcher.revoke(seat, list(range(count)))
    assert [number for message in (received(connection.bodies) if count else []) for number in message.ids] == list(range(count))


SENDERS[Refusal] = "a sentence of ours, and a name from a first frame, which is small"


# between shards, and to standbys


@sends(Wakes)
@given(st.sampled_from([1, 3_000]), st.sampled_from([1, 250, 20_000]))
@settings(max_examples=4, deadline=None)
def test_wakes(count: int, length: int) -> None:
    asyncio.run(_wakes(count, length if count == 1 or length < 1_000 else 5_000))


async def _wakes(count: int, length: int) -> None:
    arrived: list[Wake] = []

    class Receiver:
        def __init__(self, connection: Connection) -> None:
            connection.send(Welcome("1", 1, 1, []))

        def received(self, message: Message) -> None:
            if isinstance(message, Wakes):
                received([encode(message)])
                arrived.extend(wake for wake in message.wakes if isinstance(wake, Wake))

        def lost(self) -> None: ...

    hellos: list[Hello] = []

    def accept(connection: Connection, hello: Hello) -> Receiver:
        hellos.append(hello)
        return Receiver(connection)

    server = await listening(accept)
    loops = Loops(CLOCK)
    hello = Hello("s", Role.SHARD, HOST, 0)
    outbox = Outbox(
        ShardPlan("1", "m", 1, HOST, server.port), hello, credentials("s"), CLOCK, loops, lambda _: None, lambda _: None
    )
    sent = [RequestKey("c", "hub", "d", f"{number}-" + "n" * length) for number in range(count)]
    for number, key in enumerate(sent):
        outbox.wake(Wake(number, key, "owned"))
    outbox.wake(Wake(count, RequestKey("c", "hub", "d", "\ud800"), "owned"))
    await until(lambda: len(arrived) >= count, 20.0)
    assert {wake.key for wake in arrived} == set(sent)
    assert len(hellos) == 1, "the connection was never closed"
    assert len(outbox) == count + 1, "what can't be sent stays pending"
    outbox.close()
    await loops.stop()
    server.close()


@sends(WakesDone)
@given(st.sampled_from([0, 1, 3_000_000]))
@few
def test_acknowledged_wakes(count: int) -> None:
    connection: Any = Recorder()
    sender = WakeSender(connection, SimpleNamespace(), lambda _: None)  # type: ignore[arg-type]
    sender.acknowledge(list(range(count)))
    assert [seq for message in (received(connection.bodies) if count else []) for seq in message.seqs] == list(range(count))


def test_a_wake_that_fails_takes_no_other_with_it() -> None:
    def woken(wake: Wake, due: KeysDue) -> None:
        if wake.key.name == "bad":
            raise ZeroDivisionError
        due([wake.key] if wake.key.name == "here" else [])

    connection: Any = Recorder()
    sender = WakeSender(connection, SimpleNamespace(woken=woken), lambda _: None)  # type: ignore[arg-type]
    names = ["gone", "bad", "here", "gone"]
    sender.received(Wakes([Wake(number, KEY._replace(name=name), "") for number, name in enumerate(names)]))
    assert [message.seqs for message in received(connection.bodies)] == [[0], [3]]
    assert list(sender.waiting.values()) == [{2}]


@sends(Progress)
@given(st.sampled_from([0, 1, 500, 3_000]), st.sampled_from([0, 1, 30_000]), st.sampled_from([0, 1, 40]), st.booleans())
@few
def test_progress(keys: int, others: int, due: int, complete: bool) -> None:
    names = [LONG._replace(name=f"{number}" + "n" * 200) for number in range(max(keys, others))]
    dues = [Due(f"cluster-{number}", "batch.raycp.io/v1alpha1/BatchJob", 1, 2) for number in range(due)]
    suspicion = Suspicion([SuspicionMark("worker/standard/0", 1.0, 3, "r" * 1000)] * (due and 8), 9)
    note = KeyNote("cluster", tuple(f"cluster-{number}" for number in range(due)))
    changed = [
        KeyProgress(
            key, 7, Saved(key, "standard", 1, "", True, 0.0, 0.0, 0.0, 1, True, error="e" * 1000), None, dues, suspicion, note
        )
        for key in names[:keys]
    ]
    shared = Shared(
        [Reached(f"cluster-{number}", "v1/Pod", 9) for number in range(others)],
        names[:others],
        names[:others],
        [MarkedKind(f"cluster-{number}", "v1/Pod", 9, 1.0) for number in range(others)],
        [ControllerStart("c", f"cluster-{number}", "s", 9) for number in range(others)],
        complete,
    )
    numbers = iter(range(1, 1_000_000))
    messages = received(list(progress_frames(lambda: next(numbers), changed, shared)))
    assert [each for message in messages for each in message.changed] == changed
    for name in ("reached", "wakes", "acknowledged", "marks", "starts"):
        assert [each for message in messages for each in getattr(message, name)] == getattr(shared, name), name
    first = next((at for at, message in enumerate(messages) if message.reached), len(messages))
    assert not any(message.changed for message in messages[first + 1 :]), "how far events are judged follows all keys"
    assert [message.complete for message in messages] == [False] * (len(messages) - 1) + [complete]
    assert [message.seq for message in messages] == sorted({message.seq for message in messages})
    assert not messages[-1].more


def test_a_key_that_can_not_be_sent_costs_a_standby_that_key_only() -> None:
    changed = [KeyProgress(KEY._replace(name=str(number)), 7 if number != 3 else 2**70) for number in range(6)]
    numbers = iter(range(1, 1_000))
    messages = received(list(progress_frames(lambda: next(numbers), changed, Shared(complete=True))))
    assert [each.key.name for message in messages for each in message.changed] == ["0", "1", "2", "4", "5"]
    assert messages[-1].complete


# to the observer


@sends(Stats, TimelineReply)
@given(st.sampled_from([0, 100, 3 * PAGE + 1, 40 * PAGE]), st.sampled_from([10, 40 * PAGE]))
@settings(max_examples=4, deadline=None)
def test_statistics_and_timelines(slo: int, timeline: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timelines, "ASK_TIMEOUT", 30.0)  # the answer comes after statistics of 40 MiB
        asyncio.run(_statistics(slo, timeline))


async def _statistics(slo: int, timeline: int) -> None:
    fed: list[bytes] = []
    book: Any = SimpleNamespace(feed=lambda process, data: fed.append(data))
    merger: Any = SimpleNamespace(feed=lambda name, data: None, silence=lambda name: None)
    sources = Sources(CLOCK, merger, book, lambda: "home", lambda: None)
    server = await listening(sources.accept)
    loops = Loops(CLOCK)
    member = Member(Role.SHARD, "0", 0)
    plan: Any = SimpleNamespace(observer=ObserverPlan(HOST, server.port, member="m"), slot=lambda _: member.slot)
    report = Report(1, "node", reasons=["r" * 1000] * 3)
    body = msgspec.json.encode("t" * timeline)
    reporter = StatsReporter(
        member, credentials(member.actor_name), CLOCK, loops, Metrics(), lambda: report, lambda: b"s" * slo, lambda _: body
    )
    reporter.update(plan)
    await until(lambda: sources.reports, 20.0)
    assert sources.reports[member.actor_name].report == report
    assert {len(data) for data in fed} == ({slo} if slo else set())
    answer = await sources.timeline(member.actor_name, "here", "v1/Pod", "d", "p")
    assert answer is not None
    assert answer == body if timeline < LARGEST else b"timeline has" in answer
    assert await sources.timeline(member.actor_name, "here", "v1/Pod", "d", "\ud800") is None
    await loops.stop()
    server.close()


SENDERS[Sync] = SENDERS[SyncDone] = "empty"
SENDERS[TimelineQuery] = "names from one request's line: no timeline for what is no frame"


def test_every_frame_has_a_sender_that_is_tested_or_bounded() -> None:
    assert set(get_args(Message)) == set(SENDERS)
