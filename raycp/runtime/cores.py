"""From a member's name to its core, running in this process: what an actor's shell hosts."""

import importlib
import os
import secrets
import signal
import socket
from typing import Any

import ray

from raycp.base.clock import SystemClock
from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.members import Member, Role
from raycp.queueing.protocol import QueueFactory
from raycp.runtime.ray_substrate import RaySubstrate, leader_ask

_CORES = {
    Role.SHARD: "raycp.shard.core:ShardCore",
    Role.STANDBY: "raycp.shard.core:ShardCore",
    Role.WORKER: "raycp.worker.core:WorkerCore",
    Role.OBSERVER: "raycp.observer.core:ObserverCore",
    Role.EMBEDDED: "raycp.runtime.embedded:EmbeddedCore",
}

QUEUE = "RAYCP_QUEUE"
"""Environment variable of the fleet's actors: ``module:factory`` of the queue that shards use instead of ``WorkQueue``."""


def make_core(member: Member, namespace: str, recorder: FlightRecorder) -> Any:
    """The core of ``member``; the leader's is started. Imports only the room of its role."""
    node_id = str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
    if member.role is Role.LEADER:
        return _leader(namespace, node_id, recorder)
    module, name = _CORES[member.role].split(":")
    make = getattr(importlib.import_module(module), name)
    parts: dict[str, Any] = {"ask": leader_ask(namespace)} if member.role is not Role.EMBEDDED else {}
    if member.role in (Role.SHARD, Role.STANDBY) and (queue := queue_factory(os.environ.get(QUEUE, ""))) is not None:
        parts["queue"] = queue
    if member.role is Role.WORKER:
        parts["alarm"] = importlib.import_module("raycp.worker.gil_alarm").GilAlarm()
    core = make(member, SystemClock(), ray.util.get_node_ip_address(), socket.gethostname(), recorder=recorder, **parts)
    core.node_id = node_id
    return core


def queue_factory(name: str) -> QueueFactory | None:
    """The factory that ``name`` (``module:factory``) means; None for an empty name. Raises ``ValueError`` if there is none."""
    if not name:
        return None
    module, _, factory = name.partition(":")
    try:
        found: QueueFactory = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{QUEUE}={name}: no such queue factory ({error}); give module:factory") from error
    return found


def _leader(namespace: str, node_id: str, recorder: FlightRecorder) -> Any:
    from raycp.leader.core import LeaderCore

    def leave() -> None:
        recorder.flush()
        os.kill(os.getpid(), signal.SIGKILL)  # any orderly end of an actor's process is final for Ray

    identity = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"
    core = LeaderCore(RaySubstrate(namespace), SystemClock(), identity, node_id, leave, recorder)
    core.start()
    return core
