"""The ``batchjob`` controller: collects the observed state, asks ``plan``, writes the status, carries the rest out.

The status is written before anything else, a job's first one together with the finalizer; not where nothing changes. Then all Pod
writes (``execution``), in every cluster. Where one refuses a Pod, the next plan is recorded and carried out in the same way. A
crash anywhere leaves a state from which the next reconcile continues (see the package).
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raycp.base.tasks import CLUSTER
from raycp.controllers.batchjob.cleanup import cleanup, orphans
from raycp.controllers.batchjob.execution import HELD_POLL, carry_out, let_go
from raycp.controllers.batchjob.invalidity import UnreadableJob, time_to_live, wind_up
from raycp.controllers.batchjob.job import HELD, RELEASED, Job, JobCluster, JobPlan
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import JobPod, own_pods, read_pod
from raycp.controllers.batchjob.record import JobRecord
from raycp.controllers.batchjob.specs import InvalidSpec, read_spec
from raycp.controllers.batchjob.status_pace import seconds_to_wait
from raycp.controllers.batchjob.types import FINALIZER, FORGET, GROUP, JOB_CONTROLLER, KIND, MANAGED_BY, ORPHANED, VERSION, crd
from raycp.controllers.queues.types import queue_crd
from raycp.kube.errors import KubeError
from raycp.scheduling.labels import taints_of
from raycp.sdk import conditions
from raycp.sdk.context import Context
from raycp.sdk.controller import controller, owned
from raycp.sdk.finalizers import begin, hold, release
from raycp.sdk.foreign import report_foreign
from raycp.sdk.results import Result, Retry

POD = "v1/Pod"
_AFTER_DELETION = 0.5  # seconds until a job is requeued after deletions of our own
_ROUNDS = 8  # clusters that a reconcile tries one after the other
_SOON = 0.1


@controller(
    f"{GROUP}/{VERSION}/{KIND}",
    name="batchjob",
    on="hub",
    owns=[owned(POD, on="members")],
    reachability="status.clusters[*].name",
    crds=[crd(), queue_crd()],
)
async def batchjob(ctx: Context, obj: dict[str, Any]) -> Result | None:
    """Take the next step of one BatchJob."""
    if obj["spec"].get("managedBy") not in (None, MANAGED_BY, JOB_CONTROLLER):
        return None
    meta = obj["metadata"]
    deleting = bool(meta.get("deletionTimestamp"))
    if deleting and FINALIZER not in (meta.get("finalizers") or ()):
        return None
    clusters = _clusters(ctx)
    visible = {cluster.name for cluster in clusters if cluster.visible}
    status = obj.get("status") or {}
    pods = await _own_pods(ctx, meta, status, visible)
    if deleting:
        return await _delete(ctx, obj, pods, clusters)
    try:
        spec = read_spec(obj)
    except InvalidSpec as error:
        return await _invalid(ctx, obj, str(error), pods, clusters)
    forgotten = _forgotten(meta)
    job = Job(
        meta["uid"],
        spec,
        status,
        meta.get("generation"),
        forgotten,
        namespace=meta["namespace"],
        tier=shown_tier(ctx.request.tier, obj),
        queue=ctx.request.queue,
    )
    now = ctx.now()
    decided = plan(job, pods, clusters, now)
    if FINALIZER not in (meta.get("finalizers") or ()):
        obj = await (hold(ctx, obj, FINALIZER) if status else begin(ctx, obj, FINALIZER, decided.status))
    later = seconds_to_wait(status, decided.status, pods, now)
    if later is None:
        await ctx.status(decided.status, replace=True)
    carried = await _carried_out(ctx, obj, job, decided, pods, clusters)
    decided = carried.plan
    if carried.errors:
        raise Retry(f"{len(carried.errors)} Pod writes failed: {carried.errors[0]}") from carried.errors[0]
    if decided.delete_job:
        await ctx.delete(obj, propagation="Background")
        return None
    settles = decided.settles_after if carried.again is None else None
    waits = [seconds for seconds in (later, decided.requeue_after, carried.again, settles) if seconds is not None]
    return Result(requeue_after=min(waits, default=None), waiting=decided.waiting)


@dataclass
class _Carried:
    """``plan`` is the last one, ``again`` when what was refused is tried again, in seconds."""

    plan: JobPlan
    errors: list[KubeError] = field(default_factory=list)
    again: float | None = None


async def _carried_out(
    ctx: Context, obj: dict[str, Any], job: Job, decided: JobPlan, pods: list[JobPod], clusters: list[JobCluster]
) -> _Carried:
    """All Pod writes. What a cluster has refused is planned anew at once, and goes to another; each plan is recorded first."""
    result, reported = _Carried(decided), set[tuple[str, str, str]]()
    creates, ends, releases = decided.creates, decided.ends, decided.releases
    for _ in range(_ROUNDS):
        _report(ctx, decided, reported)
        outcome = await carry_out(ctx, obj, job.spec, creates, ends, releases)
        result.errors += outcome.errors
        if outcome.held:
            result.again = HELD_POLL
            await _held(ctx, decided, outcome.held)
        if not outcome.refused:
            return result
        job = replace(job, status=decided.status, refused=outcome.refused)
        again = {refused.index for refused in outcome.refused}
        decided = result.plan = plan(job, pods, clusters, ctx.now())
        await ctx.status(decided.status, replace=True)
        # What the first plan has created, ended and released is not among ``pods`` yet, and is done.
        creates, ends, releases = [create for create in decided.creates if create.index in again], [], []
    _report(ctx, decided, reported)
    if creates:
        result.again = _SOON
    return result


def _report(ctx: Context, decided: JobPlan, reported: set[tuple[str, str, str]]) -> None:
    for event in decided.events:
        if event not in reported:
            reported.add(event)
            kind, reason, note = event
            ctx.event(reason, note, type=kind)


async def _held(ctx: Context, decided: JobPlan, message: str) -> None:
    """Pods can't be released, or given up: condition ``PodsReleased`` says so until they are."""
    shown = [dict(condition) for condition in decided.status.get("conditions", ())]
    if conditions.set(shown, RELEASED, False, HELD, message, now=ctx.now()):
        await ctx.status({"conditions": shown})
        decided.status["conditions"] = shown
        ctx.event(HELD, message, type="Warning")


def _clusters(ctx: Context) -> list[JobCluster]:
    unknown = ctx.unknown_clusters
    return [
        JobCluster(
            info.name,
            info.labels,
            info.reachable and info.name not in unknown,
            info.reason,
            info.free_pods,
            info.draining,
            info.permit,
            taints_of(info.taints),
        )
        for info in ctx.members
    ]


async def _own_pods(ctx: Context, meta: Mapping[str, Any], status: Mapping[str, Any], visible: Container[str]) -> list[JobPod]:
    """The job's Pods in visible clusters. What only claims to be one of them is reported."""
    found: list[JobPod] = []
    foreign: list[str] = []
    ahead = {info.name: info.clock_ahead for info in ctx.members}
    async for cluster, child in ctx.each_child(POD):
        if cluster not in visible:
            continue
        pod = read_pod(meta, cluster, child, ctx.ownership(child, cluster=cluster), ahead.get(cluster, 0.0))
        if pod is not None:
            found.append(pod)
        else:
            foreign.append(f"{cluster}/{child['metadata'].get('namespace', '')}/{child['metadata']['name']}")
    own = found
    if not all(pod.marked for pod in found):
        own, others = own_pods(found, JobRecord.read(status))
        foreign += [f"{pod.cluster}/{meta['namespace']}/{pod.name}" for pod in others]
    if foreign:
        report_foreign(ctx, foreign)
    return own


async def _delete(ctx: Context, obj: dict[str, Any], pods: list[JobPod], clusters: list[JobCluster]) -> Result | None:
    meta = obj["metadata"]
    orphan = orphans(meta) or ctx.orphans
    if orphan and ORPHANED not in (meta.get("annotations") or {}):
        # The API server's own finalizer may be gone when the next reconcile runs.
        obj = await ctx.patch(obj, {"metadata": {"annotations": {ORPHANED: "true"}}})
    out, waits = cleanup(obj.get("status") or {}, _forgotten(meta), pods, clusters, orphan=orphan)
    outcome = await (let_go(ctx, meta["uid"], out.releases) if orphan else carry_out(ctx, obj, None, [], out.ends, []))
    if outcome.errors:
        raise Retry(f"cleaning up: {outcome.errors[0]}") from outcome.errors[0]
    if not waits:
        await release(ctx, obj, FINALIZER)
        return None
    if outcome.held:
        return await _deletion_waits(ctx, obj, HELD, outcome.held, HELD_POLL)
    if out.requeue_after is not None:
        return await _deletion_waits(ctx, obj, "ClusterUnreachable", waits, out.requeue_after, CLUSTER)
    # Pods deleted at once were our own writes, which requeue no key (law 8); the end of the others will.
    return Result(requeue_after=_AFTER_DELETION if out.ends or out.releases else None)


async def _deletion_waits(
    ctx: Context, obj: dict[str, Any], reason: str, message: str, seconds: float, waiting: str = ""
) -> Result:
    shown = [dict(condition) for condition in (obj.get("status") or {}).get("conditions", ())]
    if conditions.set(shown, "Deleting", True, reason, message, now=ctx.now()):
        await ctx.status({"conditions": shown})
        ctx.event(reason, message, type="Warning")
    return Result(requeue_after=seconds, waiting=waiting)


async def _invalid(
    ctx: Context, obj: dict[str, Any], problem: str, pods: list[JobPod], clusters: list[JobCluster]
) -> Result | None:
    """A spec that the CRD's schema should have refused (it is older than the CRD): reported once, and not retried."""
    tier, ttl = shown_tier(ctx.request.tier, obj), time_to_live(obj["spec"])
    job = UnreadableJob(obj.get("status") or {}, problem, tier, _forgotten(obj["metadata"]), ttl)
    decided = wind_up(job, pods, clusters, ctx.now())
    if decided.status:
        await ctx.status(decided.status, replace=True)
    _report(ctx, decided, set())
    outcome = await carry_out(ctx, obj, None, [], decided.ends, decided.releases)
    if outcome.errors:
        raise Retry(f"{len(outcome.errors)} Pod writes failed: {outcome.errors[0]}") from outcome.errors[0]
    if outcome.held:
        ctx.event(HELD, outcome.held, type="Warning")
        return Result(requeue_after=HELD_POLL)
    if decided.delete_job:
        await ctx.delete(obj, propagation="Background")
        return None
    return Result(requeue_after=decided.requeue_after)


def shown_tier(lane: str, obj: Mapping[str, Any]) -> str:
    """The tier of the job, by the lane in which it is reconciled: requeues and resyncs go through ``background``, whatever the
    job's own tier is."""
    if lane != "background":
        return lane
    named = (obj.get("spec") or {}).get("qosTier")
    return str(named or (obj.get("status") or {}).get("tier") or lane)


def _forgotten(meta: Mapping[str, Any]) -> frozenset[str]:
    named = (meta.get("annotations") or {}).get(FORGET, "")
    return frozenset(name.strip() for name in named.split(",") if name.strip())
