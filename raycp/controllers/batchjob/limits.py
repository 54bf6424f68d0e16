"""What an admitted job tells the scheduler: the clusters that can't have as many of its Pods as were admitted there
(``status.limits``).

They are to be left (``vacated``), or they take no new Pods while some have no place: they refuse them, are closed or unreachable;
or no node takes Pods that are there. The scheduler places what is beyond the limit elsewhere. A limit is a level, not a difference:
whoever reads an old one takes nothing away twice.
"""

from collections import Counter
from typing import Any

from raycp.controllers.batchjob.step import JobStep


def limits(step: JobStep) -> dict[str, Any]:
    """As fields of the status; empty where all is as it was admitted."""
    admission = step.admission
    if not admission.needed or step.idle or step.finished or step.ending():
        return {}
    there = Counter(step.record.assigned.values())
    short, found = step.short, dict[str, int]()
    for name, admitted in admission.clusters.items():
        if name in step.vacated and step.visible(name):
            found[name] = 0
            continue
        lacking = 0
        if name in step.closed or name in step.vacated or name not in step.clusters:
            lacking = min(short, max(0, admitted - there[name]))
            short -= lacking
        if lacking or step.unscheduled[name]:
            found[name] = max(0, admitted - lacking - step.unscheduled[name])
    shown: dict[str, Any] = {"limits": found} if found else {}
    if unscheduled := sum(step.unscheduled.values()):
        shown["unschedulable"] = unscheduled
    return shown
