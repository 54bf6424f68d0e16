"""The API of one cluster: connect, request, watch, write.

In the order of a request's path: ``connect`` (``ConnectSpec``: how a cluster is reached), ``client_table`` (one client per
cluster), ``credentials`` (loads and renews a ``login``, from a ``kubeconfig`` or ``in_cluster``, with ``exec_credential`` of an
``exec_plugin``, ``oidc``, ``proxies`` and ``tls``), ``client`` (``ClusterClient``: requests and streams; ``remedies`` for a failed
first one), ``objects`` (its calls on objects), ``discovery`` (kinds to resources), ``gate`` (admission by ``breaker`` and
``budget``), ``pool`` (keep-alive connections to a ``target``, opened by ``dialer``, through a proxy by ``tunnel``), ``guard`` (the
fence before a write), ``payload`` (the bytes of a request), ``connection`` (one HTTP/1.1 exchange), ``limits`` (how large answers
may be), ``answers`` (what counts as the server's word), ``codec`` (bytes to ``Obj``; ``salvage`` where one object spoils many),
``pages`` (a list, page by page), ``errors``.

Nothing that a decoder raises leaves this room: bodies, lines and files that cannot be read are a ``KubeError`` (law 12).
"""

from raycp.kube.answers import Status, decode_answer
from raycp.kube.client import ClusterClient
from raycp.kube.connect import ConnectSpec
from raycp.kube.connection import Response
from raycp.kube.discovery import Resource
from raycp.kube.errors import (
    ApiError,
    BadAnswer,
    CircuitOpen,
    ConnectError,
    Fenced,
    KubeError,
    NoSuchKind,
    Throttled,
    Unreachable,
    UnreadableObject,
)
from raycp.kube.guard import WriteGuard, WriteStamp
from raycp.kube.objects import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "ApiError",
    "BadAnswer",
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
    "UnreadableObject",
    "WriteGuard",
    "WriteStamp",
    "decode_answer",
]
