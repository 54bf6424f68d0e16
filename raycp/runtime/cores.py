"""From a member's name to its core, running in this process: what an actor's shell hosts."""

import importlib
import os
import secrets
import signal
import socket
from typing import Any

import ray

from raycp.base.clock import SystemClock
from raycp.protocol.members import Member, Role
from raycp.runtime.ray_substrate import RaySubstrate, leader_ask

_CORES = {
    Role.SHARD: "raycp.shard.core:ShardCore",
    Role.STANDBY: "raycp.shard.core:ShardCore",
    Role.WORKER: "raycp.worker.core:WorkerCore",
    Role.OBSERVER: "raycp.observer.core:ObserverCore",
    Role.EMBEDDED: "raycp.runtime.embedded:EmbeddedCore",
}


def make_core(member: Member, namespace: str) -> Any:
    """The core of ``member``; the leader's is started. Imports only the room of its role."""
    node_id = str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
    if member.role is Role.LEADER:
        return _leader(namespace, node_id)
    module, name = _CORES[member.role].split(":")
    make = getattr(importlib.import_module(module), name)
    asks = {"ask": leader_ask(namespace)} if member.role in (Role.SHARD, Role.STANDBY, Role.WORKER) else {}
    core = make(member, SystemClock(), ray.util.get_node_ip_address(), socket.gethostname(), **asks)
    core.node_id = node_id
    return core


def _leader(namespace: str, node_id: str) -> Any:
    from raycp.leader.core import LeaderCore

    def leave() -> None:
        os.kill(os.getpid(), signal.SIGKILL)  # any orderly end of an actor's process is final for Ray

    identity = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"
    core = LeaderCore(RaySubstrate(namespace), SystemClock(), identity, node_id, leave)
    core.start()
    return core
