"""The law of credit: what a shard may have outstanding at a worker never exceeds the limit, and the limit is always granted."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from channels import listening
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inprocess import CLOCK, HOST, until
from worker_links import link_to

from raycp.base.keys import RequestKey
from raycp.base.loops import Loops
from raycp.base.tasks import Done, Outcome, Task
from raycp.kube import Unreachable
from raycp.protocol.frames import Hello, Message, Pull, Read, Reply, Tasks, Welcome
from raycp.protocol.plan import ShardPlan
from raycp.protocol.transport import Connection
from raycp.worker import shard_link
from raycp.worker.shard_link import InFlight, ShardLink

KEY = RequestKey("c", "here", "default", "a")


class Worker:
    """A link's runs: tasks run until the test ends them."""

    def __init__(self) -> None:
        self.loops = Loops(CLOCK)
        self.running: dict[int, Task] = {}
        self.most = 0

    def link(self, port: int) -> ShardLink:
        return link_to(ShardPlan("0", "m", 1, HOST, port), self, self.loops)

    def in_flight(self, shard: str) -> InFlight:
        return [(identity, task.key) for identity, task in self.running.items()]

    def start(self, link: ShardLink, tasks: Sequence[Task]) -> None:
        self.running.update((task.id, task) for task in tasks)
        self.most = max(self.most, len(self.running))

    def finish(self, link: ShardLink, number: int) -> None:
        for identity in list(self.running)[:number]:
            del self.running[identity]
            link.finished(Done(identity, KEY, Outcome.OK, 0.0))

    def revoke(self, link: ShardLink, ids: Sequence[int]) -> None: ...


class Shard:
    """The shard: spends the credit that it is given, and counts."""

    def __init__(self) -> None:
        self.credit = 0
        self.open: set[int] = set()
        self.done: list[int] = []
        self.connection: Connection | None = None
        self.most = 0
        self.last = 0
        self.answers = True

    def accept(self, connection: Connection, hello: Hello) -> "Shard":
        self.connection = connection
        self.credit = 0
        self.open = {identity for identity, _ in hello.in_flight}
        self._count()
        connection.send(Welcome("0", 1, 1, []))
        return self

    def received(self, message: Message) -> None:
        if isinstance(message, Pull):
            for done in message.done:
                self.open.discard(done.id)
                self.done.append(done.id)
            self.credit += message.credit
            self._count()
        elif isinstance(message, Read) and self.answers and self.connection is not None:
            self.connection.send(Reply(message.id, error=message.name))

    def lost(self) -> None: ...

    def _count(self) -> None:
        self.most = max(self.most, self.credit + len(self.open))

    def hand_out(self, number: int) -> None:
        number = min(number, self.credit)
        if number and self.connection is not None:
            tasks = [Task(self.last + n, KEY, "standard", "create", 1, 1, "0", 1, 7, 0.0, b"{}") for n in range(1, number + 1)]
            self.last += number
            self.credit -= number
            self.open.update(task.id for task in tasks)
            self.connection.send(Tasks(tasks))

    def drop(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("hand out"), st.integers(1, 6)),
        st.tuples(st.just("finish"), st.integers(1, 6)),
        st.tuples(st.just("drop"), st.just(0)),
        st.tuples(st.just("finish while disconnected"), st.integers(1, 6)),
        st.tuples(st.just("let go on"), st.integers(0, 3)),
    ),
    max_size=25,
)


@given(what=steps, limit=st.integers(1, 8))
@example(what=[("hand out", 2), ("let go on", 2), ("finish while disconnected", 2)], limit=3)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_credit_never_exceeds_the_limit_and_is_always_granted(
    monkeypatch: pytest.MonkeyPatch, what: list[tuple[str, int]], limit: int
) -> None:
    monkeypatch.setattr(shard_link, "RECONNECT_MIN", 0.005)
    monkeypatch.setattr(shard_link, "RECONNECT_MAX", 0.005)
    asyncio.run(_credit(what, limit))


async def _credit(what: list[tuple[str, int]], limit: int) -> None:
    worker, shard = Worker(), Shard()
    server = await listening(shard.accept)
    link = worker.link(server.port)
    link.set_credit(limit)
    await until(lambda: shard.credit == limit)
    for step, number in what:
        if step == "hand out":
            shard.hand_out(number)
        elif step == "finish":
            worker.finish(link, number)
        elif step == "drop":
            shard.drop()
        elif step == "finish while disconnected":
            shard.drop()
            async with asyncio.timeout(5):
                while link.connected and shard.connection is None:  # noqa: ASYNC110 - each turn of the loop counts
                    await asyncio.sleep(0)
            worker.finish(link, number)
        else:
            for _ in range(10 * number):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001 * number)
    # In the end the link is connected and the limit is fully used.
    await until(lambda: shard.connection is not None and link.connected and shard.credit + len(shard.open) == limit)
    await until(lambda: shard.open == set(worker.running), what="both ends agree on what is in work")
    assert shard.most <= limit
    assert worker.most <= limit
    assert len(set(shard.done)) == len(shard.done), "acknowledged once"
    await link.close()
    await worker.loops.stop()
    server.close()


async def test_a_lower_limit_takes_effect_as_tasks_end() -> None:
    worker, shard = Worker(), Shard()
    server = await listening(shard.accept)
    link = worker.link(server.port)
    link.set_credit(4)
    await until(lambda: shard.credit == 4)
    shard.hand_out(4)
    await until(lambda: len(worker.running) == 4)
    link.set_credit(2)
    for identity in list(worker.running):
        del worker.running[identity]
        link.finished(Done(identity, KEY, Outcome.OK, 0.0))
        await until(lambda: identity in shard.done)  # noqa: B023
    assert shard.credit == 2
    await link.close()
    await worker.loops.stop()
    server.close()


async def test_a_shard_that_does_not_answer_hello_is_connected_to_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A welcome that is lost costs a connection, not the worker's slots for this shard."""
    monkeypatch.setattr(shard_link, "WELCOMED_WITHIN", 0.1)
    monkeypatch.setattr(shard_link, "RECONNECT_MIN", 0.005)
    worker, shard = Worker(), Shard()
    hellos: list[Hello] = []

    def accept(connection: Connection, hello: Hello) -> Shard:
        hellos.append(hello)
        if len(hellos) > 2:
            return shard.accept(connection, hello)
        return Shard()

    server = await listening(accept)
    link = worker.link(server.port)
    link.set_credit(4)
    await until(lambda: shard.credit == 4)
    assert len(hellos) == 3
    await link.close()
    await worker.loops.stop()
    server.close()


async def test_questions_fail_when_the_connection_is_lost_or_the_shard_is_silent() -> None:
    worker, shard = Worker(), Shard()
    server = await listening(shard.accept)
    link = worker.link(server.port)

    def question(name: str) -> Any:
        return link.call(lambda identity: Read(identity, "get", [], [], "", name), 0.2)

    with pytest.raises(Unreachable, match="not connected"):
        await question("early")
    await until(lambda: link.connected)
    answers = await asyncio.gather(*(question(str(n)) for n in range(20)))
    assert [answer.error for answer in answers] == [str(n) for n in range(20)], "each its own"
    shard.answers = False
    with pytest.raises(Unreachable, match="did not answer"):
        await question("silent")
    asking = asyncio.ensure_future(link.call(lambda identity: Read(identity, "get", [], [], "", ""), 30.0))
    await asyncio.sleep(0.01)
    shard.drop()
    with pytest.raises(Unreachable, match="was lost"):
        await asking
    await link.close()
    await worker.loops.stop()
    server.close()
