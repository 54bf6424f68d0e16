"""The controller under test: a ConfigMap labelled ``bench=work`` is the workload, its Pod of the same name the effect."""

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

from raycp.sdk import Context, controller

LABEL = "bench"
WORK_MS = "bench.raycp.io/work-ms"
"""Annotation: milliseconds that the reconciler sleeps in place of work."""


DEADLY = "bench.raycp.io/deadly"
"""Annotation: how the reconciler ends the process of its worker: ``exit`` (``os._exit``), ``gil`` (a regular expression that holds
the interpreter), ``block`` (a call that blocks its event loop)."""

DEATHS = "RAYCP_BENCH_DEATHS"
"""Environment: a file to which each reconcile of a deadly object appends a line before it does so."""

MARK = "RAYCP_BENCH_MARK"
"""Environment: a file to which each worker process appends the time (``time.monotonic``) of its first reconcile, the end of
ramp-up."""

_marked = False


def _mark() -> None:
    global _marked
    _marked = True
    if path := os.environ.get(MARK):
        with Path(path).open("a") as file:
            file.write(f"{time.monotonic()}\n")


def pod_for(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """The Pod of the workload ``name``. It stays Pending on clusters without nodes."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {LABEL: "work"}},
        "spec": {
            "containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
        },
    }


def _die(how: str) -> None:
    if path := os.environ.get(DEATHS):
        with Path(path).open("a") as file:
            file.write(f"{os.getpid()}\n")
    if how == "exit":
        os._exit(3)
    elif how == "gil":
        re.match(r"(a+)+$", "a" * 64 + "b")
    else:
        time.sleep(3600.0)


@controller("v1/ConfigMap", name="bench", labels={LABEL: "work"}, owns=["v1/Pod"])
async def bench(ctx: Context, configmap: dict[str, Any]) -> None:
    """Do the work that the annotation specifies, then create the Pod if it does not exist."""
    if not _marked:
        _mark()
    annotations = configmap["metadata"].get("annotations") or {}
    if how := annotations.get(DEADLY):
        _die(how)
    work = annotations.get(WORK_MS)
    if work:
        await asyncio.sleep(float(work) / 1000)
    if not ctx.children("v1/Pod"):
        await ctx.create(pod_for(configmap["metadata"]["name"]))
