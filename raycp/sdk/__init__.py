"""What an author of a controller uses.

In the order in which one meets them:

- ``controller``: the decorator, and the ``Controller`` that it makes; ``owned`` for children in other clusters;
- ``watches``: ``watch``, for kinds that a reconciler reads; ``definition``: what declarations are made of;
- ``context``, ``sync``: ``Context`` (``SyncContext`` for plain functions): one reconcile's reads, ``writes``, ``live`` reads,
  events and log;
- ``results``: ``Result``, ``Retry``, ``Permanent``: how a reconciler ends;
- ``conditions``, ``finalizers``, ``owner``, ``foreign``: the conventions that every controller needs;
- ``crd``: a CustomResourceDefinition from a pydantic model.

What a worker uses, in the order of a task's path:

- ``loader``: ``load_controllers``;
- ``session``: ``Session``, one run of a controller on a task, to be revoked by its maker;
- ``run``: ``run_reconcile``, from ``Session`` to ``Done``; ``outcome`` for what the function returned or raised;
  ``map_functions`` for the map function of a watch;
- ``backend``: ``Backend``, the seam below a ``Context``; ``event_recorder``: ``EventRecorder``.

Importing this is light: no Kubernetes client, no pydantic, no Ray (``crd`` brings pydantic and is imported by name).
"""

from raycp.base.selections import ALL
from raycp.kube.errors import ApiError, Fenced, NoSuchKind, Unreachable
from raycp.sdk import conditions, finalizers
from raycp.sdk.backend import Answer, ApiRequest, Backend, CacheRead, ClusterInfo
from raycp.sdk.context import Context, ReconcileRequest
from raycp.sdk.controller import Controller, OwnedKind, controller, owned
from raycp.sdk.definition import DefinitionError
from raycp.sdk.event_recorder import EventRecorder
from raycp.sdk.finalizers import finalizer
from raycp.sdk.loader import ControllerLoadError, load_controllers
from raycp.sdk.owner import Ownership
from raycp.sdk.results import Permanent, Result, Retry
from raycp.sdk.run import DEFAULT_TIMEOUT, run_reconcile
from raycp.sdk.session import Revoked, Session
from raycp.sdk.sync import SyncContext
from raycp.sdk.watches import ObjectKey, WatchedKind, watch

__all__ = [
    "ALL",
    "DEFAULT_TIMEOUT",
    "Answer",
    "ApiError",
    "ApiRequest",
    "Backend",
    "CacheRead",
    "ClusterInfo",
    "Context",
    "Controller",
    "ControllerLoadError",
    "DefinitionError",
    "EventRecorder",
    "Fenced",
    "NoSuchKind",
    "ObjectKey",
    "OwnedKind",
    "Ownership",
    "Permanent",
    "ReconcileRequest",
    "Result",
    "Retry",
    "Revoked",
    "Session",
    "SyncContext",
    "Unreachable",
    "WatchedKind",
    "conditions",
    "controller",
    "finalizer",
    "finalizers",
    "load_controllers",
    "owned",
    "run_reconcile",
    "watch",
]
