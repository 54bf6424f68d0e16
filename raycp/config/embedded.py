"""``embedded:`` of a cluster: an in-process Kubernetes API server and its simulated controllers, nodes and Pods."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from raycp.config.strict import Strict
from raycp.config.units import Duration, Percent

LoosePath = Annotated[Path, Field(strict=False)]
"""A path, written as text."""


class EmbeddedControllers(Strict):
    """Controllers next to the API server: a fleet runs all of them, ``raycp embedded`` none without ``--life``."""

    gc: bool = True
    """owner garbage collection: background, foreground, orphan"""
    namespace: bool = True
    """empties and removes namespaces that are deleted"""
    serviceaccount: bool = True
    """the ``default`` service account and the ``kube-root-ca.crt`` ConfigMap of each namespace"""
    quota: bool = True
    """counts what each ResourceQuota limits, and refuses what exceeds it"""
    disruption: bool = True
    """keeps the status of PodDisruptionBudgets"""
    scheduler: bool = True
    """binds Pods to nodes by capacity, taints, selectors"""
    stages: bool = True
    """simulates Pods and nodes (kwok's Stage model)"""

    @classmethod
    def none(cls) -> "EmbeddedControllers":
        """The bare API server."""
        return cls(**dict.fromkeys(cls.model_fields, False))


class NodeShape(Strict):
    """Capacity of each simulated node (Kubernetes quantities)."""

    cpu: str = "64"
    """processor cores, such as 64 or 500m"""
    memory: str = "256Gi"
    """memory, such as 256Gi"""
    pods: int = Field(default=1000, ge=1)
    """number of Pods"""
    labels: dict[str, str] = {}
    """its labels, in addition to `kubernetes.io/hostname`"""
    taints: list[dict[str, str]] = []
    """its taints: key, value, effect"""


FaultKind = Literal[
    "latency",
    "tooManyRequests",
    "error",
    "reset",
    "halfOpen",
    "stallWatch",
    "closeWatch",
    "compact",
    "clockSkew",
    "readOnly",
    "rotateCertificate",
    "expireToken",
    "badAnswer",
]

BadAnswerKind = Literal[
    "html",
    "htmlAsJson",
    "redirect",
    "truncated",
    "empty",
    "text",
    "list",
    "nothing",
    "wrongTypes",
    "emptyObject",
    "invalidUtf8",
    "nan",
    "duplicateKeys",
    "deep",
    "huge",
]
"""What ``badAnswer`` answers with (``raycp.embedded.badanswers``)."""


class FaultSpec(Strict):
    """One injected fault: its kind, schedule and affected requests."""

    kind: FaultKind
    """kind of fault"""
    after: Duration = 0.0
    """seconds until it begins, from the cluster's start or from the moment it is set"""
    duration: Duration | None = Field(default=None, alias="for")
    """seconds that it lasts; by default without end (once for compact, rotateCertificate, expireToken)"""
    every: Duration | None = None
    """repeats with this period in seconds, from one begin to the next"""
    probability: Percent = Field(default=1.0, ge=0.0, le=1.0)
    """share of the matching requests that it affects"""
    verbs: list[str] = []
    """get, list, watch, create, update, patch, delete, deletecollection; empty means all"""
    resources: list[str] = []
    """plurals, ``pods`` or ``jobs.batch`` or ``pods/status``; empty means all"""
    status: int = Field(default=500, ge=400, le=599)
    """for ``error``: the HTTP status (500, 503, ...)"""
    retry_after: Duration | None = None
    """for ``tooManyRequests`` and ``error``: the Retry-After header, in whole seconds"""
    latency: Duration = 0.0
    """for ``latency``: the median, in seconds"""
    jitter: Duration = 0.0
    """for ``latency``: with ``uniform``, up to this much more; with ``normal``, the standard deviation"""
    distribution: Literal["constant", "uniform", "normal", "lognormal", "exponential"] = "uniform"
    """for ``latency``: its shape"""
    skew: Duration = 0.0
    """for ``clockSkew``: seconds that the server's clock is ahead"""
    behind: bool = False
    """for ``clockSkew``: behind instead of ahead"""
    answer: BadAnswerKind = "html"
    """for ``badAnswer``: what arrives instead of the API server's answer"""


class EmbeddedSpec(Strict):
    """An embedded cluster. ``{}`` is a working cluster: no nodes needed, all controllers on, a free port."""

    nodes: int = Field(default=0, ge=0, le=100_000)
    """simulated nodes. 0: Pods run without a node and without a limit of capacity"""
    node: NodeShape = NodeShape()
    """capacity of each node"""
    pod_runtime: Duration = Field(default=2.0, ge=0)
    """seconds from Running to Succeeded for Pods that end (restartPolicy Never or OnFailure)"""
    startup_delay: Duration = Field(default=0.0, ge=0)
    """seconds from bound to Running"""
    failure_rate: Percent = Field(default=0.0, ge=0, le=1)
    """share of those Pods that end Failed, drawn with ``seed``"""
    data_dir: LoosePath | None = None
    """directory of its persistent state; without it, state is lost with the process"""
    host: str = "127.0.0.1"
    """address to listen on"""
    port: int = Field(default=0, ge=0, le=65535)
    """port to listen on; 0 picks a free one"""
    seed: int = 0
    """seeds every random choice: failures, delays, faults"""
    rbac: bool = False
    """enforce RBAC; without it, every authenticated user may do everything"""
    stages: list[LoosePath] = []
    """kwok Stage files that replace the built-in ones of the same kinds"""
    faults: list[FaultSpec] = []
    """injected faults"""
    controllers: EmbeddedControllers = EmbeddedControllers()
    """controllers next to the API server"""
    max_body: int = Field(default=3 * 1024 * 1024, ge=1024)
    """largest request body in bytes"""
    history: int = Field(default=20_000, ge=100)
    """watch events kept per resource; the oldest are compacted first"""
    history_bytes: int = Field(default=96 * 1024 * 1024, ge=1024 * 1024)
    """bytes of superseded objects kept for watches and consistent lists, over all resources"""
    gzip: bool = True
    """compress answers above 128 KiB for clients that accept it"""
