"""``Failures``: the keys whose last reconcile failed, for ``raycp errors``.

They are grouped by what failed: controller, class of the error and place. A report shows some of each group, so that one controller
which fails for all of its objects hides no other. While nothing fails, the end of a reconcile costs one look at an empty map.
"""

from collections import Counter
from collections.abc import Callable, Collection
from itertools import islice, zip_longest

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.tasks import Done, Outcome
from raycp.metrics.recorder import split_place
from raycp.protocol.report import FailureReport, Report
from raycp.queueing import Saved

MOST = 50
"""Failures that a report names."""

LOOK_EVERY = 1.0
"""Seconds between two looks for controllers that fail for each of their objects, which may pass over all keys."""

FOR_ALL = 3
"""Objects that a controller must have for "all of them" to mean anything."""

CAUSE_LENGTH = 200
"""Characters of a cause in a report."""

CONFLICT = "ApiError 409"
CONFLICTS = 5
"""Conflicts in a row from which they count as a failure: a few are part of a controller's life."""

Group = tuple[str, str, str]
"""Controller, class of the error, place."""


class Failure(msgspec.Struct, gc=False):
    """``since`` in Unix seconds."""

    group: Group
    cause: str
    attempts: int
    since: float


class Failures:
    """One shard's; ``KeyNotes`` alone writes it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.by_key: dict[RequestKey, Failure] = {}
        """The keys that have failed and not succeeded since. Read it."""
        self._groups: dict[Group, dict[RequestKey, Failure]] = {}
        self._hopeless: dict[str, str] = {}
        self._looked = float("-inf")

    def __len__(self) -> int:
        """Failing keys; without those whose conflicts are too few to count."""
        return sum(map(len, self._groups.values()))

    def ended(self, done: Done) -> None:
        """A reconcile that was not interrupted has ended; its error is scrubbed."""
        key = done.key
        before = self.by_key.get(key)
        if done.outcome is Outcome.OK:
            if before is not None:
                self._leave(key, before)
            return
        cause, place = split_place(done.error)
        attempts, since = (before.attempts + 1, before.since) if before is not None else (1, self._clock.wall())
        failure = Failure((key.controller, done.error_class, place), cause[:CAUSE_LENGTH], attempts, since)
        if before is not None and before.group != failure.group:
            self._leave(key, before)
        self.by_key[key] = failure
        if done.error_class != CONFLICT or attempts >= CONFLICTS:
            self._groups.setdefault(failure.group, {})[key] = failure  # in its old place: what is listed stays listed

    def drop(self, drops: Callable[[RequestKey], bool]) -> None:
        """Forget the keys for which ``drops`` is true."""
        for key in [key for key in self.by_key if drops(key)]:
            self._leave(key, self.by_key[key])

    def fill(self, report: Report, name_of: Callable[[RequestKey], str], queued: Callable[[list[RequestKey]], list[Saved]]) -> None:
        """Put some of each group into the shard's report. ``name_of``: a key's object as ``raycp why`` takes it; ``queued``: the
        queue's state of keys."""
        if not self._groups:
            return
        report.failing = len(self)
        columns = [islice(group.items(), MOST) for group in islice(reversed(self._groups.values()), MOST)]
        turns = (each for turn in zip_longest(*columns) for each in turn if each is not None)
        shown = list(islice(turns, MOST))
        now = self._clock.wall()
        tries = {saved.key: now + saved.delay for saved in queued([key for key, _ in shown]) if saved.due or saved.worker}
        for key, failure in shown:
            place = failure.group[2]
            row = FailureReport(
                key.cluster, name_of(key), key.controller, failure.cause, place, failure.attempts, tries.get(key), failure.since
            )
            report.failures.append(row)

    def of_all(self, reconciled: Collection[RequestKey]) -> dict[str, str]:
        """The controllers that fail for each of their objects, ``FOR_ALL`` at least, and how; looked at once in ``LOOK_EVERY``
        seconds. ``reconciled``: all keys that have been."""
        now = self._clock.now()
        if self._groups and now - self._looked < LOOK_EVERY:
            return self._hopeless
        self._looked = now
        self._hopeless = self._of_all(reconciled)
        return self._hopeless

    def _of_all(self, reconciled: Collection[RequestKey]) -> dict[str, str]:
        counts: Counter[str] = Counter()
        shown: dict[str, str] = {}
        for (controller, _, place), group in self._groups.items():
            counts[controller] += len(group)
            cause = next(iter(group.values())).cause
            shown.setdefault(controller, f"{cause} ({place})" if place else cause)
        suspected = {controller for controller, count in counts.items() if count >= FOR_ALL}
        for key in reconciled:
            if not suspected:
                break
            if key.controller in suspected and key not in self.by_key:
                suspected.discard(key.controller)
        return {
            controller: f"it fails for all of its {counts[controller]} objects, such as: {shown[controller]}"
            for controller in sorted(suspected)
        }

    def _leave(self, key: RequestKey, failure: Failure) -> None:
        del self.by_key[key]
        group = self._groups.get(failure.group)
        if group is not None and group.pop(key, None) is not None and not group:
            del self._groups[failure.group]
