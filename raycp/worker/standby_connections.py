"""Connections to the standbys of all shards, made and authenticated before a switch: at the switch, ``Hello`` goes out at once."""

import asyncio
import contextlib

from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.protocol.channels import Address, ChannelCredentials, dial
from raycp.protocol.frames import Message
from raycp.protocol.members import Role
from raycp.protocol.plan import Plan
from raycp.protocol.transport import Connection

RECONNECT_MIN = 0.1
RECONNECT_MAX = 5.0


class StandbyConnections:
    """One worker's, on its actor loop: one for each standby of the active fleet's plan."""

    def __init__(self, credentials: ChannelCredentials, loops: Loops) -> None:
        self._credentials = credentials
        self._loops = loops
        self._known: dict[str, _StandbyConnection] = {}

    def update(self, plan: Plan) -> None:
        """Keep a connection to each standby of ``plan``. While this fleet is itself a standby, the links use all there are."""
        primaries = {shard.member for shard in plan.shards}
        standbys = plan.standbys if plan.following is None else ()
        addresses = [Address(each.host, each.port, each.member) for each in standbys if each.port]
        wanted = {address.member: address for address in addresses if address.member not in primaries}
        for member, known in list(self._known.items()):
            if wanted.get(member) != known.address:
                self._known.pop(member).close()
        for member, address in wanted.items():
            if member not in self._known:
                self._known[member] = _StandbyConnection(address, self._credentials, self._loops)

    def take(self, member: str) -> Connection | None:
        """The connection to that standby, which is the caller's now; None where there is none."""
        known = self._known.pop(member, None)
        return known.take() if known is not None else None

    def ready(self) -> list[str]:
        """The standbys to which there is a connection."""
        return [member for member, known in self._known.items() if known.connected]

    def cut(self) -> None:
        """Reset all of them, as the death of this process would."""
        for known in self._known.values():
            known.cut()


class _StandbyConnection:
    """Connects until there is a connection, and again when it is lost."""

    def __init__(self, address: Address, credentials: ChannelCredentials, loops: Loops) -> None:
        self.address = address
        self._credentials = credentials
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        owner = ProblemOwner(peer=address.member)
        self._task = loops.supervise(self._keep, LoopName.STANDBY_LINK, owner, most=RECONNECT_MAX)

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    async def _keep(self) -> None:
        wait = RECONNECT_MIN
        while True:
            self._lost.clear()
            with contextlib.suppress(OSError, TimeoutError):
                self._connection = await dial(self.address, Role.WORKER, self._credentials, self)
                wait = RECONNECT_MIN
                await self._lost.wait()
            self._connection = None
            await asyncio.sleep(wait)
            wait = min(RECONNECT_MAX, wait * 2)

    def received(self, message: Message) -> None:
        """Nothing is expected before ``Hello`` but a refusal, after which the connection is closed."""

    def lost(self) -> None:
        self._lost.set()

    def take(self) -> Connection | None:
        self._task.cancel()
        connection, self._connection = self._connection, None
        return connection if connection is not None and not connection.closed else None

    def close(self) -> None:
        self._task.cancel()
        if self._connection is not None:
            self._connection.abandon()

    def cut(self) -> None:
        self._task.cancel()
        if self._connection is not None:
            self._connection.abort()
