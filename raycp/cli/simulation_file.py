"""``kind: Simulation``: the jobs and queues that ``raycp simulate`` plays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from raycp.base.quantities import QuantityError, parse_resources
from raycp.base.regular_files import read_regular
from raycp.cli.errors import BadInput
from raycp.config.names import Labels
from raycp.config.problems import ConfigError, Loc, Problem, dotted, from_validation, line_of, shown, value_at
from raycp.config.strict import Strict
from raycp.config.units import Duration, PositiveDuration
from raycp.config.yamltree import MAX_BYTES, BadYaml, parse
from raycp.controllers.queues.specs import InvalidQueue, read_queue
from raycp.controllers.queues.types import QueueObjectSpec
from raycp.scheduling.demand import Dependency, JobDemand
from raycp.scheduling.dependencies import DependencyGraph
from raycp.scheduling.model import Rules
from raycp.scheduling.queues import QueueSpec
from raycp.scheduling.simulation import SimulatedJob
from raycp.scheduling.trace import TraceShape, generate


class SimulatedDependency(Strict):
    """`dependsOn` of a job."""

    job: str
    """Its name."""
    condition: Literal["Complete", "Failed", "Started"] = "Complete"
    """What it has to have reached."""


class SimulatedJobSpec(Strict):
    """`count` jobs, one after the other."""

    name: str = Field(min_length=1)
    """Its name; with `count`, each gets a number."""
    duration: PositiveDuration
    """How long its Pods run."""
    arrival: Duration = 0.0
    """When it arrives, from the start."""
    count: int = Field(default=1, ge=1, le=100_000)
    """How many."""
    every: Duration = 0.0
    """Between two of them."""
    queue: str = ""
    """Its queue."""
    priority: int = 0
    """In the queue."""
    pods: int = Field(default=1, ge=1, le=100_000)
    """At once, as `parallelism` of a `BatchJob`."""
    requests: dict[str, str | int] = {"cpu": 1}
    """Of each Pod."""
    min_available: int = Field(default=0, ge=0)
    """`gang.minAvailable` of a `BatchJob`."""
    topology: Literal["Any", "SameCluster", "SameZone"] = "Any"
    """`gang.topology`."""
    active_deadline: PositiveDuration | None = None
    """`activeDeadlineSeconds`."""
    node_selector: Labels = {}
    """Labels of the nodes that it needs."""
    cluster_selector: Labels = {}
    """Labels of the clusters that it may use."""
    depends_on: list[SimulatedDependency] = []
    """Jobs that come first."""


class TraceSpec(Strict):
    """Generated jobs: heavy-tailed sizes, bursts, three priorities."""

    seed: int = 1
    """The same seed makes the same jobs."""
    jobs: int = Field(default=2000, ge=1, le=200_000)
    """How many."""
    span: PositiveDuration = 86_400.0
    """The time in which they arrive."""
    load: float = Field(default=0.8, gt=0, le=10)
    """Their work, as a share of what the clusters could do in that time."""


class SimulationSpec(Strict):
    """What happens."""

    queues: dict[str, dict[str, Any]] = {}
    """The `spec` of each `Queue`, by name."""
    jobs: list[SimulatedJobSpec] = []
    """Jobs, one by one."""
    trace: TraceSpec | None = None
    """Jobs to be generated."""
    grace: Duration = 30.0
    """How long Pods of a preempted job take to go."""


class SimulationDoc(Strict):
    """A simulation file."""

    api_version: Literal["raycp.io/v1alpha1"]
    """The version of this format."""
    kind: Literal["Simulation"]
    """What the file describes."""
    spec: SimulationSpec
    """What happens."""


class Play:
    """A file that has been read."""

    def __init__(self, spec: SimulationSpec, queues: list[QueueSpec]) -> None:
        self.spec, self.queues = spec, queues

    def jobs(self, cpu: int) -> list[SimulatedJob]:
        """All of them; ``cpu`` is what the clusters have, in millicores, which the trace is scaled to."""
        made = [job for each in self.spec.jobs for job in _jobs(each)]
        if self.spec.trace is not None:
            trace = self.spec.trace
            names = tuple(queue.name for queue in self.queues) or ("",)
            made += generate(TraceShape(trace.seed, trace.jobs, trace.span, trace.load, cpu, names))
        return made


def load_simulation(path: Path) -> Play:
    """Read and check the file. Raises ``ConfigError`` and ``BadInput``."""
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", "name the file of jobs with -f") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror or error}") from None
    try:
        content, lines = parse(text)
    except BadYaml as bad:
        raise ConfigError([Problem(str(path), dotted(bad.loc), "", bad.message, bad.remedy, bad.line)]) from None
    if not isinstance(content, dict) or content.get("kind") != "Simulation":
        remedy = "it begins with apiVersion: raycp.io/v1alpha1 and kind: Simulation"
        raise ConfigError([Problem(str(path), "kind", "", "is not Simulation", remedy, 1)])
    try:
        spec = SimulationDoc.model_validate(content, by_alias=True, by_name=False).spec
    except ValidationError as error:
        raise ConfigError(from_validation(error, SimulationDoc, path, lines)) from None
    problems: list[Problem] = []

    def problem(loc: Loc, message: str, remedy: str) -> None:
        value = value_at(content, loc)
        problems.append(
            Problem(
                str(path),
                dotted(loc),
                "" if isinstance(value, dict | list) or value is None else shown(value),
                message,
                remedy,
                line_of(loc, lines),
            )
        )

    if not spec.jobs and spec.trace is None:
        problem(("spec",), "has no jobs", "give spec.jobs, spec.trace, or both")
    queues = []
    for name, each in spec.queues.items():
        try:
            QueueObjectSpec.model_validate(each, extra="forbid")
            queues.append(read_queue({"metadata": {"name": name}, "spec": each}))
        except ValidationError as error:
            for one in error.errors(include_url=False):
                problem(("spec", "queues", name, *one["loc"]), one["msg"], "see docs/scheduling.md for the fields of a Queue")
        except InvalidQueue as error:
            problem(("spec", "queues", name), str(error), "see docs/scheduling.md for the fields of a Queue")
    for at, job in enumerate(spec.jobs):
        if job.queue and job.queue not in spec.queues:
            problem(
                ("spec", "jobs", at, "queue"), "is no queue of this file", f"spec.queues has {', '.join(spec.queues) or 'none'}"
            )
        if job.min_available > job.pods:
            problem(("spec", "jobs", at, "minAvailable"), f"is above pods, {job.pods}", "give at most as many")
        try:
            parse_resources(job.requests)
        except QuantityError as error:
            problem(("spec", "jobs", at, "requests"), f"has {error}", "write quantities such as {cpu: 500m, memory: 1Gi}")
    for at, part, message, remedy in _order_problems(spec):
        problem(("spec", "jobs", at, part), message, remedy)
    if problems:
        raise ConfigError(problems)
    return Play(spec, queues)


def _order_problems(spec: SimulationSpec) -> Iterator[tuple[int, str, str, str]]:
    """(place in ``jobs``, field, message, remedy) of names that are there twice, and of dependencies that are never fulfilled."""
    of: dict[str, int] = {f"job-{number:06}": -1 for number in range(spec.trace.jobs)} if spec.trace is not None else {}
    for at, job in enumerate(spec.jobs):
        twice = next((name for name in _names(job) if name in of), None)
        if twice is not None:
            yield at, "name", f"makes a second job {twice}", "give it another name"
        of |= dict.fromkeys(_names(job), at)
    graph = DependencyGraph()
    for job in spec.jobs:
        after = tuple(Dependency(each.job) for each in job.depends_on)
        for name in _names(job) if after else ():
            graph.add(JobDemand(name, "default", name, 0.0, 1, depends_on=after))
    for at, job in enumerate(spec.jobs):
        for each in job.depends_on:
            if of.get(each.job, -1) < 0:
                counted = any(other.count > 1 and other.name == each.job for other in spec.jobs)
                remedy = f"name one of them: {each.job}-0, ..." if counted else "give it a job of spec.jobs"
                yield at, "dependsOn", f"names {each.job}, which is no job of this file", remedy
        cycle = graph.cycle(f"default/{next(_names(job))}") if job.depends_on else []
        if cycle:
            names = " -> ".join(key.removeprefix("default/") for key in cycle)
            yield at, "dependsOn", f"is a cycle: {names}", "remove one dependsOn"


def _names(spec: SimulatedJobSpec) -> Iterator[str]:
    return (f"{spec.name}-{number}" if spec.count > 1 else spec.name for number in range(spec.count))


def _jobs(spec: SimulatedJobSpec) -> list[SimulatedJob]:
    made = []
    for number, name in enumerate(_names(spec)):
        demand = JobDemand(
            name,
            "default",
            name,
            spec.arrival + number * spec.every,
            spec.pods,
            parse_resources(spec.requests),
            spec.queue,
            spec.priority,
            spec.node_selector,
            (),
            Rules(selector=spec.cluster_selector, topology=spec.topology),
            spec.min_available,
            None,
            spec.active_deadline,
            tuple(Dependency(each.job, each.condition) for each in spec.depends_on),
        )
        made.append(SimulatedJob(demand, spec.duration, spec.priority))
    return made
