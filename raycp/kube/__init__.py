"""One cluster's API: connect, ask, watch, write.

In the order in which one meets them: ``connect`` (a ``ConnectSpec`` says how a cluster is reached), ``credentials``
(loads and renews them), ``client`` (``ClusterClient``: requests and streams), ``objects`` (its calls on objects),
``discovery`` (kinds to resources), ``codec`` (bytes to ``Obj``), ``errors``. Beneath the client: ``gate``
(admission), which asks ``breaker`` and ``budget``; ``guard`` (the fence before a write); ``transport`` (the
connection pool) and ``connection`` (one HTTP/1.1 exchange).
"""

from raycp.kube.client import ClusterClient
from raycp.kube.connect import ConnectSpec
from raycp.kube.connection import Response
from raycp.kube.discovery import Resource
from raycp.kube.errors import (
    ApiError,
    CircuitOpen,
    ConnectError,
    Fenced,
    KubeError,
    NoSuchKind,
    Status,
    Throttled,
    Unreachable,
)
from raycp.kube.guard import WriteGuard, WriteStamp
from raycp.kube.objects import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "ApiError",
    "CircuitOpen",
    "ClusterClient",
    "ConnectError",
    "ConnectSpec",
    "Fenced",
    "KubeError",
    "NoSuchKind",
    "Resource",
    "Response",
    "Status",
    "Throttled",
    "Unreachable",
    "WriteGuard",
    "WriteStamp",
]
