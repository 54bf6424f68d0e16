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


MARKED: Counter[tuple[str, str]] = Counter()
"""(cluster, name) of each Gadget that was marked."""


@controller("example.com/v1/Gadget")
async def gadgets(ctx: Context, gadget: dict[str, Any]) -> None:
    """Marks the object by a write."""
    if "seen" not in (gadget["metadata"].get("annotations") or {}):
        await ctx.patch(gadget, {"metadata": {"annotations": {"seen": "yes"}}})
        MARKED[ctx.cluster.name, ctx.request.name] += 1


def gadget_crd(plural: str = "gadgets", scope: str = "Namespaced", version: str = "v1") -> dict[str, Any]:
    """A CRD of the kind; only its plural, scope and version may differ."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": scope,
            "names": {"plural": plural, "kind": "Gadget"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
