"""All frames as one tagged union, to bytes and back."""

import msgspec

from raycp.protocol.frames.replication import Progress
from raycp.protocol.frames.session import Clusters, Hello, Refusal, Welcome
from raycp.protocol.frames.stats import Stats, Sync, SyncDone, TimelineQuery, TimelineReply
from raycp.protocol.frames.tasks import CallOutcome, Culprit, Fold, Pull, Read, Reply, Revoke, Tasks, TokenRequest
from raycp.protocol.frames.wakes import Wakes, WakesDone

Message = (
    Hello
    | Welcome
    | Clusters
    | Refusal
    | Pull
    | Tasks
    | Revoke
    | Culprit
    | Fold
    | Read
    | TokenRequest
    | CallOutcome
    | Reply
    | Wakes
    | WakesDone
    | Progress
    | Stats
    | Sync
    | SyncDone
    | TimelineQuery
    | TimelineReply
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """One frame: four bytes of length, then msgpack."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def decode(body: bytes | memoryview) -> Message:
    """Raises ``msgspec.DecodeError`` for what is not one of our messages."""
    return _decoder.decode(body)
