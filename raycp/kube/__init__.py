"""The API of one cluster: connect, request, watch, write.

In the order of a request's path: ``connect`` (``ConnectSpec``: how a cluster is reached), ``credentials`` (loads and renews them,
from ``kubeconfig`` files or a Pod, with ``tls``), ``client`` (``ClusterClient``: requests and streams; ``remedies`` for a failed
first one), ``objects`` (its calls on objects), ``discovery`` (kinds to resources), ``gate`` (admission by ``breaker`` and
``budget``), ``pool`` (keep-alive connections to a ``target``, opened by ``dialer``), ``guard`` (the fence before a write),
``connection`` (one HTTP/1.1 exchange), ``codec`` (bytes to ``Obj``), ``errors``.
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
