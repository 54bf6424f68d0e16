"""The controller under test: a ConfigMap labelled ``bench=work`` is the workload, its Pod of the same name the
effect.
"""

import asyncio
from typing import Any

from raycp.sdk import Context, controller

LABEL = "bench"
WORK_MS = "bench.raycp.io/work-ms"
"""Annotation: milliseconds that the reconciler sleeps, standing for work."""


def pod_for(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """The Pod that the workload ``name`` becomes. It stays Pending on clusters without nodes."""
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


@controller("v1/ConfigMap", name="bench", labels={LABEL: "work"}, owns=["v1/Pod"])
async def bench(ctx: Context, configmap: dict[str, Any]) -> None:
    """Do the work that the annotation asks for, then make the Pod if it is not there."""
    work = (configmap["metadata"].get("annotations") or {}).get(WORK_MS)
    if work:
        await asyncio.sleep(float(work) / 1000)
    if not ctx.children("v1/Pod"):
        await ctx.create(pod_for(configmap["metadata"]["name"]))
