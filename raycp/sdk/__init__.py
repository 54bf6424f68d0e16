"""What an author of a controller touches.

In the order in which one meets them:

- ``controller``: the decorator, and the ``Controller`` that it makes; ``owned`` for children in other clusters;
- ``Context`` (``SyncContext`` for plain functions): reads, writes, events, log of one reconcile;
- ``Result``, ``Retry``, ``Permanent``: what a reconciler says at its end;
- ``conditions``, ``finalizers``, ``owner``: the conventions that every controller needs;
- ``crd``: a CustomResourceDefinition from a pydantic model.

And what a worker touches: ``Backend``, the seam below a ``Context``; ``run_reconcile``, from ``Task`` to ``Done``;
``Running``, to revoke it; ``load_controllers``; ``EventRecorder``.

Importing this is light: no Kubernetes client, no pydantic, no Ray (``crd`` brings pydantic and is imported by name).
"""

from raycp.kube.errors import ApiError, Fenced, NoSuchKind, Unreachable
from raycp.sdk import conditions, finalizers
from raycp.sdk.backend import Answer, Backend, CacheRead, Call, ClusterInfo
from raycp.sdk.context import ALL, Context, Request
from raycp.sdk.controller import Controller, DefinitionError, Owned, controller, owned
from raycp.sdk.event_recorder import EventRecorder
from raycp.sdk.finalizers import finalizer
from raycp.sdk.loader import LoadError, load_controllers
from raycp.sdk.results import Permanent, Result, Retry
from raycp.sdk.run import DEFAULT_TIMEOUT, run_reconcile
from raycp.sdk.session import Revoked, Running
from raycp.sdk.sync import SyncContext

__all__ = [
    "ALL",
    "DEFAULT_TIMEOUT",
    "Answer",
    "ApiError",
    "Backend",
    "CacheRead",
    "Call",
    "ClusterInfo",
    "Context",
    "Controller",
    "DefinitionError",
    "EventRecorder",
    "Fenced",
    "LoadError",
    "NoSuchKind",
    "Owned",
    "Permanent",
    "Request",
    "Result",
    "Retry",
    "Revoked",
    "Running",
    "SyncContext",
    "Unreachable",
    "conditions",
    "controller",
    "finalizer",
    "finalizers",
    "load_controllers",
    "owned",
    "run_reconcile",
]
