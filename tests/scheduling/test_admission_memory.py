"""What admission remembers, puts off or looks at once for many jobs changes no decision: the same events give the same as counting
everything anew each time, and as deciding in the smallest steps."""

from collections.abc import Callable
from typing import Any

from admission_world import World, job
from hypothesis import given, settings
from hypothesis import strategies as st
from test_admission_laws import CLUSTERS, QUEUES, apply, events

from raycp.base.quantities import UNBOUNDED
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity
from raycp.scheduling.filters import refusal
from raycp.scheduling.lines import JobEntry, Misfit, QueueLine
from raycp.scheduling.model import Rules
from raycp.scheduling.rooms import ClusterRoom, PodShape
from raycp.scheduling.state import AdmissionState


class Forgetful(AdmissionState):
    """It remembers nothing that it could find out, and puts nothing off."""

    def free(self, shape: PodShape) -> int:
        answering = [name for name, each in self.candidates.items() if each.reachable and not each.refusal]
        return sum(self.rooms[name].count(shape) if name in self.rooms else UNBOUNDED for name in answering)

    def eligible(self, rules: Rules) -> tuple[str, ...]:
        return tuple(name for name, each in sorted(self.candidates.items()) if refusal(each, rules) is None)

    def later(self, what: str, do: Callable[[], None]) -> None:
        do()

    def called_off(self, what: str) -> bool:
        return False


@settings(max_examples=60, deadline=None)
@given(st.lists(events, min_size=5, max_size=40))
def test_decisions_are_those_of_counting_everything_anew_and_of_the_smallest_steps(steps: list[tuple[str, Any]]) -> None:
    worlds = World(QUEUES, CLUSTERS), World(QUEUES, CLUSTERS, Forgetful), World(QUEUES, CLUSTERS)
    for number, (kind, value) in enumerate(steps):
        for world in worlds:
            apply(world, number, kind, value)
        made = worlds[0].decide()
        assert worlds[1].decide() == made
        assert worlds[2].decide(step_by_step=True) == made


def test_what_changes_between_two_steps_counts() -> None:
    world = World(QUEUES, CLUSTERS)
    for number in range(4):
        world.submit(job(f"j{number}", 1, 1, float(number), queue="d"))
    (first,) = world.admission.decide(0.0, 10, lambda: True)
    assert (first.uid, world.admission.undecided) == ("j0", True)
    world.admission.finish("j1", "Deleted", 0.0)
    for name in CLUSTERS:
        world.lost.add(name)
        world.tell(name)
    assert world.admission.decide(0.0, 10) == []
    world.lost.clear()
    world.tell("c1")
    assert [each.uid for each in world.admission.decide(0.0, 10)] == ["j2", "j3"]
    assert not world.admission.undecided


changes = st.tuples(st.sampled_from(["grant", "revoke", "restore", "keep", "show", "shrink"]), st.integers(0, 5), st.integers(1, 4))


@settings(max_examples=80, deadline=None)
@given(st.lists(changes, max_size=40))
def test_a_cluster_knows_its_room_whatever_is_given_taken_and_kept(steps: list[tuple[str, int, int]]) -> None:
    room = ClusterRoom(declared_capacity("c", [DeclaredNodes(3, {"cpu": 4}), DeclaredNodes(2, {"cpu": 7, "gpu": 1})]))
    shapes = [PodShape.of({"cpu": cpu}, {}, ()) for cpu in (1, 2, 3)] + [PodShape.of({"cpu": 1, "gpu": 1}, {}, ())]
    empty = [room.room(shape) for shape in shapes]
    taken: list[Any] = []
    kept: list[Any] = []
    for what, key, number in steps:
        name = f"k{key}"
        if what == "restore" and taken:
            room.restore(*taken.pop())
        elif what in ("keep", "show"):
            nodes = room.nodes_of(name)
            kept += nodes
            room.keep(nodes, kept=what == "keep")
        elif what == "revoke" and (grant := room.revoke(name)) is not None:
            taken.append((name, grant))
        elif what in ("grant", "shrink") and not taken:
            room.grant(name, shapes[number - 1], number) if what == "grant" else room.shrink(name, number)
        assert [room.room(shape) for shape in shapes] == [room.count(shape) for shape in shapes]
    while taken:
        room.restore(*taken.pop())
    room.keep(kept, kept=False)
    for key in range(6):
        room.revoke(f"k{key}")
    assert [room.room(shape) for shape in shapes] == empty
    assert room.content == 0, "as if nothing had been tried"


waiting = st.tuples(st.integers(0, 30), st.integers(1, 3), st.sampled_from([None, 5.0, 9.0]), st.integers(0, 1))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "add", "remove", "give up", "hope"]), waiting), max_size=40))
def test_a_line_shows_the_first_of_each_group_of_which_there_is_hope(steps: list[tuple[str, Any]]) -> None:
    line, inside = QueueLine(), dict[str, JobEntry]()
    for what, (number, cpu, deadline, priority) in steps:
        uid = f"j{number}"
        if what == "add" and uid not in inside:
            entry = JobEntry(job(uid, 1, cpu, float(number % 7), active_deadline=deadline, priority=priority), record=None)  # type: ignore[arg-type]
            inside[uid] = entry
            line.add(entry)
        elif what == "remove" and uid in inside:
            line.remove(inside.pop(uid))
        elif what == "give up" and uid in inside:
            line.give_up(inside[uid].kind, Misfit("NoRoom", "", hopeless=True))
        elif what == "hope":
            line.hope()
        ordered = sorted(inside.values(), key=lambda each: each.rank)
        firsts: dict[Any, JobEntry] = {}
        for entry in ordered:
            if entry.kind not in line.hopeless:
                firsts.setdefault(entry.group, entry)
        assert list(line.heads()) == list(firsts.values())
        assert len(line) == len(ordered)
        assert all(line.position(entry) == at for at, entry in enumerate(ordered, 1))
