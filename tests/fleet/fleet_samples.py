"""User controllers of the fleet's tests. What they did is told in ``RAN``; what they should do is said in the object's data."""

import asyncio
import time
from collections import Counter
from typing import Any

from raycp import Context, Permanent, Result, Retry, controller
from raycp.sdk.controller import owned

RAN: list[tuple[str, str, str]] = []
"""(controller, cluster, name) at the start of each reconcile."""

SEEN: list[tuple[str, str, dict[str, Any]]] = []
"""(controller, name, data) as the reconcile saw it."""

RUNNING: Counter[tuple[str, str, str]] = Counter()
OVERLAPS: list[tuple[str, str, str]] = []
"""Keys that two reconciles worked on at the same time: there must be none (law 1)."""

CHILDREN: dict[tuple[str, str], list[str]] = {}
DELAY = 0.0
"""Seconds that ``tracked`` takes."""

OPEN: dict[str, bool] = {}
"""Names whose ``gated`` reconcile may end."""


def reset() -> None:
    """Forget everything; the settings too."""
    global DELAY
    RAN.clear()
    SEEN.clear()
    RUNNING.clear()
    OVERLAPS.clear()
    CHILDREN.clear()
    OPEN.clear()
    DELAY = 0.0


def _begin(who: str, ctx: Context, obj: dict[str, Any] | None) -> tuple[str, str, str]:
    key = (who, ctx.cluster.name, ctx.request.name)
    RAN.append(key)
    SEEN.append((who, ctx.request.name, dict((obj or {}).get("data") or {})))
    RUNNING[key] += 1
    if RUNNING[key] > 1:
        OVERLAPS.append(key)
    return key


async def _opened(name: str) -> None:
    while not OPEN.get(name):  # noqa: ASYNC110 - opened from another thread's loop
        await asyncio.sleep(0.005)


@controller("v1/ConfigMap", labels={"app": "tracked"}, deleted=True)
async def tracked(ctx: Context, cm: dict[str, Any] | None) -> None:
    """Tells what it saw, and takes ``DELAY``."""
    key = _begin("tracked", ctx, cm)
    await asyncio.sleep(DELAY)
    RUNNING[key] -= 1


@controller("v1/ConfigMap", labels={"app": "parent"}, owns=["v1/Secret"])
async def parent(ctx: Context, cm: dict[str, Any]) -> None:
    """One Secret for each ConfigMap, in the same cluster."""
    key = _begin("parent", ctx, cm)
    CHILDREN[key[1], key[2]] = [child["metadata"]["name"] for child in ctx.children("v1/Secret")]
    await asyncio.sleep(DELAY)
    if not ctx.children("v1/Secret"):
        child = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{key[2]}-child", "namespace": ctx.request.namespace}}
        await ctx.create(ctx.own(child))
    RUNNING[key] -= 1


@controller("v1/ConfigMap", on="hub", labels={"app": "remote"}, owns=[owned("v1/Secret", on="members")])
async def remote(ctx: Context, cm: dict[str, Any]) -> None:
    """One Secret for each ConfigMap of the hub, in every member."""
    key = _begin("remote", ctx, cm)
    by_cluster = ctx.children_by_cluster("v1/Secret")
    CHILDREN[key[1], key[2]] = sorted(name for name, found in by_cluster.items() if found)
    for member in ctx.members:
        if not by_cluster.get(member.name) and member.name not in ctx.blind:
            child = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{key[2]}-child", "namespace": "default"}}
            await ctx.create(ctx.own(child, cluster=member.name), cluster=member.name)
    RUNNING[key] -= 1


@controller("v1/ConfigMap", labels={"app": "gated"})
async def gated(ctx: Context, cm: dict[str, Any]) -> None:
    """Ends when its name is in ``OPEN``."""
    key = _begin("gated", ctx, cm)
    await _opened(key[2])
    RUNNING[key] -= 1


@controller("v1/ConfigMap", labels={"app": "wild"}, timeout=0.5)
async def wild(ctx: Context, cm: dict[str, Any]) -> Any:
    """Does what ``data.do`` says."""
    _begin("wild", ctx, cm)
    do = (cm.get("data") or {}).get("do", "")
    if do == "raise":
        raise ZeroDivisionError("on purpose")
    if do == "retry":
        raise Retry("not yet", after=0.05)
    if do == "permanent":
        raise Permanent("never")
    if do == "hang":
        await asyncio.Event().wait()
    if do == "defy":
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
    if do == "block":
        time.sleep(10)  # noqa: ASYNC251 - the mistake to be tested
    if do == "nonsense":
        return {"please": "again"}
    if do == "negative":
        return Result(requeue_after=-1)
    return None


@controller("example.com/v1/Nothing")
async def nowhere(ctx: Context, obj: dict[str, Any]) -> None:
    """On a kind that no cluster serves."""
    _begin("nowhere", ctx, obj)


@controller("v1/ConfigMap", labels={"app": "plain"})
def plain(ctx: Any, cm: dict[str, Any]) -> None:
    """A plain function."""
    _begin("plain", ctx, cm)


@controller("v1/ConfigMap")
async def everything(ctx: Context, cm: dict[str, Any]) -> None:
    """Selects nothing out."""
    _begin("everything", ctx, cm)


@controller("v1/ConfigMap", on="hub", labels={"app": "keeper"}, owns=[owned("v1/Secret", on="members")])
async def keeper(ctx: Context, cm: dict[str, Any]) -> None:
    """Tells of its children in the members; ends when its name is in ``OPEN``."""
    key = _begin("keeper", ctx, cm)
    CHILDREN[key[1], key[2]] = sorted(child["metadata"]["name"] for child in ctx.children("v1/Secret"))
    await _opened(key[2])
    RUNNING[key] -= 1
