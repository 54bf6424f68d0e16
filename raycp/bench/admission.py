"""The scenario ``admission``: the scheduler's decisions by themselves, without hub, network and processes.

10 000 jobs wait in 50 queues of one cohort over 100 clusters of 10 nodes; jobs end in the order in which they started, preempted
ones
at once. Keys: decisions_per_second (of the processor), submit_us (to take in a job), decide_p99_ms (one call, up to 100 decisions),
over_quota. What a hub adds, the writes, is not in it.
"""

import time
from random import Random
from typing import Any

from raycp.scheduling.admission import Admission
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.model import Candidate
from raycp.scheduling.queues import FlavorQuotas, FlavorResource, QueueSpec
from raycp.scheduling.simulation import quantile

CLUSTERS, NODES, QUEUES, JOBS = 100, 10, 50, 10_000
DECISIONS = 5000
"""Measured ones, at most."""

_GI = 1 << 30


def play_decisions(scale: float = 1.0, seed: int = 1) -> dict[str, float]:
    """The figures; ``scale`` shrinks all counts but that of the queues' kinds of jobs."""
    random = Random(seed)
    clusters, queues, jobs = (max(2, round(count * scale)) for count in (CLUSTERS, QUEUES, JOBS))
    admission = Admission()
    cores = clusters * NODES * 8000
    quota = FlavorQuotas("default", (FlavorResource("cpu", cores // queues),))
    admission.set_queues([QueueSpec(f"q{at}", (quota,), "all") for at in range(queues)], 0.0)
    for at in range(clusters):
        nodes = DeclaredNodes(NODES, {"cpu": 8000, "memory": 32 * _GI})
        admission.set_cluster(Candidate(f"c{at}"), declared_capacity(f"c{at}", [nodes]), 0.0)
    demands = [_job(random, at, queues) for at in range(jobs)]
    began = time.process_time()
    for demand in demands:
        admission.submit(demand, None, 0.0)
    submitted = time.process_time() - began
    decisions, over, now = 0, 0, 1.0
    running: dict[str, None] = {}
    spent: list[float] = []
    began = time.process_time()
    while decisions < DECISIONS * scale:
        start = time.process_time()
        made = admission.decide(now)
        spent.append(time.process_time() - start)
        decisions += len(made)
        over += len(admission.over_quota())
        for decision in made:
            if decision.kind == "Admit":
                running[decision.uid] = None
            else:
                running.pop(decision.uid, None)
                admission.evicted(decision.uid, now)
        if not made:
            if not running:
                break
            now += 1.0
            for uid in list(running)[: max(1, clusters // 5)]:
                del running[uid]
                admission.finish(uid, "Complete", now)
    seconds = time.process_time() - began
    return {
        "decisions_per_second": round(decisions / seconds, 1),
        "submit_us": round(submitted / jobs * 1e6, 1),
        "decide_p99_ms": round(quantile(sorted(spent), 0.99) * 1000, 2),
        "over_quota": over,
    }


def _job(random: Random, number: int, queues: int) -> JobDemand:
    requests = {"cpu": random.choice((500, 1000, 2000, 4000)), "memory": _GI}
    pods = random.choice((1, 2, 4, 8, 64))
    return JobDemand(
        f"job-{number}",
        "bench",
        f"job-{number}",
        float(number),
        pods,
        requests,
        f"q{number % queues}",
        random.choice((0, 0, 0, 10)),
        active_deadline=random.choice((None, 600.0)),
    )


async def run(args: Any) -> dict[str, Any]:
    """Run the scenario. ``args.scale``, if given, shrinks all counts."""
    scale = float(getattr(args, "scale", 1.0) or 1.0)
    return {"scenario": "admission", "n": int(JOBS * scale), "missing": 0, **play_decisions(scale)}
