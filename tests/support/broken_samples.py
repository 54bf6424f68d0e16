"""Controllers that are broken in ten ways, for what is shown of them. Each has a label of its own name."""

import asyncio
from typing import Any

from raycp import Context, Result, controller

SECRET = "hunter22abc"


@controller("v1/ConfigMap", labels={"app": "typo"})
async def typo(ctx: Context, cm: dict[str, Any]) -> None:
    """A TypeError."""
    len(cm.get("spec"))  # type: ignore[arg-type]


@controller("v1/ConfigMap", labels={"app": "field"})
async def field(ctx: Context, cm: dict[str, Any]) -> None:
    """Writes a field that the kind does not have like that."""
    meta = {"name": f"{cm['metadata']['name']}-pod", "namespace": "default"}
    await ctx.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": "none"}})


@controller("v1/ConfigMap", labels={"app": "forbidden"})
async def forbidden(ctx: Context, cm: dict[str, Any]) -> None:
    """Writes what its credentials do not allow."""
    meta = {"name": f"{cm['metadata']['name']}-secret", "namespace": "default"}
    await ctx.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta})


@controller("v1/ConfigMap", labels={"app": "endless"}, timeout=0.3)
async def endless(ctx: Context, cm: dict[str, Any]) -> None:
    """Never returns."""
    await asyncio.Event().wait()


@controller("v1/ConfigMap", labels={"app": "missing"})
async def missing(ctx: Context, cm: dict[str, Any]) -> None:
    """Its module can't be imported by the workers: tests see to that."""


@controller("v1/ConfigMap", labels={"app": "hasty"})
async def hasty(ctx: Context, cm: dict[str, Any]) -> Result:
    """Asks for another reconcile at once, for ever."""
    return Result(requeue_after=0)


@controller("example.com/v1beta9/Website")
async def outdated(ctx: Context, site: dict[str, Any]) -> None:
    """Of a version that no cluster serves."""


@controller("v1/ConfigMap", labels={"app": "greedy"})
async def greedy(ctx: Context, cm: dict[str, Any]) -> None:
    """Needs more memory than there is."""
    bytearray(1 << 60)


@controller("v1/ConfigMap", labels={"app": "talkative"})
async def talkative(ctx: Context, cm: dict[str, Any]) -> None:
    """Its error has a secret in its message."""
    raise RuntimeError(f"login failed with password {SECRET!r} for token={SECRET} of {cm}")
