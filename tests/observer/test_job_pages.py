"""However many ask the observer for jobs, the hub's shard has one question at a time, and no page twice within a second."""

import asyncio

from raycp.base.clock import VirtualClock
from raycp.observer.job_pages import FRESH, KEPT, JobPages
from raycp.observer.view import Json
from raycp.protocol.job_query import JobQuery


class Shard:
    def __init__(self) -> None:
        self.asked: list[JobQuery] = []
        self.at_once = self.most = 0
        self.silent = False

    async def __call__(self, query: JobQuery) -> Json | None:
        self.asked.append(query)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return None if self.silent else {"items": [query.name], "number": len(self.asked)}


async def test_one_question_at_a_time_and_no_page_twice() -> None:
    shard, clock = Shard(), VirtualClock()
    pages = JobPages(clock, shard)
    answers = await asyncio.gather(*(pages.page(JobQuery(name=str(at % 3))) for at in range(30)))
    assert (len(shard.asked), shard.most) == (3, 1)
    assert {tuple((answer or {})["items"]) for answer in answers} == {("0",), ("1",), ("2",)}
    await clock.advance(FRESH)
    await pages.page(JobQuery(name="0"))
    assert len(shard.asked) == 4, "an answer is not older than a second"


async def test_a_shard_that_does_not_answer_is_asked_once_a_second() -> None:
    """Else each of a hundred browsers would wait for the time-outs of all before it."""
    shard, clock = Shard(), VirtualClock()
    shard.silent = True
    pages = JobPages(clock, shard)
    answers = await asyncio.gather(*(pages.page(JobQuery(name=str(at))) for at in range(100)))
    assert answers == [None] * 100
    assert len(shard.asked) == 1
    shard.silent = False
    await clock.advance(FRESH)
    assert await pages.page(JobQuery()) is not None


async def test_a_bounded_number_of_answers_is_kept() -> None:
    shard, clock = Shard(), VirtualClock()
    pages = JobPages(clock, shard)
    for at in range(KEPT + 1):
        await pages.page(JobQuery(offset=at))
    await pages.page(JobQuery(offset=1))
    assert len(shard.asked) == KEPT + 1
    await pages.page(JobQuery(offset=0))
    assert len(shard.asked) == KEPT + 2, "the oldest was dropped"
