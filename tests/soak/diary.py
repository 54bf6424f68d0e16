"""The controller of the soak: a Secret with the same number for each ConfigMap, and a log of begin and end of each reconcile."""

import asyncio
import base64
import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from raycp import Context, controller


def note(file: str, **entry: Any) -> None:
    """Append one line. Lines of several processes do not mix: O_APPEND and a single write."""
    line = json.dumps({"at": time.clock_gettime(time.CLOCK_BOOTTIME), "pid": os.getpid(), **entry}).encode() + b"\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _entry(ctx: Context, seen: str) -> Iterator[None]:
    key = f"{ctx.cluster.name}/{ctx.request.namespace}/{ctx.request.name}"
    name = f"{os.getpid()}-{time.monotonic_ns()}"
    file = ctx.config["diary"]
    note(file, what="begin", key=key, id=name, n=seen)
    try:
        yield
    finally:
        note(file, what="end", key=key, id=name)


@controller("v1/ConfigMap", labels={"app": "diary"}, owns=["v1/Secret"])
async def diary(ctx: Context, cm: dict[str, Any]) -> None:
    """Copy ``data.n`` of the ConfigMap to ``data.n`` of its Secret. Takes some milliseconds, like a real reconcile."""
    wanted = str((cm.get("data") or {}).get("n", ""))
    with _entry(ctx, wanted):
        await asyncio.sleep(0.005)
        data = {"n": base64.b64encode(wanted.encode()).decode()}
        found = ctx.children("v1/Secret")
        if not found:
            name, namespace = cm["metadata"]["name"], cm["metadata"]["namespace"]
            child = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}
            await ctx.create(ctx.own(child))
        elif found[0].get("data") != data:
            await ctx.patch(found[0], {"data": data})
