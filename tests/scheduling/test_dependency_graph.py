"""``DependencyGraph``: who is told of what, however jobs come, change and go."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.scheduling.demand import Dependency, JobDemand
from raycp.scheduling.dependencies import DependencyGraph

NAMES = "abcdef"
steps = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), max_size=3)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(set())),
)


def job(name: str, after: Any) -> JobDemand:
    return JobDemand(name, "ns", name, 0.0, 1, depends_on=tuple(Dependency(each) for each in sorted(after)))


def circular(jobs: dict[str, JobDemand], start: str) -> bool:
    """By following every dependency."""
    found: set[str] = set()
    stack = [start]
    while stack:
        at = jobs.get(stack.pop())
        new = {each.job for each in at.depends_on} - found if at is not None else set()
        found |= new
        stack += new
    return start in found


@settings(max_examples=150)
@given(st.lists(steps, max_size=25))
def test_whoever_is_concerned_is_told_and_each_cycle_is_found(made: list[tuple[str, str, set[str]]]) -> None:
    graph = DependencyGraph()
    jobs: dict[str, JobDemand] = {}
    believed: dict[str, Any] = {}
    for kind, name, after in made:
        if kind == "add":
            jobs[name] = job(name, after)
            concerned = graph.add(jobs[name]) | {f"ns/{name}"}
        else:
            jobs.pop(name, None)
            believed.pop(name, None)
            concerned = graph.remove(f"ns/{name}")
        for each in jobs.values():
            if each.key in concerned:
                believed[each.name] = graph.obstacle(each, ())
        for each in jobs.values():
            found = believed[each.name]
            if circular(jobs, each.name):
                assert found is not None
                assert found[0] == "DependencyCycle"
                assert found[1].count(each.key) == 2
            elif each.depends_on:
                missing = min(each.depends_on, key=str).job not in jobs
                assert found is not None
                assert found[0] == ("DependencyMissing" if missing else "DependsOn")
            else:
                assert found is None


def test_a_long_chain_costs_what_it_is_long_in_whatever_order_it_comes() -> None:
    """A search through all of it for each of its jobs takes minutes, in which the shard does nothing else."""
    graph = DependencyGraph()
    length, told = 3000, 0
    for number in reversed(range(length)):
        told += len(graph.add(job(f"j{number}", [f"j{number - 1}"])))
    assert told == length - 1
    assert graph.add(job("j0", [f"j{length - 1}"])) == {f"ns/j{number}" for number in range(length)}
    assert graph.remove("ns/j0") >= {f"ns/j{number}" for number in range(1, length)}
