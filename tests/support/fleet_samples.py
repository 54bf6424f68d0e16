"""User controllers for tests. ``RAN`` records their reconciles; the object's data says what they do."""

import asyncio
import contextlib
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from raycp import ALL, Context, ObjectKey, Permanent, Result, Retry, controller, watch
from raycp.sdk.controller import owned

RAN: list[tuple[str, str, str]] = []
"""(controller, cluster, name) at the start of each reconcile."""

SEEN: list[tuple[str, str, dict[str, Any]]] = []
"""(controller, name, data) as the reconcile saw it."""

RUNNING: Counter[tuple[str, str, str]] = Counter()
OVERLAPS: list[tuple[str, str, str]] = []
"""Keys that two reconciles worked on at the same time: there must be none (law 1)."""

THREADS: dict[int, list[tuple[str, str, str]]] = {}
"""What each user loop has in work."""

CHILDREN: dict[tuple[str, str], list[str]] = {}
UNKNOWN: dict[tuple[str, str], list[str]] = {}
"""(cluster, name) -> the clusters that the last reconcile of ``census`` did not know."""

DELAY = 0.0
"""Seconds that ``tracked`` takes."""

OPEN: dict[str, bool] = {}
"""Names whose ``gated`` reconcile may end."""

READ: dict[tuple[str, str], dict[str, Any]] = {}
"""(cluster, name) -> what the last reconcile of ``reader`` or ``member_reader`` read."""

MAPPED: list[str] = []
"""Watched objects whose map function has run, as it saw them."""



def _harmless(thread: int) -> None:
    """Ends nothing."""


DEADLY: Callable[[int], None] = _harmless
"""What ``deadly`` calls with its thread: it kills the worker whose user loop that is."""


def died(thread: int | None) -> None:
    """The process with this user loop is dead: it runs nothing from now on."""
    for key in THREADS.pop(thread or 0, []):
        RUNNING[key] -= 1


def reset() -> None:
    """Forget everything; the settings too."""
    global DELAY, DEADLY
    RAN.clear()
    SEEN.clear()
    RUNNING.clear()
    OVERLAPS.clear()
    THREADS.clear()
    CHILDREN.clear()
    UNKNOWN.clear()
    OPEN.clear()
    READ.clear()
    MAPPED.clear()
    DELAY = 0.0
    DEADLY = _harmless


@contextlib.contextmanager
def _run(who: str, ctx: Any, obj: dict[str, Any] | None) -> Iterator[tuple[str, str, str]]:
    key = (who, ctx.cluster.name, ctx.request.name)
    RAN.append(key)
    SEEN.append((who, ctx.request.name, dict((obj or {}).get("data") or {})))
    RUNNING[key] += 1
    if RUNNING[key] > 1:
        OVERLAPS.append(key)
    thread = threading.get_ident()
    THREADS.setdefault(thread, []).append(key)
    try:
        yield key
    finally:
        if key in THREADS.get(thread, ()):
            THREADS[thread].remove(key)
            RUNNING[key] -= 1


async def _opened(name: str) -> None:
    while not OPEN.get(name):  # noqa: ASYNC110 - opened from another thread's loop
        await asyncio.sleep(0.005)


@controller("v1/ConfigMap", labels={"app": "tracked"}, deleted=True)
async def tracked(ctx: Context, cm: dict[str, Any] | None) -> None:
    """Records the object that it saw, and takes ``DELAY``."""
    with _run("tracked", ctx, cm):
        await asyncio.sleep(DELAY)


@controller("v1/Pod", labels={"app": "tracked"})
async def pods(ctx: Context, pod: dict[str, Any]) -> None:
    """Records the object that it saw, of a kind with a status."""
    with _run("pods", ctx, pod):
        pass


@controller("v1/ConfigMap", labels={"app": "parent"}, owns=["v1/Secret"])
async def parent(ctx: Context, cm: dict[str, Any]) -> None:
    """One Secret for each ConfigMap, in the same cluster."""
    with _run("parent", ctx, cm) as key:
        CHILDREN[key[1], key[2]] = [child["metadata"]["name"] for child in ctx.children("v1/Secret")]
        await asyncio.sleep(DELAY)
        if not ctx.children("v1/Secret"):
            child = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{key[2]}-child", "namespace": "default"}}
            await ctx.create(ctx.own(child))


@controller("v1/ConfigMap", on="hub", labels={"app": "remote"}, owns=[owned("v1/Secret", on="members")])
async def remote(ctx: Context, cm: dict[str, Any]) -> None:
    """One Secret for each ConfigMap of the hub, in every member."""
    with _run("remote", ctx, cm) as key:
        by_cluster = ctx.children_by_cluster("v1/Secret")
        CHILDREN[key[1], key[2]] = sorted(name for name, found in by_cluster.items() if found)
        for member in ctx.members:
            if not by_cluster.get(member.name) and member.name not in ctx.unknown_clusters:
                child = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{key[2]}-child", "namespace": "default"}}
                await ctx.create(ctx.own(child, cluster=member.name), cluster=member.name)


@controller("v1/ConfigMap", labels={"app": "gated"})
async def gated(ctx: Context, cm: dict[str, Any]) -> None:
    """Ends when its name is in ``OPEN``."""
    with _run("gated", ctx, cm) as key:
        await _opened(key[2])


@controller("v1/ConfigMap", labels={"app": "writer"}, owns=["v1/Secret"])
async def writer(ctx: Context, cm: dict[str, Any]) -> None:
    """One Secret for each ConfigMap, once its name is in ``OPEN``."""
    with _run("writer", ctx, cm) as key:
        await _opened(key[2])
        if not ctx.children("v1/Secret"):
            child = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{key[2]}-child", "namespace": "default"}}
            await ctx.create(ctx.own(child))


@controller("v1/ConfigMap", labels={"app": "stepper"}, owns=["v1/Secret"])
async def stepper(ctx: Context, cm: dict[str, Any]) -> None:
    """Records in its object what it is about to do, and does it as ``writer``."""
    with _run("stepper", ctx, cm) as key:
        if not cm["metadata"].get("annotations"):
            await ctx.patch(cm, {"metadata": {"annotations": {"planned": "a child"}}})
        await _opened(key[2])
        if not ctx.children("v1/Secret"):
            child = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{key[2]}-child", "namespace": "default"}}
            await ctx.create(ctx.own(child))


@controller("v1/ConfigMap", labels={"app": "stubborn"})
async def stubborn(ctx: Context, cm: dict[str, Any]) -> None:
    """As ``gated``, and can't be stopped."""
    with _run("stubborn", ctx, cm) as key:
        while not OPEN.get(key[2]):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.005)


@controller("v1/ConfigMap", labels={"app": "wild"}, timeout=0.5)
async def wild(ctx: Context, cm: dict[str, Any]) -> Any:
    """Does what ``data.do`` says."""
    with _run("wild", ctx, cm):
        do = (cm.get("data") or {}).get("do", "")
        if do == "raise":
            raise ZeroDivisionError("on purpose")
        if do == "leak":
            raise RuntimeError(f"the Secret of {cm} has the token {cm['data']['token']} and password={cm['data']['password']}")
        if do == "surrogate":
            raise ValueError("half of \ud83d a character")
        if do == "cancel all":
            for task in asyncio.all_tasks():
                task.cancel()
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
        if do == "wait":
            return Result(waiting="quota")
        if do == "poll":
            return Result(requeue_after=60.0)
        if do == "negative":
            return Result(requeue_after=-1)
        return None


@controller("v1/ConfigMap", labels={"app": "deadly"})
async def deadly(ctx: Context, cm: dict[str, Any]) -> None:
    """Ends the process of its worker as ``data.do`` says, by ``DEADLY`` where it says nothing; not with ``live``."""
    with _run("deadly", ctx, cm):
        do = (cm.get("data") or {}).get("do")
        if do == "exit":
            os._exit(3)
        if do == "gil":
            re.match(r"(a+)+$", "a" * 64 + "b")
        if do != "live":
            DEADLY(threading.get_ident())
            await asyncio.Event().wait()


@controller("example.com/v1/Nothing")
async def nowhere(ctx: Context, obj: dict[str, Any]) -> None:
    """On a kind that no cluster serves."""
    with _run("nowhere", ctx, obj):
        pass


@controller("v1/ConfigMap", labels={"app": "plain"})
def plain(ctx: Any, cm: dict[str, Any]) -> None:
    """A plain function."""
    with _run("plain", ctx, cm):
        pass


@controller("v1/ConfigMap")
async def everything(ctx: Context, cm: dict[str, Any]) -> None:
    """Selects nothing out."""
    with _run("everything", ctx, cm):
        pass


@controller("v1/ConfigMap", on="hub", labels={"app": "patient"}, owns=[owned("v1/Secret", on="members")], reachability=False)
async def patient(ctx: Context, cm: dict[str, Any]) -> Result | None:
    """Waits, with a poll in an hour, for every member to be reachable."""
    with _run("patient", ctx, cm):
        silent = [cluster.name for cluster in ctx.clusters if not cluster.reachable]
        return Result(requeue_after=3600.0, waiting="cluster") if silent else None


@controller("v1/ConfigMap", on="hub", labels={"app": "keeper"}, owns=[owned("v1/Secret", on="members")])
async def keeper(ctx: Context, cm: dict[str, Any]) -> None:
    """Records its children in the members; ends when its name is in ``OPEN``."""
    with _run("keeper", ctx, cm) as key:
        CHILDREN[key[1], key[2]] = sorted(child["metadata"]["name"] for child in ctx.children("v1/Secret"))
        await _opened(key[2])


@controller("v1/ConfigMap", labels={"app": "lister"})
async def lister(ctx: Context, cm: dict[str, Any]) -> None:
    """Records the ConfigMaps of its namespace, as the cache has them."""
    with _run("lister", ctx, cm) as key:
        CHILDREN[key[1], key[2]] = sorted(found["metadata"]["name"] for found in await ctx.list("v1/ConfigMap"))


@controller("v1/ConfigMap", on="hub", labels={"app": "census"}, owns=[owned("v1/Secret", on="members")])
async def census(ctx: Context, cm: dict[str, Any]) -> None:
    """Records its children in the members, one decoded at a time."""
    with _run("census", ctx, cm) as key:
        UNKNOWN[key[1], key[2]] = sorted(ctx.unknown_clusters)
        CHILDREN[key[1], key[2]] = sorted([child["metadata"]["name"] async for _, child in ctx.each_child("v1/Secret")])


@controller("v1/ConfigMap", labels={"app": "quoting"})
async def quoting(ctx: Context, cm: dict[str, Any]) -> None:
    """Fails with what it saw in its error, as authors and API servers do: the object; a value; what an API server quotes."""
    with _run("quoting", ctx, cm):
        value = cm["data"]["value"]
        if cm["data"]["how"] == "object":
            raise ValueError(f"can't use {cm}")
        if cm["data"]["how"] == "secret":
            raise ValueError(f"the password '{value}' is too short")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"k": f"not valid: {value}"}}}
        await ctx.create(secret, own=False)


@controller("v1/ConfigMap", labels={"app": "threaded"})
def threaded(ctx: Any, cm: dict[str, Any]) -> None:
    """A plain function that ends when its name is in ``OPEN``; it can't be stopped."""
    with _run("threaded", ctx, cm) as key:
        while not OPEN.get(key[2]):
            time.sleep(0.005)


def named_by_label(obj: dict[str, Any]) -> list[str | ObjectKey]:
    """The names in the label ``for``, separated by dots; all objects for ``all``."""
    value = (obj["metadata"].get("labels") or {}).get("for", "")
    MAPPED.append(value)
    if value == "broken":
        raise ZeroDivisionError("on purpose")
    return [ObjectKey(ALL, ALL)] if value == "all" else [name for name in value.split(".") if name]


def _read(ctx: Context, cm: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": dict(cm.get("data") or {}),
        "children": sorted(child["metadata"]["name"] for child in ctx.children("v1/Secret")),
        "reachable": {cluster.name: cluster.reachable for cluster in ctx.members},
        "labels": {cluster.name: dict(cluster.labels) for cluster in ctx.members},
        "config": dict(ctx.config),
        "deleting": "deletionTimestamp" in cm["metadata"],
        "reason": ctx.request.reason,
    }


@controller(
    "v1/ConfigMap",
    on="hub",
    labels={"app": "reader"},
    owns=["v1/Secret", owned("v1/PersistentVolumeClaim", on="members")],
    watches=[watch("v1/ServiceAccount", field="data.account"), watch("v1/Service", to=named_by_label)],
    reachability=["data.place"],
)
async def reader(ctx: Context, cm: dict[str, Any]) -> Result | None:
    """Reads every input that there is; does what ``data.do`` says."""
    with _run("reader", ctx, cm) as key:
        found = _read(ctx, cm)
        do = found["data"].get("do", "")
        name = found["data"].get("account", "")
        found["account"] = (await ctx.get("v1/ServiceAccount", name) or {}).get("secrets") if name else None
        READ[key[1], key[2]] = found
        if do == "delete" and not found["deleting"]:
            await ctx.delete(cm)
        elif do == "delete":
            await ctx.patch(cm, {"metadata": {"finalizers": None}})
        elif do == "give up":
            raise Permanent("never")
        elif do == "fail":
            raise ZeroDivisionError("on purpose")
        elif do == "poll":
            return Result(requeue_after=0.1)
        return None


@controller(
    "v1/ConfigMap",
    labels={"app": "member-reader"},
    owns=["v1/Secret"],
    watches=[
        watch("v1/Secret", on="hub", field="data.secret"),
        watch("v1/ConfigMap", on="hub", labels={"app": "policy"}, to=named_by_label),
    ],
)
async def member_reader(ctx: Context, cm: dict[str, Any]) -> None:
    """In members; reads objects of the hub. With ``data.gate`` it ends when its name is in ``OPEN``."""
    with _run("member-reader", ctx, cm) as key:
        READ[key[1], key[2]] = _read(ctx, cm)
        if (cm.get("data") or {}).get("gate"):
            await _opened(key[2])


@controller(
    "v1/ConfigMap", on="hub", labels={"app": "job-reader"}, watches=[watch("batch.raycp.io/v1alpha1/BatchJob", field="data.job")]
)
async def job_reader(ctx: Context, cm: dict[str, Any]) -> None:
    """Reads a BatchJob of the hub."""
    with _run("job-reader", ctx, cm):
        pass


@controller("v1/Namespace", labels={"app": "space"}, owns=["v1/ConfigMap"])
async def space(ctx: Context, namespace: dict[str, Any]) -> None:
    """A cluster-scoped owner; records its children."""
    with _run("space", ctx, namespace) as key:
        CHILDREN[key[1], key[2]] = sorted(child["metadata"]["name"] for child in ctx.children("v1/ConfigMap"))


@controller(
    "v1/ConfigMap",
    labels={"app": "scribe"},
    watches=[watch("v1/Secret", field="data.secret")],
)
async def scribe(ctx: Context, cm: dict[str, Any]) -> None:
    """Writes into the object of ``data.kind`` that others read too, once."""
    with _run("scribe", ctx, cm):
        data = cm.get("data") or {}
        if data.get("kind") and not (cm["metadata"].get("annotations") or {}).get("written"):
            shared = await ctx.live.get(data["kind"], "shared")
            assert shared is not None
            await ctx.patch(shared, {"metadata": {"annotations": {"written": "true"}}})
            await ctx.patch(cm, {"metadata": {"annotations": {"written": "true"}}})
