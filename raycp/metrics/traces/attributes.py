"""The names of attributes: OpenTelemetry's where there are some (semantic conventions of Kubernetes and HTTP), ``raycp.*`` else."""

from raycp.base.keys import RequestKey

Attributes = dict[str, str | int | float | bool]


def object_attributes(key: RequestKey, kind: str, change: str) -> Attributes:
    """Of every span but those of requests: what is reconciled, and why. ``kind``: as it is written, ``batch/v1/Job``."""
    found: Attributes = {
        "raycp.change": change,
        "raycp.controller": key.controller,
        "raycp.kind": kind,
        "raycp.name": key.name,
        "k8s.cluster.name": key.cluster,
    }
    if key.namespace:
        found["k8s.namespace.name"] = key.namespace
    return found
