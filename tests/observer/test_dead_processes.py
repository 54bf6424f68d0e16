"""A process is forgotten when it has been missing for long enough, everywhere."""

from raycp.base.clock import VirtualClock
from raycp.observer.dead_processes import FORGET_AFTER, DeadProcesses


class Values:
    """Values of processes, by name."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def actors(self) -> list[str]:
        return list(self.names)

    def forget(self, actor: str) -> None:
        if actor in self.names:
            self.names.remove(actor)


async def test_a_dead_process_is_forgotten_in_all_stores_and_a_living_one_in_none() -> None:
    clock, first, second = VirtualClock(), Values("a", "b"), Values("b", "c")
    dead = DeadProcesses(clock, (first, second), lambda: {"a", "c"})
    await dead.forget()
    await clock.advance(FORGET_AFTER - 1.0)
    await dead.forget()
    assert (first.names, second.names) == (["a", "b"], ["b", "c"])
    await clock.advance(2.0)
    await dead.forget()
    assert (first.names, second.names) == (["a"], ["c"])


async def test_a_process_that_comes_back_starts_anew() -> None:
    clock, values = VirtualClock(), Values("a")
    living: set[str] = set()
    dead = DeadProcesses(clock, (values,), lambda: living)
    await dead.forget()
    await clock.advance(FORGET_AFTER - 1.0)
    living.add("a")
    await dead.forget()
    living.clear()
    await dead.forget()
    await clock.advance(FORGET_AFTER - 1.0)
    await dead.forget()
    assert values.names == ["a"]


async def test_nothing_is_forgotten_before_the_first_plan() -> None:
    clock, values = VirtualClock(), Values("a")
    dead = DeadProcesses(clock, (values,), lambda: None)
    await dead.forget()
    await clock.advance(FORGET_AFTER + 1.0)
    await dead.forget()
    assert values.names == ["a"]
