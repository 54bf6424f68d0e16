"""All frames as one tagged union, to bytes and back."""

import msgspec

from raycp.protocol.frames.replication import Progress
from raycp.protocol.frames.session import Clusters, Hello, Refusal, Welcome
from raycp.protocol.frames.stats import Stats, Sync, SyncDone, TimelineQuery, TimelineReply
from raycp.protocol.frames.tasks import (
    CallOutcome,
    Culprit,
    Fold,
    LivenessQuery,
    LivenessReply,
    Pull,
    Read,
    Reply,
    Revoke,
    Tasks,
    TokenRequest,
)
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
    | LivenessQuery
    | LivenessReply
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

encode_body = msgspec.msgpack.Encoder().encode
"""A message to the body of its frame. Called per frame: the codec's own method, no function of ours between."""

decode_body = msgspec.msgpack.Decoder[Message](Message).decode
"""The message of a frame's body. Raises ``msgspec.DecodeError`` for what is not one of our messages."""
