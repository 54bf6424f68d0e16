"""Where members live, as the leader and the driver see it: a protocol, implemented by Ray and, for tests, in one process."""

from typing import Any, Protocol, TypeVar

from raycp.protocol.control import ControlError, ErrorCode, Question
from raycp.protocol.control.codec import decode_answer
from raycp.protocol.members import Member
from raycp.protocol.nodes import Node

A = TypeVar("A")


class MemberDied(Exception):
    """The member's process is dead. ``certain`` where its raylet reported the process's exit (law 6f)."""

    def __init__(self, member: Member, reason: str, certain: bool) -> None:
        super().__init__(f"{member} died: {reason}")
        self.member = member
        self.reason = reason
        self.certain = certain


class MemberUnavailable(Exception):
    """No answer: the member may live or not."""


class MemberFailed(Exception):
    """The member answered with a failure; ``code`` says which."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INTERNAL) -> None:
        super().__init__(message)
        self.code = code


def answer_of(member: Member, question: Question[A], raw: bytes) -> A:
    """The answer of ``member``, from its bytes. Raises ``MemberFailed``."""
    try:
        return decode_answer(question, raw)
    except ControlError as error:
        raise MemberFailed(f"{member}: {type(question).__name__}: {error}", error.code) from error


class LeaderAsk(Protocol):
    """Asks the leader, from one of its members. Raises ``MemberDied``, ``MemberUnavailable`` or ``MemberFailed``."""

    async def __call__(self, question: Question[A], timeout: float) -> A: ...


class Substrate(Protocol):
    """Where members live."""

    namespace: str

    async def members(self) -> list[Member]:
        """All members alive or starting. Raises ``MemberUnavailable`` where Ray does not answer."""
        ...

    async def create(self, member: Member, options: dict[str, Any]) -> None:
        """Start the member's process; idempotent. ``options`` are Ray actor options (num_cpus, runtime_env ...)."""
        ...

    async def ask(self, member: Member, question: Question[A], timeout: float = 10.0) -> A:
        """Ask a member; ``timeout`` in seconds. Raises ``MemberDied``, ``MemberUnavailable`` or ``MemberFailed``."""
        ...

    async def kill(self, member: Member) -> None:
        """End the member's process now; idempotent."""
        ...

    async def nodes(self) -> list[Node]:
        """All live nodes, as far as Ray knows. Raises ``MemberUnavailable`` where Ray does not answer."""
        ...

    async def request_nodes(self, bundles: list[dict[str, float]]) -> None:
        """Request from Ray's autoscaler, where there is one, what all workers together need."""
        ...

    async def remember(self, note: bytes | None) -> None:
        """Keep ``note`` for later leaders of this fleet, where it outlives all members; None: there is nothing to keep any more.
        Raises ``MemberUnavailable`` where it could not be kept."""
        ...

    async def recall(self) -> bytes | None:
        """The note that was kept last; None for none. Raises ``MemberUnavailable`` while that is not known."""
        ...

    def beside(self, namespace: str) -> "Substrate":
        """The same for the fleet's other revision (``raycp.protocol.revisions``)."""
        ...
