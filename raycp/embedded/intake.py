"""What a connection may send before its request is known and allowed: bounds as of Go's ``net/http`` under kube-apiserver, and one
over all connections, since a head costs memory before anybody has shown a credential.
"""

HEAD_LIMIT = 1 << 20
"""bytes of a request line and its headers (``DefaultMaxHeaderBytes``)"""
HEADERS_LIMIT = 1_000
"""headers of a request: each costs many times its bytes"""
HEADS_LIMIT = 64 << 20
"""bytes of all heads that are not complete; beyond it, one above ``SMALL_HEAD`` is refused"""
SMALL_HEAD = 64 << 10
HEAD_SECONDS = 32.0
"""from the first byte of a head, or from the connection, to its last one (``ReadHeaderTimeout``)"""
STRANGER_BODY = 64 << 10
"""bytes of a body that are kept of a client without credentials"""
FRAMING = 8
"""bytes on the wire for each byte of a body: a chunk of one byte takes six"""
WAITING_LIMIT = 64
"""requests that wait on one connection; beyond it nothing more is read"""


class Heads:
    """The incomplete heads of all connections of a server."""

    def __init__(self) -> None:
        self.size = 0

    def too_large(self, own: int) -> bool:
        """Whether a connection whose incomplete head has ``own`` bytes is refused."""
        return own > HEAD_LIMIT or (self.size > HEADS_LIMIT and own > SMALL_HEAD)


class Intake:
    """Counts what one connection sends. A message is its head, then its body."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._head = 0
        self._body_seen = 0
        self.in_body = False
        """whether the head is complete; headers after it are trailers"""
        self._begun = False
        self._turns = 0
        self._before = 0

    @property
    def waiting(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._begun and not self.in_body

    def begun(self) -> None:
        self._begun = True

    def head_complete(self) -> None:
        self._turns += 1
        self.in_body, self._body_seen = True, 0

    def complete(self) -> None:
        self._turns += 1
        self.in_body = self._begun = False

    def before(self) -> None:
        """Before the parser is fed."""
        self._before = self._turns

    def fed(self, size: int, body: int) -> int:
        """After ``size`` bytes; ``body`` of the present message's body are known. The status of a refusal, or 0.

        Bytes that hold the end of a message count as a whole for the next one.
        """
        whole = self._before != self._turns
        if self.in_body:
            self._keep(0)
            self._body_seen = size if whole else self._body_seen + size
            return 400 if self._body_seen > HEAD_LIMIT + FRAMING * body else 0
        if self._begun:
            self._keep(size if whole else self._head + size)
            return 431 if self._heads.too_large(self._head) else 0
        if self._head:
            self._keep(0)
        return 0

    def close(self) -> None:
        self._keep(0)

    def _keep(self, size: int) -> None:
        self._heads.size += size - self._head
        self._head = size
