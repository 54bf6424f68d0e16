"""Whether a job can run now: quota first, then room, flavor by flavor."""

import msgspec

from raycp.base.quantities import shown_quantity
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.lines import Misfit
from raycp.scheduling.queues import FlavorQuotas
from raycp.scheduling.state import AdmissionState


class Fit(msgspec.Struct, frozen=True):
    """It can: Pods by cluster, in this flavor."""

    flavor: FlavorQuotas
    clusters: dict[str, int]


_RANK = {"ExceedsMaxQuota": 0, "WaitingForQuota": 1, "NoRoom": 2}
"""Of reasons in several flavors, the one of the flavor that was closest is told."""


def attempt(state: AdmissionState, queue: str, job: JobDemand, now: float, *, without: str | None = None) -> Fit | Misfit | None:
    """In the first flavor that fits, other than ``without``; None if there is no other."""
    worst: Misfit | None = None
    for flavor in state.ledger.flavors(queue):
        if flavor.name == without:
            continue
        found = attempt_in(state, queue, flavor, job, now)
        if isinstance(found, Fit):
            return found
        if worst is None or _RANK.get(found.reason, 0) > _RANK.get(worst.reason, 0):
            worst = found
    return worst


def feasible(state: AdmissionState, queue: str, flavor: FlavorQuotas, job: JobDemand) -> bool:
    """Whether ``attempt_in`` would find a ``Fit``; costs less."""
    allowed, _ = state.ledger.pods(queue, flavor.name, job.per_pod, job.needed)
    return allowed >= job.needed and state.fits(job, state.shape(job, flavor.node_labels), job.needed)


def attempt_in(state: AdmissionState, queue: str, flavor: FlavorQuotas, job: JobDemand, now: float) -> Fit | Misfit:
    """In this flavor."""
    allowed, short = state.ledger.pods(queue, flavor.name, job.per_pod, job.pods)
    if allowed < job.needed:
        return _over_quota(state, queue, flavor.name, job, allowed, short)
    # what it does not need is not borrowed for it: else two queues could take it from each other in turn
    allowed = max(job.needed, min(allowed, state.ledger.own_pods(queue, flavor.name, job.per_pod, job.pods)))
    shape = state.shape(job, flavor.node_labels)
    free = state.free(shape)
    if free < job.needed:
        return Misfit("NoRoom", f"needs room for {job.needed} Pods, all clusters together have room for {free}")
    if allowed == job.needed and not state.fits(job, shape, allowed):
        return Misfit("NoRoom", f"needs room for {job.needed} Pods in the clusters that its placement allows")
    assigned, unplaced = state.assign(job, shape, allowed)
    if allowed - unplaced < job.needed:
        return Misfit("NoRoom", f"needs room for {job.needed} Pods: {state.place(job, shape, allowed, now, {}).reason}")
    return Fit(flavor, assigned)


def _over_quota(state: AdmissionState, queue: str, flavor: str, job: JobDemand, allowed: int, short: str) -> Misfit:
    in_flavor = f" of flavor {flavor}" if flavor else ""
    for resource, amount in job.per_pod.items():
        most = state.ledger.ceiling(queue, flavor, resource)
        wanted = job.needed * amount
        if most is not None and wanted > most:
            words = f"needs {shown_quantity(wanted, resource)} {resource}{in_flavor}, queue {queue} may never use more than"
            return Misfit("ExceedsMaxQuota", f"{words} {shown_quantity(most, resource)}", hopeless=True)
    left = shown_quantity(max(0, state.ledger.available(queue, flavor, short) or 0), short)
    needs = shown_quantity(job.needed * job.per_pod[short], short)
    words = f"needs {needs} {short}{in_flavor}, queue {queue} may use {left} more"
    return Misfit("WaitingForQuota", f"{words}: enough for {allowed} of {job.needed} Pods")
