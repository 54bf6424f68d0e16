"""Since when each problem of a process has stood, and at most how many are reported."""

from collections.abc import Iterable, Mapping

from raycp.base.clock import Clock
from raycp.base.problems import FLEET, FleetProblem, ProblemCode, Subject

MOST_PROBLEMS = 32
"""Problems in one report; of more, the last entry gives the number."""

LONGEST_MESSAGE = 500
"""Characters of a message."""


class ProblemLog:
    """One per process. A problem begins when its subject is first found, and ends when it is not found any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[Subject, float] = {}

    def standing(self, found: Mapping[Subject, str]) -> list[FleetProblem]:
        """The problems found now, by subject, with the time since when each has stood."""
        now = self._clock.wall()
        self._since = {subject: self._since.get(subject, now) for subject in found}
        return [
            FleetProblem(code, owner, message[:LONGEST_MESSAGE], self._since[code, owner])
            for (code, owner), message in found.items()
        ]


def bounded(problems: Iterable[FleetProblem], most: int = MOST_PROBLEMS) -> list[FleetProblem]:
    """One problem for each subject, the oldest of it; at most ``most``, the last of which counts those left out."""
    by_subject: dict[Subject, FleetProblem] = {}
    for problem in problems:
        known = by_subject.get(problem.subject)
        if known is None or problem.since < known.since:
            by_subject[problem.subject] = problem
    found = list(by_subject.values())
    if len(found) <= most:
        return found
    left = found[most - 1 :]
    more = FleetProblem(ProblemCode.OTHER, FLEET, f"{len(left)} more problems", min(each.since for each in left))
    return [*found[: most - 1], more]
