"""The bytes that large reconciles of a worker hold: never more than there are, in turn, and none is lost."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import until

from raycp.worker import task_memory
from raycp.worker.task_memory import NoRoom, TaskMemory

steps = st.lists(
    st.tuples(st.sampled_from(["reserve", "reserve", "release", "give up", "take"]), st.integers(0, 5), st.integers(1, 150)),
    max_size=40,
)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_no_more_is_held_than_there_is_and_everybody_has_a_turn(what: list[tuple[str, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_memory, "HOLDS", 100)
        asyncio.run(_turns(what))


async def _turns(what: list[tuple[str, int, int]]) -> None:
    memory = TaskMemory()
    held: dict[int, int] = {}
    waiting: dict[int, asyncio.Task[None]] = {}
    order: list[int] = []

    async def reserve(holder: int, size: int) -> None:
        await memory.reserve(holder, size)
        order.remove(holder)
        held[holder] = held.get(holder, 0) + size

    for step, holder, size in what:
        if step == "reserve" and holder not in waiting and holder not in held:
            order.append(holder)
            waiting[holder] = asyncio.ensure_future(reserve(holder, size))
        elif step == "take" and holder in held:
            if memory.used + size <= 200:
                memory.take(holder, size)
                held[holder] += size
            else:
                with pytest.raises(NoRoom):
                    memory.take(holder, size)
        elif step == "release" and holder in held:
            memory.release(holder)
            del held[holder]
        elif step == "give up" and holder in waiting and not waiting[holder].done():
            waiting.pop(holder).cancel()
            order.remove(holder)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            memory.release(holder)  # as the end of every task does
        for _ in range(3):
            await asyncio.sleep(0)
        waiting = {who: task for who, task in waiting.items() if not task.done()}
        assert memory.used == sum(held.values())
        assert memory.used <= 200
        assert not order or held, "somebody goes on"
    while held or order:
        for holder in list(held):
            memory.release(holder)
            del held[holder]
        for _ in range(3):
            await asyncio.sleep(0)
    assert memory.used == 0


async def test_who_waits_too_long_is_told_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_memory, "HOLDS", 100)
    monkeypatch.setattr(task_memory, "WITHIN", 0.05)
    memory = TaskMemory()
    await memory.reserve("first", 1_000_000)
    with pytest.raises(NoRoom, match="50 bytes did not fit"):
        await memory.reserve("second", 50)
    monkeypatch.setattr(task_memory, "WITHIN", 30.0)
    done: list[Any] = []
    third = asyncio.ensure_future(memory.reserve("third", 60))
    third.add_done_callback(done.append)
    memory.release("first")
    await until(lambda: done)
    assert memory.used == 60
    memory.release("third")
    memory.release("third")
    assert memory.used == 0
