"""What the leader asks of Ray, as a protocol of six verbs, and its implementation on Ray."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError, RayTaskError
from ray.util import list_named_actors

from raycp.protocol.members import LEADER, Member
from raycp.protocol.nodes import Node
from raycp.protocol.revisions import base_of
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable

log = logging.getLogger(__name__)

GCS_TIMEOUT = 2.0
_ALIVE = 0


def _certain(error: RayActorError) -> bool:
    text = str(error)
    return (
        isinstance(error, ActorDiedError)
        and "worker process has died" in text
        and "node" not in text.split("Worker exit detail")[0].lower()
    )


class RaySubstrate:
    """Members as detached, named Ray actors in the namespace of one colour of the fleet; embedded clusters live in the fleet's."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._handles: dict[Member, Any] = {}

    def beside(self, namespace: str) -> "RaySubstrate":
        return RaySubstrate(namespace)

    def _home(self, member: Member) -> str:
        return base_of(self.namespace) if member.role == "embedded" else self.namespace

    async def members(self) -> list[Member]:
        try:
            rows = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        except Exception as error:  # Ray's own, and those of its protocol's library
            raise MemberUnavailable(f"Ray does not tell its actors: {_first_line(error)}") from error
        found = [(Member.parse(str(row["name"])), row["namespace"]) for row in rows]
        return [member for member, namespace in found if member is not None and namespace == self._home(member)]

    async def create(self, member: Member, options: dict[str, Any]) -> None:
        from raycp.runtime.actors import actor_class

        def make() -> Any:
            return (
                actor_class(member.role)
                .options(
                    name=member.actor_name,
                    namespace=self._home(member),
                    lifetime="detached",
                    get_if_exists=True,
                    max_restarts=-1 if member.role == "leader" else 0,
                    max_task_retries=0,
                    enable_task_events=False,
                    **options,
                )
                .remote(member.actor_name, self._home(member))
            )

        self._handles[member] = await asyncio.to_thread(make)

    async def _handle(self, member: Member) -> Any:
        handle = self._handles.get(member)
        if handle is None:
            try:
                handle = await asyncio.to_thread(ray.get_actor, member.actor_name, namespace=self._home(member))
            except ValueError as error:
                raise MemberDied(member, "no such actor", certain=False) from error
            self._handles[member] = handle
        return handle

    async def call(self, member: Member, method: str, payload: bytes = b"", timeout: float = 10.0) -> bytes:
        handle = await self._handle(member)
        try:
            async with asyncio.timeout(timeout):
                answer = await handle.ask.remote(method, payload)
        except (TimeoutError, GetTimeoutError) as error:
            raise MemberUnavailable(f"{member} did not answer {method} within {timeout:g} s") from error
        except ActorUnavailableError as error:
            raise MemberUnavailable(f"{member} is not reachable") from error
        except RayActorError as error:
            self._handles.pop(member, None)
            raise MemberDied(member, _first_line(error), _certain(error)) from error
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise MemberFailed(f"{member}: {method}: {_first_line(cause)}") from error
        return bytes(answer)

    async def nodes(self) -> list[Node]:
        try:
            return await asyncio.to_thread(_nodes)
        except Exception as error:  # Ray's own, and those of its protocol's library
            raise MemberUnavailable(f"Ray does not tell its nodes: {_first_line(error)}") from error

    async def request_nodes(self, bundles: list[dict[str, float]]) -> None:
        def request() -> None:
            from ray.autoscaler.sdk import request_resources

            request_resources(bundles=bundles)

        try:
            await asyncio.to_thread(request)
        except Exception as error:
            log.info("Ray's autoscaler was not asked for nodes: %s", error)

    async def kill(self, member: Member) -> None:
        try:
            handle = await self._handle(member)
        except MemberDied:
            return
        await asyncio.to_thread(ray.kill, handle, no_restart=True)
        self._handles.pop(member, None)


def _nodes() -> list[Node]:
    """Ray has no public way to ask which nodes drain; Serve asks in this way, too (serve/_private/cluster_node_info_cache.py)."""
    gcs = ray._private.worker.global_worker.gcs_client
    draining: dict[str, int] = gcs.get_draining_nodes()
    found = []
    for node, info in gcs.get_all_node_info(timeout=GCS_TIMEOUT).items():
        identity = node.hex()
        if info.state == _ALIVE:
            ends_at = draining.get(identity, 0) / 1000
            found.append(
                Node(
                    identity, info.node_manager_address, info.node_manager_port, dict(info.labels), bool(info.is_head_node),
                    identity in draining, ends_at,
                )
            )  # fmt: skip
    return found


def leader_ask(namespace: str) -> Callable[[str, bytes, float], Awaitable[bytes]]:
    """Questions to the fleet's leader, from one of its members."""
    substrate = RaySubstrate(namespace)
    return lambda method, payload, timeout: substrate.call(LEADER, method, payload, timeout)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = [line for line in lines if line.startswith("The actor is dead because")]
    return (detail or lines or [type(error).__name__])[0][:300]
