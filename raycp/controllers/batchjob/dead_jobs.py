"""What is done about Pods whose job is dead: swept, or held until somebody confirms it. Pure.

1. Dead is a job that the hub does not have any more, as that very object (by uid). Its Pods are told by the fleet's mark; Pods that
   an orphan deletion has released have none.
2. Nothing is swept while the hub may be the one that is wrong: it is another cluster than before, was restored to an older state,
   or has never been seen in order; nor in a cluster of whose Pods more than ``MOST`` would go. Who confirms a digest confirms what
   was shown under it, and nothing else; that is remembered until it is done, however long it takes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

MOST = 0.2
"""Share of a cluster's Pods that are swept without anybody's confirmation."""

_SHOWN = 10
_APPROVED = 4000
"""Jobs that are confirmed at a time: the record is an annotation, and those of an object have 256 KiB."""


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
    hub was last seen in order, or confirmed. ``digest`` names what is ``held``; ``approved`` are the uids of dead jobs whose Pods
    were confirmed to go."""

    hub: str = ""
    trusted: float = 0.0
    held: list[HeldSweep] = []
    digest: str = ""
    approved: list[str] = []


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
    known, trusted, approved = record.hub, record.trusted, set(record.approved)
    if dead and confirmed == digest_of(hub, dead):
        known, trusted = hub, now
        approved |= set(sorted({job.uid for each in dead for job in each.jobs})[:_APPROVED])
    elif not dead and complete and _doubt(hub, voided, record):
        known, trusted = hub, now
    doubt = _doubt(hub, voided, SweepRecord(known, trusted))
    jobs: list[DeadJob] = []
    held: list[HeldSweep] = []
    for each in dead:
        jobs += [job for job in each.jobs if job.uid in approved]
        others = [job for job in each.jobs if job.uid not in approved]
        pods = sum(job.pods for job in others)
        why = doubt or _too_many(pods, each.pods)
        if others and why:
            held.append(HeldSweep(each.cluster, pods, each.pods, [job.job for job in others[:_SHOWN]], why))
        else:
            jobs += others
    left = {job.uid for job in jobs} & approved if complete else approved
    digest = digest_of(hub, dead) if held else ""
    return SweepDecision(tuple(jobs), SweepRecord(known, trusted, held, digest, sorted(left)))


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
