"""The members of a fleet as Ray actors: the implementation of ``Substrate``."""

import asyncio
import logging
from typing import Any, TypeVar

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError, RayTaskError
from ray.util import list_named_actors

from raycp.protocol.control import ErrorCode, Question
from raycp.protocol.control.codec import encode_question, first_line
from raycp.protocol.members import LEADER, Member, Role
from raycp.protocol.nodes import Node
from raycp.protocol.revisions import base_of
from raycp.protocol.substrate import LeaderAsk, MemberDied, MemberFailed, MemberUnavailable, answer_of
from raycp.runtime.actors import actor_class
from raycp.runtime.notes import keep_note, read_note

log = logging.getLogger(__name__)

GCS_TIMEOUT = 2.0
_ALIVE = 0

A = TypeVar("A")


def _certain(error: RayActorError) -> bool:
    text = str(error)
    return (
        isinstance(error, ActorDiedError)
        and "worker process has died" in text
        and "node" not in text.split("Worker exit detail")[0].lower()
    )


class RaySubstrate:
    """Members as detached, named Ray actors, in the namespace of one revision of the fleet; embedded clusters: in the fleet's."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._handles: dict[Member, Any] = {}

    def beside(self, namespace: str) -> "RaySubstrate":
        return RaySubstrate(namespace)

    def _home(self, member: Member) -> str:
        return base_of(self.namespace) if member.role is Role.EMBEDDED else self.namespace

    async def members(self) -> list[Member]:
        try:
            rows = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        except Exception as error:  # Ray's own, and those of its protocol's library
            raise MemberUnavailable(f"Ray does not list its actors: {first_line(error)}") from error
        found = [(Member.parse(str(row["name"])), row["namespace"]) for row in rows]
        return [member for member, namespace in found if member is not None and namespace == self._home(member)]

    async def create(self, member: Member, options: dict[str, Any]) -> None:
        def make() -> Any:
            return (
                actor_class(member.role)
                .options(
                    name=member.actor_name,
                    namespace=self._home(member),
                    lifetime="detached",
                    get_if_exists=True,
                    max_restarts=-1 if member.role is Role.LEADER else 0,
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

    async def ask(self, member: Member, question: Question[A], timeout: float = 10.0) -> A:
        handle, name = await self._handle(member), type(question).__name__
        try:
            answer = handle.answer
        except AttributeError as error:
            raise MemberFailed(
                f"{member} runs an older release of raycp, whose control messages this one does not speak: "
                "take the fleet down with that release, and bring it up with this one",
                ErrorCode.INCOMPATIBLE_VERSION,
            ) from error
        try:
            async with asyncio.timeout(timeout):
                raw = await answer.remote(encode_question(question))
        except (TimeoutError, GetTimeoutError) as error:
            raise MemberUnavailable(f"{member} did not answer {name} within {timeout:g} s") from error
        except ActorUnavailableError as error:
            raise MemberUnavailable(f"{member} is not reachable") from error
        except RayActorError as error:
            self._handles.pop(member, None)
            raise MemberDied(member, _death(error), _certain(error)) from error
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise MemberFailed(f"{member}: {name}: {first_line(cause)}") from error
        return answer_of(member, question, bytes(raw))

    async def nodes(self) -> list[Node]:
        try:
            return await asyncio.to_thread(_nodes)
        except Exception as error:  # Ray's own, and those of its protocol's library
            raise MemberUnavailable(f"Ray does not list its nodes: {first_line(error)}") from error

    async def request_nodes(self, bundles: list[dict[str, float]]) -> None:
        def request() -> None:
            from ray.autoscaler.sdk import request_resources

            request_resources(bundles=bundles)

        try:
            await asyncio.to_thread(request)
        except Exception as error:
            log.info("Ray's autoscaler was not asked for nodes: %s", error)

    async def remember(self, note: bytes | None) -> None:
        await keep_note(self.namespace, note)

    async def recall(self) -> bytes | None:
        return await read_note(self.namespace)

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


def leader_ask(namespace: str) -> LeaderAsk:
    """Questions to the fleet's leader, from one of its members."""
    substrate = RaySubstrate(namespace)

    async def ask(question: Question[A], timeout: float) -> A:
        return await substrate.ask(LEADER, question, timeout)

    return ask


def _death(error: RayActorError) -> str:
    """The line of Ray's account that says why the actor is dead."""
    lines = [line.strip() for line in str(error).splitlines()]
    detail = [line for line in lines if line.startswith("The actor is dead because")]
    return detail[0][:300] if detail else first_line(error)
