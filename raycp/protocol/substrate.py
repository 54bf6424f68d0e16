"""Where members live, as the leader and the driver see it: a protocol, implemented by Ray and, for tests, in one process."""

from typing import Any, Protocol

from raycp.protocol.members import Member
from raycp.protocol.nodes import Node


class MemberDied(Exception):
    """The member's process is gone. ``certain`` where its raylet reported the process's exit (law 6f)."""

    def __init__(self, member: Member, reason: str, certain: bool) -> None:
        super().__init__(f"{member} died: {reason}")
        self.member = member
        self.reason = reason
        self.certain = certain


class MemberUnavailable(Exception):
    """No answer: the member may live or not."""


class MemberFailed(Exception):
    """The member answered with an error of its own."""


class Substrate(Protocol):
    """Where members live. Payloads and answers are msgpack bytes."""

    namespace: str

    async def members(self) -> list[Member]:
        """All members alive or starting. Raises ``MemberUnavailable`` where Ray does not answer."""
        ...

    async def create(self, member: Member, options: dict[str, Any]) -> None:
        """Start the member's process; idempotent. ``options`` are Ray actor options (num_cpus, runtime_env ...)."""
        ...

    async def call(self, member: Member, method: str, payload: bytes = b"", timeout: float = 10.0) -> bytes:
        """Ask a member. Raises ``MemberDied``, ``MemberUnavailable`` or ``MemberFailed``."""
        ...

    async def kill(self, member: Member) -> None:
        """End the member's process now; idempotent."""
        ...

    async def nodes(self) -> list[Node]:
        """All nodes that live, as far as Ray knows. Raises ``MemberUnavailable`` where Ray does not answer."""
        ...

    async def request_nodes(self, bundles: list[dict[str, float]]) -> None:
        """Tell Ray's autoscaler, where there is one, what all workers together need."""
        ...

    def beside(self, namespace: str) -> "Substrate":
        """The same for the fleet's other colour (``raycp.protocol.revisions``)."""
        ...
