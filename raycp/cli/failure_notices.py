"""``FailureNotices``: controllers' errors on the terminal of ``raycp run``, once each, then counted.

Two failures are the same error if the same line of the same controller fails; without a line, if their causes are equal. Pure but
for what it remembers.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from raycp.base.plaintext import one_line
from raycp.base.problems import FleetProblem, Subject
from raycp.cli.output import Row

AGAIN_EVERY = 60.0
"""Seconds between two counts of one error."""

AT_ONCE = 10
"""Errors that are told at a time; a fleet with more of them has one cause, or needs `raycp errors`."""

REMEMBERED = 1000


SEEN_BEFORE = 2
"""Looks at which a problem must have stood before it is told: most last for a moment."""


@dataclass(slots=True)
class _Told:
    """When an error was told, and what it was then: failures in a row, and since when its newest object fails. An error that has
    passed and comes back has another time, whatever its count."""

    at: float
    attempts: int
    newest: float


class FailureNotices:
    """One command's."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str], _Told] = OrderedDict()
        self._problems: dict[Subject, int] = {}
        """How often each that stands has been seen."""

    def lines(self, items: Sequence[Row], now: float, failing: int = 0) -> list[str]:
        """What to print of the failing objects that the observer knows ``now`` (seconds of any clock). ``failing`` counts all, also
        those that it does not list."""
        alike: dict[tuple[str, str], list[Row]] = {}
        for row in items:
            alike.setdefault((row["controller"], row["frame"] or row["cause"]), []).append(row)
        found: list[str] = []
        left_out = 0
        for error, rows in alike.items():
            attempts, newest = sum(row["attempts"] for row in rows), max(row["since"] for row in rows)
            told = self._told.get(error)
            if told is not None and ((attempts, newest) == (told.attempts, told.newest) or now - told.at < AGAIN_EVERY):
                continue
            if told is None and len(found) >= AT_ONCE:
                left_out += 1
                continue
            first, more = rows[0], " or more" if failing > len(items) else ""
            objects = f"{len(rows)} objects{more}" if len(rows) > 1 else first["object"]
            at = f" ({first['frame']})" if first["frame"] else ""
            text = f"controller {first['controller']}: {first['cause']}{at}"
            times = "" if told is None else "once more, " if attempts == 1 else f"{attempts} times, "
            found.append(one_line(f"error: {text}: {times}{objects}"))
            self._told[error] = _Told(now, attempts, newest)
            self._told.move_to_end(error)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        if left_out:
            found.append(f"error: {left_out} further errors; `raycp errors` lists them")
        return found

    def problems(self, rows: Sequence[Row]) -> list[str]:
        """What to print of the fleet's problems: each once while it stands, from the second look on."""
        found = [msgspec.convert(row, FleetProblem) for row in rows]
        self._problems = {each.subject: self._problems.get(each.subject, 0) + 1 for each in found}
        new = [each for each in found if self._problems[each.subject] == SEEN_BEFORE]
        return [one_line(f"problem: {each}; see {each.runbook}") for each in new[:AT_ONCE]]
