"""Listeners and calls of channels without members' cores."""

from collections.abc import Container

from inprocess import HOST

from raycp.protocol.certificate import ChannelCertificate
from raycp.protocol.channels import Address, ChannelCredentials, Listener, dial
from raycp.protocol.channels.listener import Accept
from raycp.protocol.channels.strangers import Strangers
from raycp.protocol.frames import Hello
from raycp.protocol.transport import Connection, Peer

SECRET = "secret"


class Everyone(Container[str]):
    """A plan that names every member."""

    def __contains__(self, name: object) -> bool:
        return True


EVERYONE = Everyone()


def credentials(
    member: str, members: Container[str] = EVERYONE, secret: str = SECRET, certificate: ChannelCertificate | None = None
) -> ChannelCredentials:
    """Those of ``member``, which accepts ``members``."""
    made = ChannelCredentials(member)
    made.learn(secret, members, certificate)
    return made


async def listening(
    accept: Accept,
    member: str = "m",
    *,
    members: Container[str] = EVERYONE,
    host: str = HOST,
    strangers: Strangers | None = None,
    certificate: ChannelCertificate | None = None,
) -> Listener:
    """The open port of ``member``."""
    made = Listener(credentials(member, members, certificate=certificate), accept, strangers)
    await made.open(host)
    return made


async def called(listener: Listener, hello: Hello, peer: Peer, member: str = "m") -> Connection:
    """A connection to ``member`` that has said ``Hello``."""
    connection = await dial(Address(HOST, listener.port, member), hello.role, credentials(hello.member), peer)
    connection.send(hello)
    return connection
