"""``generate``: jobs in the shape of public cluster traces, the same for the same seed.

What such traces have in common (Google 2019: Tirmazi et al., EuroSys 2020; Alibaba 2018; Philly: Jeon et al., ATC 2019): few large
jobs make most of the work, durations spread over orders of magnitude, users submit in bursts, days have a rhythm, and requested
times exceed those needed. None of their data is used.
"""

import math
from random import Random

import msgspec
from msgspec.structs import replace

from raycp.scheduling.demand import JobDemand
from raycp.scheduling.simulation import SimulatedJob

PRIORITIES = (0, 100, 1000)
SHARES = (0.6, 0.3, 0.1)
"""Of the jobs, by priority."""

_GI = 1 << 30
_LARGEST = 128


class TraceShape(msgspec.Struct, frozen=True):
    """``jobs`` jobs over ``span`` seconds for ``queues``, whose work is about ``load`` of the ``cpu`` millicores that there
    are. None lasts longer than a quarter of ``span``."""

    seed: int
    jobs: int
    span: float
    load: float
    cpu: int
    queues: tuple[str, ...] = ("",)


def generate(shape: TraceShape) -> list[SimulatedJob]:
    """The jobs, in the order of their arrival."""
    random = Random(shape.seed)
    made: list[SimulatedJob] = []
    while len(made) < shape.jobs:
        start = _moment(random, shape.span)
        queue = random.choices(shape.queues, [1 / (at + 1) for at in range(len(shape.queues))])[0]
        priority = random.choices(PRIORITIES, SHARES)[0]
        alike = random.random() < 0.5  # a sweep: the same job many times
        first = _job(random, len(made), start, queue, priority)
        for _ in range(min(shape.jobs - len(made), int(random.paretovariate(1.1)))):
            start = min(shape.span, start + random.expovariate(1 / 20.0))
            each = first if alike else _job(random, 0, start, queue, priority)
            uid = f"job-{len(made):06}"
            made.append(SimulatedJob(replace(each.demand, uid=uid, name=uid, created=start), each.duration, priority))
    factor = 1.0
    for _ in range(8):  # the longest are cut, so that a few of them do not last for weeks
        work = sum(each.demand.pods * each.demand.requests["cpu"] * min(shape.span / 4, each.duration * factor) for each in made)
        factor *= shape.load * shape.cpu * shape.span / work
    return sorted((_scaled(each, factor, shape.span / 4) for each in made), key=lambda each: (each.demand.created, each.demand.uid))


def _moment(random: Random, span: float) -> float:
    """More by day than by night: rejection against 1 + 0.6 sin."""
    while True:
        at = random.uniform(0.0, span)
        if random.random() * 1.6 < 1 + 0.6 * math.sin(2 * math.pi * (at / 86_400 - 0.25)):
            return at


def _job(random: Random, number: int, created: float, queue: str, priority: int) -> SimulatedJob:
    pods = min(_LARGEST, 2 ** int(random.expovariate(0.7)))
    cpu = random.choice((500, 1000, 2000, 4000))
    duration = min(12 * 3600.0, random.lognormvariate(math.log(300.0), 1.6))
    told = random.random() < 0.7
    demand = JobDemand(
        f"job-{number:06}",
        "trace",
        f"job-{number:06}",
        created,
        pods,
        {"cpu": cpu, "memory": cpu * random.choice((1, 2, 4)) * _GI // 1000},
        queue,
        priority,
        min_available=pods if pods > 1 and random.random() < 0.5 else 0,
        active_deadline=duration * random.uniform(1.2, 4.0) if told else None,
    )
    return SimulatedJob(demand, duration, priority)


def _scaled(job: SimulatedJob, factor: float, longest: float) -> SimulatedJob:
    factor = min(factor, longest / job.duration)
    deadline = job.demand.active_deadline
    demand = job.demand if deadline is None else replace(job.demand, active_deadline=deadline * factor)
    return replace(job, demand=demand, duration=job.duration * factor)
