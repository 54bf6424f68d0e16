"""A kind that is deleted and made anew under another path: what a worker knows of it is an input like any other (law 13)."""

from typing import Any

import fleet_samples as samples
from inprocess import Stack, fleet_doc, until

from raycp.config.embedded import FaultSpec

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def crd(plural: str, scope: str) -> dict[str, Any]:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    names = {"plural": plural, "singular": plural.removesuffix("s"), "kind": "Widget"}
    spec = {"group": "example.com", "scope": scope, "names": names, "versions": [version]}
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return {**kind, "metadata": {"name": f"{plural}.example.com"}, "spec": spec}


async def annotated(fleet: Stack, plural: str, namespace: str, name: str) -> None:
    """Create an object of that resource, and wait until its controller has patched it."""
    api = fleet.clusters["here"].api
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    resource = f"{plural}.example.com"
    await until(lambda: (api.get(CRDS, "", resource) or {}).get("status", {}).get("conditions"))
    await api.create(resource, {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": meta})

    def seen() -> Any:
        found = api.get(resource, namespace, name)
        return found is not None and (found["metadata"].get("annotations") or {}).get("seen")

    await until(seen, 30.0, f"{plural} {name} is patched")


async def test_a_worker_finds_a_kind_again_that_was_made_anew_with_another_plural_and_scope() -> None:
    samples.reset()
    fleet = Stack(fleet_doc(["here"], ["fleet_samples:widget"]), {"here": "0"})
    try:
        await fleet.start(1, {})
        api = fleet.clusters["here"].api
        await api.create(CRDS, crd("widgets", "Namespaced"))
        await fleet.synced()
        await annotated(fleet, "widgets", "default", "first")
        await api.delete(CRDS, "", "widgets.example.com")
        await until(lambda: api.get(CRDS, "", "widgets.example.com") is None)
        await api.create(CRDS, crd("gadgets", "Cluster"))
        # The shard watches the new path; what the worker knows is of no concern to it.
        fleet.clusters["here"].faults.add(FaultSpec.model_validate({"kind": "closeWatch", "for": "100ms"}))
        await annotated(fleet, "gadgets", "", "second")
    finally:
        await fleet.stop()
