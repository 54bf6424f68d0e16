"""The simulation plays the same decisions, exactly timed; the generated trace has its shape."""

import itertools

import pytest
from admission_world import job, queue

from raycp.scheduling.baselines import by_cluster, in_one_line
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity
from raycp.scheduling.model import Candidate
from raycp.scheduling.simulation import SimulatedJob, SimulationError, simulate
from raycp.scheduling.trace import PRIORITIES, TraceShape, generate


def clusters(*nodes: int, cpu: int = 4) -> list[tuple[Candidate, object]]:
    return [
        (Candidate(f"c{at}"), declared_capacity(f"c{at}", [DeclaredNodes(count, {"cpu": cpu, "memory": 1 << 40})]))
        for at, count in enumerate(nodes)
    ]


def test_waits_utilisation_and_preemptions_are_exact() -> None:
    jobs = [
        SimulatedJob(job("low", 4, created=0.0), 100.0),
        SimulatedJob(job("high", 4, created=50.0, priority=9), 100.0, 9),
        SimulatedJob(job("last", 4, created=150.0), 10.0),
    ]
    found = simulate("x", jobs, clusters(1), [], grace=10.0)  # type: ignore[arg-type]
    high, low = found.classes
    assert (high.jobs, high.wait_max_s, high.preemptions) == (1, 10.0, 0)  # the grace of the victim
    assert (low.jobs, low.preemptions, low.unfinished) == (2, 1, 0)
    assert low.wait_max_s == pytest.approx(160.0)  # low: 160 to 260; 60 of them in vain before
    assert found.lost_share == pytest.approx(60 / 270)
    assert found.utilisation["cpu"] == pytest.approx(1.0)
    assert (found.preemptions, found.over_quota, found.makespan_s) == (1, 0, 270.0)


def test_what_can_never_run_is_told_and_ends_nothing() -> None:
    jobs = [SimulatedJob(job("huge", 9), 1.0), SimulatedJob(job("small", 1), 1.0)]
    (report,) = simulate("x", jobs, clusters(1), []).classes  # type: ignore[arg-type]
    assert (report.jobs, report.unfinished) == (2, 1)


def test_nothing_to_simulate_is_an_error() -> None:
    with pytest.raises(SimulationError, match="no jobs"):
        simulate("x", [], clusters(1), [])  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match="no cluster"):
        simulate("x", [SimulatedJob(job("j"), 1.0)], [], [])


def test_a_generated_trace_is_seeded_heavy_tailed_and_in_bursts() -> None:
    shape = TraceShape(3, 1500, 86_400.0, 0.8, 640_000, ("a", "b"))
    jobs = generate(shape)
    assert jobs == generate(shape)
    assert jobs != generate(TraceShape(4, 1500, 86_400.0, 0.8, 640_000, ("a", "b")))
    assert {each.group for each in jobs} == set(PRIORITIES)
    work = sorted(each.demand.pods * each.demand.requests["cpu"] * each.duration for each in jobs)
    assert sum(work) == pytest.approx(0.8 * 640_000 * 86_400, rel=0.05)
    assert sum(work[-75:]) > 0.4 * sum(work), "5 % of the jobs make most of the work"
    gaps = [b.demand.created - a.demand.created for a, b in itertools.pairwise(jobs)]
    mean = sum(gaps) / len(gaps)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) > 1.5 * mean**2, "burstier than a Poisson process"


def test_a_trace_against_one_line_and_queues_per_cluster() -> None:
    fleet = clusters(12, 12, 12, cpu=16_000)
    queues = [queue(name, 288_000, "all") for name in ("a", "b")]
    jobs = generate(TraceShape(5, 300, 20_000.0, 1.5, 576_000, ("a", "b")))
    ours = simulate("raycp", jobs, fleet, queues)  # type: ignore[arg-type]
    line, lines = in_one_line(jobs)
    fifo = simulate("fifo", line, fleet, lines)  # type: ignore[arg-type]
    bound, each = by_cluster(jobs, fleet)  # type: ignore[arg-type]
    alone = simulate("per-cluster", bound, fleet, each)  # type: ignore[arg-type]
    assert ours.over_quota == fifo.over_quota == alone.over_quota == 0
    assert fifo.preemptions == 0
    assert [report.unfinished for report in ours.classes] == [report.unfinished for report in fifo.classes], "what is too large"
    assert ours.classes[0].wait_mean_s < fifo.classes[0].wait_mean_s, "the urgent wait less"
    assert ours == simulate("raycp", jobs, fleet, queues)  # type: ignore[arg-type]
