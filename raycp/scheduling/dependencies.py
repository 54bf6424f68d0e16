"""``DependencyGraph``: which jobs wait for which (``dependsOn``)."""

from typing import Literal

from raycp.scheduling.demand import JobDemand

Milestone = Literal["Started", "Complete", "Failed"]


class DependencyGraph:
    """Jobs by ``namespace/name``: what they depend on, and what they have reached.

    What a job has reached is remembered until it is deleted: a job that comes later can depend on one that has ended. A job that
    has seen it keeps it (``met``), and waits for a deleted one no more.
    """

    def __init__(self) -> None:
        self._edges: dict[str, JobDemand] = {}
        self._reached: dict[str, set[str]] = {}
        self._dependents: dict[str, set[str]] = {}
        self._circular: set[str] = set()
        """Those on a cycle; some whose cycle is gone, until they are asked for. Most often empty: nothing is searched then."""

    def add(self, job: JobDemand) -> set[str]:
        """A job is there, or depends on others than before. Returns the jobs for which that may be news: those that depend on it
        directly, and those of a cycle that has come into being or is gone."""
        key = job.key
        concerned = self._unlink(key)
        self._reached.setdefault(key, set())
        if job.depends_on:
            self._edges[key] = job
            for each in job.depends_on:
                self._dependents.setdefault(f"{job.namespace}/{each.job}", set()).add(key)
            if self._dependents.get(key) and self.cycle(key):
                circle = self._downstream(key) & self._upstream(key)
                self._circular |= circle
                concerned |= circle
        return concerned

    def remove(self, key: str) -> set[str]:
        """A job is no longer there. Returns the jobs for which that may be news, as ``add`` does."""
        self._reached.pop(key, None)
        return self._unlink(key)

    def _upstream(self, key: str) -> set[str]:
        """The jobs that it depends on, also by way of others."""
        found: set[str] = set()
        stack = [key]
        while stack:
            job = self._edges.get(stack.pop())
            new = {f"{job.namespace}/{each.job}" for each in job.depends_on} - found if job is not None else set()
            found |= new
            stack += new
        return found

    def _downstream(self, key: str) -> set[str]:
        """The jobs that depend on it, also by way of others."""
        found: set[str] = set()
        stack = [key]
        while stack:
            new = self._dependents.get(stack.pop(), set()) - found
            found |= new
            stack += new
        return found

    def _unlink(self, key: str) -> set[str]:
        """Forget what it depends on. Returns those that depend on it, and those of its cycle."""
        concerned = set(self._dependents.get(key, ()))
        if key in self._circular:
            concerned |= self._downstream(key) & self._circular
            self._circular.remove(key)
        job = self._edges.pop(key, None)
        for each in job.depends_on if job is not None else ():
            name = f"{job.namespace}/{each.job}" if job is not None else ""
            others = self._dependents.get(name)
            if others is not None:
                others.discard(key)
                if not others:
                    del self._dependents[name]
        return concerned

    def reached(self, key: str, milestone: Milestone) -> set[str]:
        """A job has got there; one that is complete had started, whether that was seen or not. Returns the jobs that depend on it
        directly."""
        self._reached.setdefault(key, set()).update({milestone, "Started"} if milestone == "Complete" else {milestone})
        return set(self._dependents.get(key, ()))

    def met(self, job: JobDemand, before: tuple[str, ...]) -> tuple[str, ...]:
        """What it depends on and was fulfilled ``before``, or is now; what it no longer depends on is left out."""
        found = []
        for each in job.depends_on:
            if str(each) in before or each.condition in self._reached.get(f"{job.namespace}/{each.job}", ()):
                found.append(str(each))
        return tuple(found)

    def obstacle(
        self, job: JobDemand, met: tuple[str, ...]
    ) -> tuple[Literal["DependsOn", "DependencyMissing", "DependencyFailed", "DependencyCycle"], str] | None:
        """(reason, message) why the job has to wait; None if nothing is in its way. ``met``: what is in its way no longer."""
        if len(met) == len(job.depends_on):
            return None
        if job.key in self._circular:
            cycle = self.cycle(job.key)
            if not cycle:
                self._circular.remove(job.key)
        else:
            cycle = []
        if cycle:
            return "DependencyCycle", f"jobs wait for each other: {' -> '.join(cycle)}; remove one dependsOn"
        for each in job.depends_on:
            key = f"{job.namespace}/{each.job}"
            if str(each) in met:
                continue
            reached = self._reached.get(key, set())
            ended = reached & {"Complete", "Failed"}
            if ended:
                return "DependencyFailed", f"job {key} has ended as {', '.join(sorted(ended))}, and not as {each.condition}"
            if key not in self._reached:
                message = f"waits for job {key} ({each.condition}), which does not exist: it is not made yet, or was deleted before"
                return "DependencyMissing", message
            return "DependsOn", f"waits for job {key}: {each.condition}"
        return None

    def cycle(self, start: str) -> list[str]:
        """The names along a cycle through ``start``, ``start`` at both ends; empty if there is none."""
        came: dict[str, str] = {}
        stack = [start]
        while stack:
            at = stack.pop()
            job = self._edges.get(at)
            for each in job.depends_on if job is not None else ():
                key = f"{job.namespace}/{each.job}" if job is not None else ""
                if key == start:
                    path = [at]
                    while path[-1] != start:
                        path.append(came[path[-1]])
                    return [*reversed(path), start]
                if key not in came:
                    came[key] = at
                    stack.append(key)
        return []
