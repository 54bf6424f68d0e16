"""``ChannelCredentials``: what a member proves itself with, and whom it accepts, as its newest plan says."""

import socket
import ssl
from collections.abc import Container

from raycp.protocol.certificate import ChannelCertificate
from raycp.protocol.channels.tls import caller_context, receiver_context
from raycp.protocol.plan import Plan


class ChannelCredentials:
    """One member's; ``member`` is its actor's name. Before the first ``update`` nobody is accepted."""

    def __init__(self, member: str) -> None:
        self.member = member
        self.secret = ""
        self.members: Container[str] = ()
        """Actors' names of the members that are accepted."""
        self._certificate: ChannelCertificate | None = None
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None

    def update(self, plan: Plan) -> None:
        """Take over the secret, the certificate and the members of ``plan``."""
        self.learn(plan.token, plan.callers(), plan.certificate)

    def learn(self, secret: str, members: Container[str], certificate: ChannelCertificate | None = None) -> None:
        """See ``update``."""
        self.secret, self.members = secret, members
        if certificate != self._certificate:
            self._certificate = certificate
            self._contexts = (caller_context(certificate), receiver_context(certificate)) if certificate is not None else None

    def caller_tls(self, connected: socket.socket) -> ssl.SSLContext | None:
        """The TLS that a call over this connection needs; None on one node. Raises ``OSError`` where there is no certificate."""
        return None if on_one_node(connected) else self._between_nodes()[0]

    def receiver_tls(self, connected: socket.socket) -> ssl.SSLContext | None:
        """As ``caller_tls``, for the receiver."""
        return None if on_one_node(connected) else self._between_nodes()[1]

    def _between_nodes(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        if self._contexts is None:
            raise OSError("the fleet's plan has no certificate for connections between nodes")
        return self._contexts


def on_one_node(connected: socket.socket) -> bool:
    """Whether both ends of a connection are on this node. Both see the same: the kernel gives a connection to one of its own
    addresses that address for both ends, and no other node has it."""
    return bool(connected.getsockname()[0] == connected.getpeername()[0])
