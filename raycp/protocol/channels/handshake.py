"""The mutual challenge with which a channel begins: either end proves that it knows the fleet's secret, and neither sends it.

```
caller                                                        receiver
  Opening(member, role, target, nonce)  ------------------->
                                        <-------------------  Challenge(nonce, proof)
  CallerProof(proof)                    ------------------->
  Hello, ...
```

A proof is an HMAC, keyed by the secret, of the side that gives it, the channel's role, both names and both nonces. So

1. the caller sends nothing of worth before the receiver has proven itself: a process that took a dead member's port learns a name
   and a nonce;
2. no proof is of use in another connection, in the other direction, for another role, or to another member: a receiver proves
   only its own name, and names are never used again.

Pure: no I/O, no time. Frames are those of ``connection``, of at most ``MAX_FIRST`` bytes, and no other message is decoded here.
"""

import hmac
import secrets
from hashlib import sha256

import msgspec

from raycp.base.protocol_version import PROTOCOL, IncompatibleVersion, check_protocol
from raycp.base.text import clean
from raycp.protocol.frames import Refusal, RefusalCode

MAX_FIRST = 4096
"""Bytes of the largest frame before both ends are authenticated: nobody who does not know the secret fills our memory."""

NONCE = 32
_NAME = 300
"""Characters of a name; Ray takes longer ones for no actor of ours."""


class NotAuthenticated(ValueError):
    """The other end is no member of this fleet, or is not the member that was called. Holds nothing that it sent in full."""

    def __init__(self, message: str, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal
        """What the other end is told, if anything."""


class Opening(msgspec.Struct, tag="opening", array_like=True, frozen=True):
    """First frame of a channel: ``member`` calls ``target`` (actors' names), as ``role`` (of ``Hello``)."""

    member: str
    role: str
    target: str
    nonce: bytes
    protocol: int = PROTOCOL


class Challenge(msgspec.Struct, tag="challenge", array_like=True, frozen=True):
    """The receiver's nonce, and its proof."""

    nonce: bytes
    proof: bytes


class CallerProof(msgspec.Struct, tag="proof", array_like=True, frozen=True):
    """The caller's proof."""

    proof: bytes


_encode = msgspec.msgpack.Encoder().encode
_of_caller = msgspec.msgpack.Decoder[Opening | CallerProof](Opening | CallerProof).decode
_of_receiver = msgspec.msgpack.Decoder[Challenge | Refusal](Challenge | Refusal).decode


def _proof(secret: str, side: str, opening: Opening, nonce: bytes) -> bytes:
    """Of ``side``: what it says is encoded as an array, so that no two different ones have the same bytes."""
    said = _encode(["raycp channel", side, opening.role, opening.member, opening.target, opening.nonce, nonce, opening.protocol])
    return hmac.digest(secret.encode(), said, sha256)


class CallerHandshake:
    """The caller's side. ``first`` is its first frame; ``answer`` takes the receiver's, and gives the last."""

    def __init__(self, secret: str, member: str, role: str, target: str) -> None:
        self._secret = secret
        self._opening = Opening(member, role, target, secrets.token_bytes(NONCE))

    @property
    def first(self) -> bytes:
        return _encode(self._opening)

    def answer(self, body: bytes) -> bytes:
        """The proof for the receiver. Raises ``NotAuthenticated`` where it has not proven itself, or refuses."""
        try:
            found = _of_receiver(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotAuthenticated("it answers with no challenge") from error
        if isinstance(found, Refusal):
            raise NotAuthenticated(f"it refuses: {clean(found.reason, 200)!r}")
        expected = _proof(self._secret, "receiver", self._opening, found.nonce)
        if len(found.nonce) != NONCE or not hmac.compare_digest(found.proof, expected):
            raise NotAuthenticated(f"it does not prove that it is {self._opening.target}")
        return _encode(CallerProof(_proof(self._secret, "caller", self._opening, found.nonce)))


class ReceiverHandshake:
    """The receiver's side: ``received`` takes the caller's frames, ``caller`` is set once it has proven itself."""

    def __init__(self, secret: str, member: str) -> None:
        self.caller: Opening | None = None
        self._secret = secret
        self._member = member
        self._nonce = secrets.token_bytes(NONCE)
        self._opening: Opening | None = None

    def received(self, body: bytes) -> bytes | None:
        """The answer, if there is one. Raises ``NotAuthenticated``."""
        try:
            found = _of_caller(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            refusal = Refusal("a channel begins with an opening: run the same release of raycp in all processes of the fleet")
            raise NotAuthenticated("its first frame is no opening", refusal) from error
        if isinstance(found, Opening) and self._opening is None:
            return self._challenge(found)
        if isinstance(found, CallerProof) and self._opening is not None and self.caller is None:
            if not hmac.compare_digest(found.proof, _proof(self._secret, "caller", self._opening, self._nonce)):
                raise NotAuthenticated(
                    "it does not know the fleet's secret", Refusal("not authenticated", RefusalCode.NOT_AUTHENTICATED)
                )
            self.caller = self._opening
            return None
        raise NotAuthenticated("its frames are out of order")

    def _challenge(self, opening: Opening) -> bytes:
        try:
            check_protocol(opening.protocol, "the connection")
        except IncompatibleVersion as error:
            raise NotAuthenticated(str(error), Refusal(str(error), RefusalCode.INCOMPATIBLE_VERSION)) from error
        if len(opening.nonce) != NONCE or max(len(opening.member), len(opening.role), len(opening.target)) > _NAME:
            raise NotAuthenticated("its opening is not one of ours")
        if opening.target != self._member:
            # Never proven: a proof in another's name would be one that an impostor could pass on.
            raise NotAuthenticated("it calls another member", Refusal("another member listens here", RefusalCode.WRONG_ROLE))
        self._opening = opening
        return _encode(Challenge(self._nonce, _proof(self._secret, "receiver", opening, self._nonce)))
