"""``finalizer``: clean up outside the object before it is deleted.

Expected flow, as in kube-rs's ``finalizer``: a live object first gets the finalizer, then ``apply`` runs; for one that is being
deleted, ``cleanup`` runs, then the finalizer is removed.

Guarantees:

1. Once ``apply`` has started, the object is not deleted before ``cleanup`` has succeeded.
2. For an object that is being deleted and lacks the finalizer, neither runs.

Assumptions: both functions are idempotent and may be cancelled anywhere; ``cleanup`` works even if ``apply`` never ran, or only in
part; the name never changes.

Caveats: an object whose controller is not running stays in ``Terminating`` until it runs again, or until a person removes the
finalizer.

Errors: those of the two functions pass through; a conflict on the finalizer list is ``ApiError`` 409 and so a retry.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from raycp.kube.errors import ApiError
from raycp.sdk.context import Context
from raycp.sdk.patches import expect, same_spec
from raycp.sdk.results import Result

Step = Callable[[dict[str, Any]], Awaitable[Result | None]]


async def finalizer(ctx: Context, obj: dict[str, Any], name: str, *, apply: Step, cleanup: Step) -> Result | None:
    """Run ``apply(obj)`` or ``cleanup(obj)`` under finalizer ``name`` (``domain/word``). See the module."""
    held = name in (obj["metadata"].get("finalizers") or ())
    if obj["metadata"].get("deletionTimestamp"):
        if not held:
            return None
        result = await cleanup(obj)
        if result is not None and result.requeue_after is not None:
            return result  # the cleanup is not finished
        await release(ctx, obj, name)
        return result
    if not held:
        obj = await hold(ctx, obj, name)
    return await apply(obj)


async def hold(ctx: Context, obj: dict[str, Any], name: str, *, cluster: str | None = None) -> dict[str, Any]:
    """Add finalizer ``name`` and return the resulting object; no write where it has it already."""
    finalizers = list(obj["metadata"].get("finalizers") or ())
    if name in finalizers:
        return obj
    return await ctx.patch(obj, {"metadata": {"finalizers": [*finalizers, name]}}, cluster=cluster)


async def begin(ctx: Context, obj: dict[str, Any], name: str, status: Mapping[str, Any]) -> dict[str, Any]:
    """Add finalizer ``name`` to the reconciled object, which has no status yet, and write its first ``status``, both at the same
    time: one answer of the API server to wait for instead of two. The object with the finalizer.

    Each write is bound to what it rests on, not to the resourceVersion, which the other changes: the same object and generation;
    the finalizers as they were seen; no status. Raises ``ApiError``, 409 Conflict where that has changed; the other write may
    have been made then.
    """
    seen = obj["metadata"].get("finalizers")
    held = {"op": "add", "path": "/metadata/finalizers", "value": [*(seen or ()), name]}
    patch = [*same_spec(obj), expect("/metadata/finalizers", seen), held]
    done = await asyncio.gather(
        ctx.patch(obj, patch, type="json", bound=False), ctx.first_status(status), return_exceptions=True
    )  # fmt: skip
    for each in done:
        if isinstance(each, BaseException):
            raise each
    found: dict[str, Any] = done[0]
    return found


async def release(ctx: Context, obj: dict[str, Any], name: str, *, cluster: str | None = None) -> bool:
    """Remove finalizer ``name``; False where the object does not have it or is deleted."""
    finalizers = list(obj["metadata"].get("finalizers") or ())
    if name not in finalizers:
        return False
    try:
        kept = [held for held in finalizers if held != name]
        await ctx.patch(obj, {"metadata": {"finalizers": kept or None}}, cluster=cluster)
    except ApiError as error:
        if error.not_found:
            return False
        raise
    return True
