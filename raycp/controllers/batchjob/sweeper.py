"""The ``batchjob-sweep`` controller: removes Pods whose job is dead: its finalizer was taken off by hand while a member was away,
say.

Its one object is the CustomResourceDefinition of BatchJobs, in whose annotations it remembers what ``dead_jobs.decide`` needs, and
in which ``raycp sweep --confirm`` confirms what is held.
"""

from typing import Any

import msgspec

from raycp.base.owner_marks import MARK
from raycp.controllers.batchjob.dead_jobs import ClusterDead, DeadJob, SweepRecord, decide
from raycp.controllers.batchjob.pods import TRACKING
from raycp.controllers.batchjob.types import GROUP, KIND, VERSION
from raycp.kube.errors import ApiError, KubeError
from raycp.sdk.context import Context
from raycp.sdk.controller import controller
from raycp.sdk.owner import OWNER, OWNER_KIND, owner_key
from raycp.sdk.results import Result, Retry

NAME = f"batchjobs.{GROUP}"
"""Of the definition."""

RECORD = "batch.raycp.io/sweep"
"""Its annotation with a ``SweepRecord``."""

CONFIRMED = "batch.raycp.io/sweep-confirmed"
"""Its annotation with the digest of what may be swept."""

EVERY = 60.0
"""Seconds between two sweeps. A cluster that returns is looked at when it does."""

AT_ONCE = 200
"""Pods that one reconcile removes."""

_LOOK_AGAIN = 1.0
_POD = "v1/Pod"
_JOB = f"{GROUP}/{VERSION}/{KIND}"


@controller(
    "apiextensions.k8s.io/v1/CustomResourceDefinition",
    name="batchjob-sweep",
    on="hub",
    fields={"metadata.name": NAME},
    reachability=True,
    resync=EVERY,
)
async def batchjob_sweep(ctx: Context, obj: dict[str, Any]) -> Result | None:
    """Look for Pods of dead jobs in every member that can be read, once."""
    annotations = obj["metadata"].get("annotations") or {}
    record, confirmed = read_record(annotations.get(RECORD, "")), annotations.get(CONFIRMED, "")
    hub = await ctx.live.get("v1/Namespace", "kube-system")
    if hub is None:
        return None  # it is no cluster that could be told from another
    living = await ctx.uids(_JOB)
    found: list[ClusterDead] = []
    members = ctx.members
    for member in members:
        if member.reachable and member.synced:
            try:
                found.append(await _dead_in(ctx, member.name, living))
            except KubeError as error:  # law 11: the others can be read
                ctx.log.info("cluster %s is not swept: %s", member.name, error)
    decided = decide(
        found,
        complete=len(found) == len(members),
        hub=hub["metadata"]["uid"],
        voided=ctx.cluster.voided,
        record=record,
        confirmed=confirmed,
        now=ctx.now(),
    )
    await _remember(ctx, obj, record, decided.record, confirmed)
    removed, failed = 0, ""
    for job in decided.jobs:
        if removed >= AT_ONCE:
            return Result(requeue_after=0.0)
        try:
            removed += await _sweep(ctx, job, AT_ONCE - removed)
        except KubeError as error:  # of one cluster: the others are swept
            failed = failed or f"Pods of job {job.job} in cluster {job.cluster}: {error}"
    if failed:
        raise Retry(failed)
    return Result(requeue_after=_LOOK_AGAIN) if removed else None


def read_record(text: str) -> SweepRecord:
    """The annotation; an empty record where there is none, or what is there is none: then everything has to be confirmed."""
    try:
        return msgspec.json.decode(text, type=SweepRecord)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return SweepRecord()


async def _dead_in(ctx: Context, cluster: str, living: set[str]) -> ClusterDead:
    """Each is looked up on the hub before it counts: the caches of hub and member are not of one moment. Raises ``KubeError``."""
    dead: list[DeadJob] = []
    for row in await ctx.owners(_POD, cluster=cluster):
        owner = owner_key({OWNER: row.owner})
        if row.uid in living or owner is None or owner.cluster != ctx.cluster.name or not _is_job(row.kind):
            continue
        job = await ctx.live.get(_JOB, owner.name, owner.namespace)
        if job is None or job["metadata"].get("uid") != row.uid:
            dead.append(DeadJob(cluster, row.uid, f"{owner.namespace}/{owner.name}", row.count))
    return ClusterDead(cluster, await ctx.live.count(_POD, cluster=cluster) if dead else 0, tuple(dead))


async def _sweep(ctx: Context, job: DeadJob, most: int) -> int:
    """Remove ``most`` Pods of ``job`` at most; how many were."""
    removed = 0
    for pod in await ctx.list(_POD, owner=job.uid, cluster=job.cluster):
        meta = pod["metadata"]
        if removed >= most:
            break
        if not _made_for(job, meta) or (meta.get("deletionTimestamp") and TRACKING not in _finalizers(meta)):
            continue
        try:
            if TRACKING in _finalizers(meta):
                kept = [name for name in _finalizers(meta) if name != TRACKING]
                pod = await ctx.patch(pod, {"metadata": {"finalizers": kept or None}}, cluster=job.cluster)
            if not meta.get("deletionTimestamp"):
                await ctx.delete(pod, cluster=job.cluster)
        except ApiError as error:
            if not error.not_found:
                raise
        removed += 1
    if removed:
        ctx.event("Swept", f"removed {removed} Pods of job {job.job} in cluster {job.cluster}: it is deleted")
    return removed


async def _remember(ctx: Context, obj: dict[str, Any], before: SweepRecord, record: SweepRecord, confirmed: str) -> None:
    changes: dict[str, Any] = {}
    if record != before:
        changes[RECORD] = msgspec.json.encode(record).decode()
    if confirmed:
        changes[CONFIRMED] = None
    if changes:
        await ctx.patch(obj, {"metadata": {"annotations": changes}})
    if record.held and record.held != before.held:
        names = ", ".join(f"{held.pods} Pods in cluster {held.cluster} ({held.why})" for held in record.held)
        ctx.event("SweepHeld", f"Pods of dead jobs are kept until `raycp sweep --confirm`: {names}", type="Warning")


def _is_job(kind: str) -> bool:
    return kind.startswith(f"{GROUP}/") and kind.rpartition("/")[2] == KIND


def _made_for(job: DeadJob, meta: dict[str, Any]) -> bool:
    """Whether a Pod with the mark of ``job.uid`` says itself that it is that job's, in the job's own namespace. The mark does not
    cover what it says: who may write to one child of another controller's object could make that object look like a dead job, and
    its children in all namespaces would go."""
    annotations = meta.get("annotations") or {}
    owner = owner_key(annotations)
    named = owner is not None and f"{owner.namespace}/{owner.name}" == job.job and owner.namespace == meta.get("namespace")
    return MARK in annotations and named and _is_job(annotations.get(OWNER_KIND, ""))


def _finalizers(meta: dict[str, Any]) -> list[str]:
    return list(meta.get("finalizers") or ())
