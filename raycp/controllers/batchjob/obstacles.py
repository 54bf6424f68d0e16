"""What the conditions say of Pods that have no place, are refused, or do not get to run: in the words of who stops them."""

from collections import Counter

from raycp.controllers.batchjob.cluster_record import PodRefusal
from raycp.controllers.batchjob.job import NAME_TAKEN, RELEASED, UNSCHEDULABLE
from raycp.controllers.batchjob.step import JobStep
from raycp.sdk import conditions

_SHOWN = 3


def placement(step: JobStep) -> None:
    """Conditions ``Scheduled`` (every Pod that is wanted has a place) and ``PodsAccepted`` (no cluster refuses one)."""
    refusals = _refusals(step)
    if refusals:
        names = ", ".join(sorted(refusals))
        words = "; ".join(dict.fromkeys(refusal.message for refusal in refusals.values()))
        step.condition("PodsAccepted", False, next(iter(refusals.values())).reason, f"refused in {names}: {words}")
    elif conditions.get(step.record.conditions, "PodsAccepted"):
        step.condition("PodsAccepted", True, "Accepted", "")
    if step.unplaced:
        reason = next(iter(refusals.values())).reason if refusals else "NoClusterFits"
        if step.condition("Scheduled", False, reason, step.unplaced):
            step.out.events.append(("Warning", reason, step.unplaced))
        step.out.waiting = _waiting(refusals) or step.out.waiting
    elif step.stuck:
        if step.condition("Scheduled", False, UNSCHEDULABLE, step.stuck):
            step.out.events.append(("Warning", UNSCHEDULABLE, step.stuck))
    elif not step.idle and not (step.out.creates and _probes(step, refusals)):
        step.condition("Scheduled", True, "Placed", "")


def released(step: JobStep) -> None:
    """Condition ``PodsReleased`` is True again when nothing is left to release."""
    out = step.out
    if not (out.releases or out.ends) and conditions.get(step.record.conditions, RELEASED):
        step.condition(RELEASED, True, "Released", "")


def waits_for(step: JobStep) -> tuple[str, str]:
    """(reason, message) for ``PodsReady``: what most of the Pods that do not run wait for."""
    found: dict[str, list[str]] = {}
    for pod in step.live:
        if pod.trouble is not None and not pod.ready:
            found.setdefault(pod.trouble[0], []).append(f"Pod {pod.name} in cluster {pod.cluster}: {pod.trouble[1]}")
    if not found:
        return "NotAllReady", ""
    reason = Counter({name: len(pods) for name, pods in found.items()}).most_common(1)[0][0]
    pods = found[reason]
    more = f"; and {len(pods) - _SHOWN} more" if len(pods) > _SHOWN else ""
    return _camel(reason), f"{reason}: {'; '.join(pods[:_SHOWN])}{more}"


def _refusals(step: JobStep) -> dict[str, PodRefusal]:
    if step.finished:
        return {}
    tallies = sorted(step.record.clusters.items())
    return {name: tally.standing.refusal for name, tally in tallies if tally.standing.refusal is not None}


def _probes(step: JobStep, refusals: dict[str, PodRefusal]) -> bool:
    """Whether a Pod is on its way to a cluster that has refused one: what it says is not known yet."""
    return any(create.cluster in refusals for create in step.out.creates)


def _waiting(refusals: dict[str, PodRefusal]) -> str:
    """What the job waits for, as it is counted (``Done.waiting``)."""
    if any("exceeded quota" in refusal.message for refusal in refusals.values()):
        return "quota"
    return "name" if any(refusal.reason == NAME_TAKEN for refusal in refusals.values()) else ""


def _camel(reason: str) -> str:
    """A container's reason is free text; a condition's is not."""
    return reason if conditions.is_reason(reason) else "NotAllReady"
