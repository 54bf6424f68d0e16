"""Carries the Pod writes of a plan out: all of them, in every cluster, ``PARALLEL`` at a time, each told apart by what it meets.

Three things that a server says are no error of the reconcile: a creation is *refused* (``refusals``: the plan is made anew); the
release or the end of a Pod is *held* (the server refuses the patch, while it answers: tried again every ``HELD_POLL`` seconds, as
nothing tells when it accepts one); a Pod is gone already.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raycp.base.owner_marks import MARK
from raycp.controllers.batchjob.job import Create, RefusedCreate
from raycp.controllers.batchjob.newpod import new_pod
from raycp.controllers.batchjob.pods import GIVEN_UP, TRACKING, JobPod
from raycp.controllers.batchjob.refusals import refused
from raycp.controllers.batchjob.types import BatchJobSpec
from raycp.kube.errors import UNABLE, ApiError, KubeError
from raycp.sdk.context import Context
from raycp.sdk.finalizers import release
from raycp.sdk.owner import OWNER, OWNER_KIND, OWNER_UID, Ownership

PARALLEL = 64
"""Pod writes of one job at a time."""

HELD_POLL = 15.0
"""Seconds until a refused release is tried again."""


@dataclass
class WriteOutcomes:
    """What the writes met, beside success. ``held`` is the first refusal of a release, as a message; ``errors`` are to be
    retried."""

    refused: tuple[RefusedCreate, ...] = ()
    held: str = ""
    errors: list[KubeError] = field(default_factory=list)


async def carry_out(
    ctx: Context,
    obj: dict[str, Any],
    spec: BatchJobSpec | None,
    creates: Sequence[Create],
    ends: Sequence[JobPod],
    releases: Sequence[JobPod],
) -> WriteOutcomes:
    """Create, end and release these Pods. ``spec`` is needed for creations only."""
    out = WriteOutcomes()
    work: list[tuple[JobPod | None, Awaitable[Any]]] = []
    if spec is not None:
        work += [(None, _create(ctx, obj, spec, create)) for create in creates]
    work += [(pod, end(ctx, pod)) for pod in ends]
    work += [(pod, release(ctx, pod.raw, TRACKING, cluster=pod.cluster)) for pod in releases]
    if not work:
        return out
    found = await _all(work, out)
    out.refused = tuple(each for each in found[: len(creates)] if isinstance(each, RefusedCreate))
    made = [create.cluster for create, answer in zip(creates, found, strict=False) if answer is None]
    if made:
        ctx.event("SuccessfulCreate", f"created Pods ({_by_cluster(made)})")
    answers = zip(ends, found[len(creates) if spec is not None else 0 :], strict=False)
    deleted = [pod.cluster for pod, answer in answers if answer is None and pod.ends_at is None and not pod.ended]
    if deleted:
        ctx.event("SuccessfulDelete", f"deleted Pods ({_by_cluster(deleted)})")
    return out


def _by_cluster(clusters: list[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(Counter(clusters).items()))


def refuses_write(error: ApiError) -> bool:
    """Whether the server refuses this write and is well otherwise: a conflict is over at the next attempt, and one that serves
    nobody is unreachable."""
    return not (error.conflict or error.throttled or error.status in UNABLE or error.status == 401)


async def end(ctx: Context, pod: JobPod) -> None:
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


async def let_go(ctx: Context, owner: str, pods: Sequence[JobPod]) -> WriteOutcomes:
    """Release Pods from their job, whose uid is ``owner``, for good: its finalizer and the marks of its ownership are taken off."""
    out = WriteOutcomes()
    await _all([(pod, _disown(ctx, owner, pod)) for pod in pods], out)
    return out


async def _disown(ctx: Context, owner: str, pod: JobPod) -> None:
    meta = pod.raw["metadata"]
    kept = [name for name in meta.get("finalizers") or () if name != TRACKING]
    owners = [each for each in meta.get("ownerReferences") or () if each.get("uid") != owner]
    gone: dict[str, Any] = {
        "finalizers": kept or None,
        "labels": {OWNER_UID: None},
        "annotations": dict.fromkeys((MARK, OWNER, OWNER_KIND)),
    }
    if meta.get("ownerReferences"):
        gone["ownerReferences"] = owners or None
    try:
        await ctx.patch(pod.raw, {"metadata": gone}, cluster=pod.cluster)
    except ApiError as error:
        if not error.not_found:
            raise


async def _all(work: Sequence[tuple[JobPod | None, Awaitable[Any]]], out: WriteOutcomes) -> list[Any]:
    """Do all, ``PARALLEL`` at a time: what each returns or raises. What fails is sorted into ``out``; raises what is no answer of a
    server."""
    gate = asyncio.Semaphore(PARALLEL)

    async def one(step: Awaitable[Any]) -> Any:
        async with gate:
            return await step

    found = await asyncio.gather(*(one(step) for _, step in work), return_exceptions=True)
    for (pod, _), error in zip(work, found, strict=True):
        if pod is not None and isinstance(error, ApiError) and refuses_write(error):
            out.held = out.held or f"cluster {pod.cluster} refuses to release Pod {pod.name}: {error.message or error}"
        elif isinstance(error, KubeError):
            out.errors.append(error)
        elif isinstance(error, BaseException):
            raise error
    return found


async def _create(ctx: Context, obj: dict[str, Any], spec: BatchJobSpec, create: Create) -> RefusedCreate | None:
    pod = new_pod(obj, spec, create)
    meta = pod["metadata"]
    try:
        try:
            await ctx.create(pod, cluster=create.cluster)
        except ApiError as error:
            if not (error.not_found and error.details.get("kind") in ("namespaces", "namespace", "Namespace")):
                raise
            await _create_namespace(ctx, meta["namespace"], create.cluster)
            await ctx.create(pod, cluster=create.cluster)
    except ApiError as error:
        words = refused(error, create.cluster, f"{meta['namespace']}/{meta['name']}")
        if words is None:
            raise
        if not error.already_exists and await _exists(ctx, meta, create.cluster):
            return None
        return RefusedCreate(create.cluster, create.index, words.reason, words.message, words.template)
    return None


async def _exists(ctx: Context, meta: Mapping[str, Any], cluster: str) -> bool:
    """Whether the Pod is there all the same: admission comes before the name is looked up, and an earlier request, whose answer was
    lost, may have created it."""
    found = await ctx.live.get("v1/Pod", meta["name"], meta["namespace"], cluster=cluster)
    return found is not None and ctx.ownership(found, cluster=cluster) is not Ownership.NONE


async def _create_namespace(ctx: Context, name: str, cluster: str) -> None:
    """Pods live in the namespace of the job's name on the hub; create it in a member that lacks it."""
    try:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await ctx.create(namespace, own=False, cluster=cluster)
    except ApiError as error:
        if not error.already_exists:
            raise
