"""What is done about Pods whose job is dead: swept, or held until somebody confirms it. Pure.

1. Dead is a job that the hub does not have any more, as that very object (by uid). Its Pods are told by the fleet's mark; Pods that
   an orphan deletion has released have none.
2. Nothing is swept while the hub may be the one that is wrong: it is another cluster than before, was restored to an older state,
   or has never been seen in order; nor in a cluster of whose Pods more than ``MOST`` would go. Who confirms a digest confirms what
   was shown under it, and nothing else.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

MOST = 0.2
"""Share of a cluster's Pods that are swept without anybody's confirmation."""

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class DeadJob:
    """``pods`` Pods in ``cluster`` belong to a job that is dead. ``job`` is ``namespace/name``."""

    cluster: str
    uid: str
    job: str
    pods: int


@dataclass(frozen=True, slots=True)
class ClusterDead:
    """One cluster: its dead jobs, and how many Pods it has in all."""

    cluster: str
    pods: int
    jobs: tuple[DeadJob, ...]


class HeldSweep(msgspec.Struct, frozen=True):
    """What is not swept in one cluster before it is confirmed: ``pods`` Pods ``of`` all that it has, of ``jobs`` (some of them),
    and ``why``."""

    cluster: str
    pods: int
    of: int
    jobs: list[str]
    why: str


class SweepRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the sweeper remembers. ``hub`` is the uid of the hub's namespace kube-system, ``trusted`` the Unix time at which that
    hub was last seen in order, or confirmed. ``digest`` names what is ``held``."""

    hub: str = ""
    trusted: float = 0.0
    held: list[HeldSweep] = []
    digest: str = ""


@dataclass(frozen=True, slots=True)
class SweepDecision:
    """Sweep the Pods of ``jobs``, and remember ``record``."""

    jobs: tuple[DeadJob, ...]
    record: SweepRecord


def decide(
    found: Sequence[ClusterDead], *, complete: bool, hub: str, voided: float, record: SweepRecord, confirmed: str, now: float
) -> SweepDecision:
    """``found``: what is dead, in the clusters that could be read; ``complete`` if those are all. ``voided``: when the hub's cache
    became void for the last time, Unix time. ``confirmed``: the digest that somebody has confirmed, or empty."""
    dead = [each for each in found if each.jobs]
    digest = digest_of(hub, dead)
    doubt = _doubt(hub, voided, record)
    if dead and confirmed == digest:
        return SweepDecision(tuple(job for each in dead for job in each.jobs), SweepRecord(hub, now))
    if not dead:
        in_order = not doubt or complete
        trusted = record if not doubt else SweepRecord(hub, now) if in_order else record
        return SweepDecision((), SweepRecord(trusted.hub, trusted.trusted))
    jobs: list[DeadJob] = []
    held: list[HeldSweep] = []
    for each in dead:
        pods = sum(job.pods for job in each.jobs)
        why = doubt or _too_many(pods, each.pods)
        if why:
            held.append(HeldSweep(each.cluster, pods, each.pods, [job.job for job in each.jobs[:_SHOWN]], why))
        else:
            jobs += each.jobs
    return SweepDecision(tuple(jobs), SweepRecord(record.hub, record.trusted, held, digest if held else ""))


def digest_of(hub: str, dead: Sequence[ClusterDead]) -> str:
    """Names this finding; empty where there is nothing."""
    rows = sorted(f"{job.cluster}\0{job.uid}" for each in dead for job in each.jobs)
    return hashlib.sha256("\n".join([hub, *rows]).encode()).hexdigest()[:12] if rows else ""


def _doubt(hub: str, voided: float, record: SweepRecord) -> str:
    if not record.hub:
        return "this hub is not known yet: no sweep has found it without Pods of dead jobs"
    if record.hub != hub:
        return "the hub is another cluster than the one that had these jobs"
    if voided > record.trusted:
        return "the hub was restored to an older state, or replaced, since it was last known to be in order"
    return ""


def _too_many(pods: int, of: int) -> str:
    return f"{pods} of the cluster's {of} Pods are more than {MOST:.0%}" if pods > MOST * of else ""
