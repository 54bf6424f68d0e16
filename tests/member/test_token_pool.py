"""A worker's tokens: what came with hand-outs is used first, the rest is asked for, what is urgent first."""

import asyncio

from inprocess import CLOCK, until

from raycp.kube import Unreachable
from raycp.kube.budget import BACKGROUND, LIVE
from raycp.member.token_pool import TokenPool


class Shard:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.answers: asyncio.Queue[int | Exception] = asyncio.Queue()
        self.waited: list[float] = []

    async def ask(self, cluster: str, n: int, priority: int) -> int:
        self.asked.append((n, priority))
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


def pool(shard: Shard) -> TokenPool:
    return TokenPool("slow", CLOCK, shard.ask, lambda cluster, seconds: shard.waited.append(seconds))


async def test_what_came_with_hand_outs_is_used_and_the_rest_goes_back() -> None:
    shard = Shard()
    mine = pool(shard)
    mine.add(3)
    mine.add(2)
    assert all(mine.try_take(LIVE) for _ in range(4)), "one task may use another's"
    assert mine.settle(3) == (4, 0), "the task that still runs keeps what is left"
    assert mine.settle(2) == (0, 1)
    assert not mine.try_take(LIVE)
    assert not shard.asked


async def test_urgent_asks_do_not_wait_for_the_answer_to_others() -> None:
    shard = Shard()
    mine = pool(shard)
    order: list[str] = []
    mine.enqueue(BACKGROUND, lambda: order.append("background"))
    mine.enqueue(BACKGROUND, lambda: order.append("background"))
    await until(lambda: shard.asked == [(1, BACKGROUND)] or shard.asked == [(2, BACKGROUND)])
    mine.enqueue(LIVE, lambda: order.append("live"))
    await until(lambda: (1, LIVE) in shard.asked)
    shard.answers.put_nowait(1)
    await until(lambda: order)
    assert order == ["live"], "whichever answer came"
    shard.answers.put_nowait(2)
    await until(lambda: len(order) == 3)
    assert len(shard.waited) == 3
    await until(lambda: mine.pump() is None)
    shard.answers.put_nowait(0)


async def test_a_shard_that_is_gone_is_asked_again_and_one_that_gave_up_takes_no_token() -> None:
    shard = Shard()
    mine = pool(shard)
    granted: list[str] = []
    gone = mine.enqueue(LIVE, lambda: granted.append("gone"))
    shard.answers.put_nowait(Unreachable("the shard is gone", sent=True))
    await until(lambda: len(shard.asked) == 2)
    gone.dead = True
    mine.enqueue(LIVE, lambda: granted.append("next"))
    shard.answers.put_nowait(1)
    await until(lambda: granted == ["next"])


async def test_a_429_holds_everything_here() -> None:
    shard = Shard()
    mine = pool(shard)
    mine.add(1)
    mine.throttled(0.2)
    begun = CLOCK.now()
    assert not mine.try_take(LIVE)
    mine.enqueue(LIVE, lambda: None)
    await until(lambda: shard.asked)
    assert CLOCK.now() - begun >= 0.19
    assert mine.try_take(LIVE)
    shard.answers.put_nowait(1)
    await until(lambda: mine.pump() is None)
