"""Whatever a reconciler says and a server answers, the acknowledgement can be sent: texts are cleaned, numbers bounded."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp import Context, Permanent, Result, Retry
from raycp.base.clock import SystemClock
from raycp.base.keys import GVK, RequestKey
from raycp.base.owner_marks import MarkKeys
from raycp.base.tasks import Child, Done, Outcome, Task
from raycp.kube import ApiError
from raycp.protocol.frames import Pull, decode_body, encode
from raycp.sdk import Answer, ApiRequest, CacheRead, ClusterInfo, Session, live, run_reconcile
from raycp.sdk.controller import controller
from raycp.sdk.event_recorder import event_for

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n", "namespace": "ns", "uid": "o"}}
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
LONE = "half of \ud83d a character"


class Liar:
    """A ``Backend`` whose server answers every write with ``body``, or refuses it with ``error``."""

    def __init__(self, body: bytes = b"", error: Exception | None = None) -> None:
        self.body = body
        self.error = error

    marks: MarkKeys | None = None

    @property
    def clusters(self) -> Mapping[str, ClusterInfo]:
        return {"a": ClusterInfo("a")}

    async def namespaced(self, cluster: str, kind: GVK) -> bool:
        return True

    async def read(self, task: Task, query: CacheRead) -> list[Child]:
        return []

    async def request(self, task: Task, call: ApiRequest) -> Answer:
        if self.error is not None:
            raise self.error
        return Answer(201, self.body)

    def event(self, task: Task, cluster: str, event: bytes) -> None: ...


async def run(fn: Any, backend: Any = None) -> Done:
    made = controller("v1/ConfigMap", name="c", owns=["v1/Pod"])(fn)
    task = Task(3, RequestKey("c", "a", "ns", "n"), "high", "user", 1, 1, "s", 1, 9, 0.0, msgspec.json.encode(OWNER), [])
    return await run_reconcile(Session(made, task, backend or Liar(), SystemClock()))


def sent(done: Done) -> Done:
    """The acknowledgement as the shard receives it."""
    message: Any = decode_body(encode(Pull(1, [done])))
    (found,) = message.done
    return found  # type: ignore[no-any-return]


async def creates(ctx: Context, obj: dict[str, Any]) -> None:
    await ctx.create(dict(POD))


async def test_what_a_reconciler_says_can_be_sent() -> None:
    hostile: list[Any] = [
        ValueError(LONE),
        Retry(LONE, after=1e300),
        Permanent(LONE * 10_000),
        Result(waiting=LONE),
        Result(tier=LONE),
        Result(requeue_after=10**400),
        LONE,
        ApiError(500, LONE, LONE * 10_000),
        ApiError(429, "TooManyRequests", "", math.inf),
        ApiError(429, "TooManyRequests", "", math.nan),
        ApiError(429, "TooManyRequests", "", -3.0),
    ]
    for how in hostile:

        async def fn(ctx: Context, obj: dict[str, Any], how: Any = how) -> Any:
            if isinstance(how, BaseException):
                raise how
            return how

        done = sent(await run(fn))
        assert len(done.error) <= 1000
        assert done.retry_after is None or 0 <= done.retry_after < math.inf, how


async def test_an_error_that_can_not_say_what_it_is_is_an_error_of_its_key() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RecursionError

    class Closed(Exception):
        def __getattribute__(self, name: str) -> Any:
            if name in ("__notes__", "__suppress_context__"):
                raise RuntimeError(name)
            return super().__getattribute__(name)

    for error in (Mute, Closed):

        async def fn(ctx: Context, obj: dict[str, Any], error: type[Exception] = error) -> None:
            raise error

        done = sent(await run(fn))
        assert done.outcome is Outcome.RETRY
        assert error.__name__ in done.error
        assert "test_sdk_hostile.py, line " in done.error


async def test_names_that_no_object_has_can_be_sent() -> None:
    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        await ctx.live.get("v1/Pod", LONE, cluster=LONE)

    done = await run(fn, Liar(error=ApiError(404, "NotFound", LONE)))
    assert len(done.calls) == 1
    assert "\ufffd" in sent(done).calls[0].cluster


@pytest.mark.parametrize(
    ("body", "rv"),
    [
        (b'{"kind":"Pod","metadata":{"name":"p","uid":"u","resourceVersion":"7"}}', 7),
        (b'{"kind":"Pod","metadata":{"name":"p","uid":"u","resourceVersion":"%d"}}' % 2**70, 0),
        (b'{"kind":"Pod","metadata":{"name":"p","uid":"u","resourceVersion":"\xc2\xb2"}}', 0),
        (b'{"kind":"Pod","metadata":{"name":"%s","uid":"u","resourceVersion":"7"}}' % (b"p" * 30_000_000), 0),
    ],
)
async def test_what_a_server_answers_to_a_write_can_be_sent(body: bytes, rv: int) -> None:
    done = await run(creates, Liar(body))
    (write,) = done.writes
    assert write.rv == rv
    assert len(write.name) <= 253
    if len(body) < 1_000:
        assert sent(done).writes == [write]


NO_OBJECTS = [b"<html>", b"", b"null", b"[]", b"{}", b'"\\ud800"', b'{"metadata":null}', b"[" * 5_000]


@given(st.binary(max_size=60) | st.sampled_from(NO_OBJECTS))
@settings(max_examples=100, deadline=None)
def test_an_answer_that_is_no_object_is_left_to_the_watch(body: bytes) -> None:
    """Called as the write's answer arrives: nothing is folded of it, and the key waits for the object by its watch."""
    done = asyncio.run(run(creates, Liar(body)))
    sent(done)
    for write in done.writes:
        assert write.raw is None or b"metadata" in write.raw


def test_an_event_about_anything_can_be_sent() -> None:
    event = event_for({**OWNER}, "Normal", LONE, LONE * 2_000, LONE, "c", "s", 0.0)
    msgspec.json.encode(event)
    assert len(event["note"].encode()) <= 1024


class Endless(Liar):
    """Each page of a list names a next one; the same one where ``stuck``."""

    def __init__(self, *, stuck: bool) -> None:
        super().__init__()
        self.stuck = stuck
        self.pages = 0

    async def request(self, task: Task, call: ApiRequest) -> Answer:
        self.pages += 1
        meta = {"resourceVersion": "1", "continue": "1" if self.stuck else str(self.pages)}
        items = [{"metadata": {"name": f"p-{self.pages}"}, "data": "x" * 1000}]
        return Answer(200, msgspec.json.encode({"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": items}))


@pytest.mark.parametrize("stuck", [True, False])
async def test_a_list_without_end_is_an_error_of_its_reconcile(stuck: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LARGEST_LIST", 20_000)
    backend = Endless(stuck=stuck)

    async def lists(ctx: Context, obj: dict[str, Any]) -> None:
        await ctx.live.list("v1/Pod")

    done = await run(lists, backend)
    assert done.outcome is Outcome.RETRY
    assert ("names itself as the next one" if stuck else "the pages of a list of v1/Pod have more than 20000 bytes") in done.error
    assert backend.pages < 25
