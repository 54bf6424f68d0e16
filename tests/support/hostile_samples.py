"""Controllers for fleets with a server that lies."""

from collections import Counter
from typing import Any

from raycp import Context, controller

READ: Counter[tuple[str, str]] = Counter()
"""(cluster, name) of each reconcile that has read what it wanted."""


@controller("v1/ConfigMap", labels={"app": "reader"})
async def reader(ctx: Context, cm: dict[str, Any]) -> None:
    """Asks the API server for a Secret, and for all."""
    await ctx.live.get("v1/Secret", "some")
    await ctx.live.list("v1/Secret")
    READ[ctx.cluster.name, ctx.request.name] += 1
