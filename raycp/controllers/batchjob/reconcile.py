"""The ``batchjob`` controller: collects the observed state, asks ``plan``, writes the status, carries the rest out.

One status write per reconcile at most, before anything else; none where nothing changes. Then all Pod writes, in every cluster,
``PARALLEL`` at a time. A crash anywhere leaves a state from which the next reconcile continues (see the package).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

from raycp.base.tasks import CLUSTER
from raycp.controllers.batchjob.cleanup import cleanup
from raycp.controllers.batchjob.job import NAME_TAKEN, PODS_REFUSED, Create, Job, JobCluster, JobPlan
from raycp.controllers.batchjob.newpod import new_pod
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import GIVEN_UP, TRACKING, JobPod, own_pods, read_pod
from raycp.controllers.batchjob.record import JobRecord
from raycp.controllers.batchjob.specs import InvalidSpec, read_spec
from raycp.controllers.batchjob.types import FINALIZER, FORGET, GROUP, JOB_CONTROLLER, KIND, MANAGED_BY, VERSION, BatchJobSpec, crd
from raycp.kube.errors import ApiError, KubeError
from raycp.sdk import conditions
from raycp.sdk.context import Context
from raycp.sdk.controller import controller, owned
from raycp.sdk.finalizers import hold, release
from raycp.sdk.foreign import report_foreign
from raycp.sdk.results import Result, Retry

POD = "v1/Pod"
PARALLEL = 64
"""Pod writes of one job at a time."""

_SOFT = frozenset({"active", "ready", "duration", "tier"})
_QUIET = 1.0  # seconds: readiness alone is written no more often than this
_QUOTA_POLL = 10.0
_NAME_POLL = 10.0
_AFTER_DELETION = 0.5  # seconds until a job is requeued after deletions of our own
_SKEW = 2.0  # seconds that a member's clock may be ahead of what was measured; times beyond it are not trusted


class _NameTaken(KubeError):
    """A Pod can't be created, since another's has its name. It is left alone."""


class _Refused(Exception):
    """A member refuses the Pod permanently: the template is invalid."""


@controller(
    f"{GROUP}/{VERSION}/{KIND}",
    name="batchjob",
    on="hub",
    owns=[owned(POD, on="members")],
    reachability="status.clusters[*].name",
    crds=[crd()],
)
async def batchjob(ctx: Context, obj: dict[str, Any]) -> Result | None:
    """Take the next step of one BatchJob."""
    if obj["spec"].get("managedBy") not in (None, MANAGED_BY, JOB_CONTROLLER):
        return None
    meta = obj["metadata"]
    deleting = bool(meta.get("deletionTimestamp"))
    if deleting and FINALIZER not in (meta.get("finalizers") or ()):
        return None
    clusters = [
        JobCluster(info.name, info.labels, info.reachable and info.name not in ctx.unknown_clusters, info.reason, info.free_pods)
        for info in ctx.members
    ]
    visible = {cluster.name for cluster in clusters if cluster.visible}
    status = obj.get("status") or {}
    pods = await _own_pods(ctx, meta, status, visible)
    if deleting:
        return await _delete(ctx, obj, pods, clusters)
    try:
        spec = read_spec(obj)
    except InvalidSpec as error:
        return await _invalid(ctx, obj, str(error))
    job = Job(meta["uid"], spec, status, meta.get("generation"), _forgotten(meta), None, meta["namespace"], ctx.request.tier)
    now = ctx.now()
    if FINALIZER not in (meta.get("finalizers") or ()):
        obj = await hold(ctx, obj, FINALIZER)
    decided = plan(job, pods, clusters, now)
    later: float | None = None
    changed = max((max(pod.ready_changed, pod.created) for pod in pods if not pod.ended), default=0.0)
    if soft_only(status, decided.status) and -_SKEW <= now - changed < _QUIET:
        later = _QUIET
    else:
        await ctx.status(decided.status, replace=True)
    for kind, reason, note in decided.events:
        ctx.event(reason, note, type=kind)
    try:
        held = await _carry_out(ctx, obj, spec, decided)
    except _Refused as refusal:
        job = replace(job, status=decided.status, failure=("InvalidTemplate", str(refusal)))
        decided = plan(job, pods, clusters, now)
        await ctx.status(decided.status, replace=True)
        for kind, reason, note in decided.events:
            ctx.event(reason, note, type=kind)
        # Pods that other clusters accepted meanwhile arrive as events, and are ended then
        return Result(requeue_after=0.5)
    if held is not None:
        return held
    if decided.delete_job:
        await ctx.delete(obj, propagation="Background")
        return None
    waits = [seconds for seconds in (later, decided.requeue_after) if seconds is not None]
    return Result(requeue_after=min(waits, default=None), waiting=decided.waiting)


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
    if all(pod.marked for pod in found):  # what the status says of them is not asked
        own, others = found, []
    else:
        own, others = own_pods(found, JobRecord.read(status))
    foreign += [f"{pod.cluster}/{meta['namespace']}/{pod.name}" for pod in others]
    if foreign:
        report_foreign(ctx, foreign)
    return own


async def _carry_out(ctx: Context, obj: dict[str, Any], spec: BatchJobSpec, decided: JobPlan) -> Result | None:
    """All Pod writes. Returns a ``Result`` where a quota refused Pods, or their names are taken. Raises ``_Refused``, or
    ``Retry`` for other errors."""
    work: list[Awaitable[Any]] = [_create(ctx, obj, spec, create) for create in decided.creates]
    work += [_end(ctx, pod) for pod in decided.ends]
    work += [release(ctx, pod.raw, TRACKING, cluster=pod.cluster) for pod in decided.releases]
    if not work:
        return None
    errors = [error for error in await _all(work) if error is not None]
    if decided.creates and not errors:
        ctx.event("SuccessfulCreate", f"created Pods ({_by_cluster(create.cluster for create in decided.creates)})")
    deleted = [pod.cluster for pod in decided.ends if pod.ends_at is None and not pod.ended]
    if deleted and not errors:
        ctx.event("SuccessfulDelete", f"deleted Pods ({_by_cluster(deleted)})")
    for error in errors:
        if isinstance(error, _Refused) or not isinstance(error, KubeError):
            raise error
    refused = [error for error in errors if isinstance(error, ApiError) and error.status == 403]
    taken = [error for error in errors if isinstance(error, _NameTaken)]
    if refused:
        message = str(refused[0])
        await _not_scheduled(ctx, decided, PODS_REFUSED, message)
        if "exceeded quota" in message:
            return Result(requeue_after=_QUOTA_POLL, waiting="quota")
    elif taken:
        await _not_scheduled(ctx, decided, NAME_TAKEN, str(taken[0]))
        if len(taken) == len(errors):
            return Result(requeue_after=_NAME_POLL, waiting="name")
    if errors:
        raise Retry(f"{len(errors)} of {len(work)} Pod writes failed: {errors[0]}") from errors[0]
    return None


def _by_cluster(clusters: Iterable[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(Counter(clusters).items()))


async def _not_scheduled(ctx: Context, decided: JobPlan, reason: str, message: str) -> None:
    shown = [dict(condition) for condition in decided.status.get("conditions", ())]
    conditions.set(shown, "Scheduled", False, reason, message, now=ctx.now())
    if await ctx.status({"conditions": shown}):
        ctx.event(reason, message, type="Warning")


async def _create(ctx: Context, obj: dict[str, Any], spec: BatchJobSpec, create: Create) -> None:
    pod = new_pod(obj, spec, create)
    try:
        try:
            await ctx.create(pod, cluster=create.cluster)
        except ApiError as error:
            if not (error.not_found and error.details.get("kind") in ("namespaces", "namespace", "Namespace")):
                raise
            await _create_namespace(ctx, pod["metadata"]["namespace"], create.cluster)
            await ctx.create(pod, cluster=create.cluster)
    except ApiError as error:
        if error.status in (400, 413, 422):
            raise _Refused(f"cluster {create.cluster} refuses the Pod: {error.message or error}") from error
        if error.already_exists:
            where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']} in cluster {create.cluster}"
            raise _NameTaken(f"there is a Pod {where} that is not this job's; the job waits until it is deleted") from error
        raise


async def _create_namespace(ctx: Context, name: str, cluster: str) -> None:
    """Pods live in the namespace of the job's name on the hub; create it in a member that lacks it."""
    try:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await ctx.create(namespace, own=False, cluster=cluster)
    except ApiError as error:
        if not error.already_exists:
            raise


async def _end(ctx: Context, pod: JobPod) -> None:
    """Annotate as given up and remove the finalizer, then delete: after a crash in between, the next reconcile deletes."""
    raw = pod.raw
    try:
        if pod.tracked or not (pod.given_up or pod.ended):
            kept = [name for name in raw["metadata"].get("finalizers") or () if name != TRACKING]
            patch: dict[str, Any] = {"metadata": {"finalizers": kept or None}}
            if not pod.ended:
                patch["metadata"]["annotations"] = {GIVEN_UP: "true"}
            raw = await ctx.patch(raw, patch, cluster=pod.cluster)
        if pod.ends_at is None:
            await ctx.delete(raw, cluster=pod.cluster)
    except ApiError as error:
        if not error.not_found:
            raise


async def _delete(ctx: Context, obj: dict[str, Any], pods: list[JobPod], clusters: list[JobCluster]) -> Result | None:
    out, waits = cleanup(obj.get("status") or {}, _forgotten(obj["metadata"]), pods, clusters)
    errors = [error for error in await _all([_end(ctx, pod) for pod in out.ends]) if error is not None]
    if errors:
        raise Retry(f"cleaning up: {errors[0]}") from errors[0]
    if not waits:
        await release(ctx, obj, FINALIZER)
        return None
    if out.requeue_after is not None:
        shown = [dict(condition) for condition in (obj.get("status") or {}).get("conditions", ())]
        if conditions.set(shown, "Deleting", True, "ClusterUnreachable", waits, now=ctx.now()):
            await ctx.status({"conditions": shown})
            ctx.event("ClusterUnreachable", waits, type="Warning")
    if out.requeue_after is not None:
        return Result(requeue_after=out.requeue_after, waiting=CLUSTER)
    # Pods deleted at once were our own writes, which requeue no key (law 8); the end of the others will.
    return Result(requeue_after=_AFTER_DELETION if out.ends else None)


async def _invalid(ctx: Context, obj: dict[str, Any], problem: str) -> Result | None:
    """A spec that the CRD's schema should have refused (it is older than the CRD): reported once, and not retried."""
    shown = [dict(condition) for condition in (obj.get("status") or {}).get("conditions", ())]
    conditions.set(shown, "Failed", True, "InvalidSpec", problem, now=ctx.now())
    if await ctx.status({"conditions": shown, "phase": "Failed"}):
        ctx.event("InvalidSpec", problem, type="Warning")
    return None


async def _all(work: list[Awaitable[Any]]) -> list[BaseException | None]:
    """Do all, ``PARALLEL`` at a time; the errors, None for each success."""
    gate = asyncio.Semaphore(PARALLEL)

    async def one(step: Awaitable[Any]) -> None:
        async with gate:
            await step

    return await asyncio.gather(*(one(step) for step in work), return_exceptions=True)


def soft_only(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two statuses differ only in that more Pods are active, or in how many are ready: that changes often, and is rarely
    waited for."""
    return bool(old) and old != new and _hard(old) == _hard(new) and (old.get("active") or 0) <= new["active"]


def _hard(status: Mapping[str, Any]) -> dict[str, Any]:
    hard = {key: value for key, value in status.items() if key not in _SOFT}
    if hard.get("phase") in ("Pending", "Running"):
        hard["phase"] = "Running"
    hard["clusters"] = [{k: v for k, v in entry.items() if k not in _SOFT} for entry in status.get("clusters") or ()]
    hard["conditions"] = [c for c in status.get("conditions") or () if c.get("type") != "PodsReady"]
    return hard


def _forgotten(meta: Mapping[str, Any]) -> frozenset[str]:
    named = (meta.get("annotations") or {}).get(FORGET, "")
    return frozenset(name.strip() for name in named.split(",") if name.strip())
