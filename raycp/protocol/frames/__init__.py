"""Frames between members, one msgpack message each (``raycp.protocol.transport``).

A worker opens one connection to every shard and sends ``Hello``; the shard answers ``Welcome`` (``session``). ``Pull`` gives the
shard credit for so many tasks and carries acknowledgements; ``Tasks`` spends credit (``tasks``). A pull is thus a long-poll that
costs one frame each way, and the order of hand-outs stays the queue's. Shards connect to each other in the same way, for wakes
(``wakes``, law 10) and reads; a standby to its primary (``replication``); every member to the observer (``stats``). ``message`` is
the union of all of them; ``pages`` cuts what is unbounded into frames that fit.
"""

from raycp.protocol.frames.message import Message, decode_body, encode_body
from raycp.protocol.frames.pages import LARGEST, LARGEST_TASK, MAX_SENT, PAGE, Unsendable, encode, pages
from raycp.protocol.frames.replication import (
    ControllerStart,
    Due,
    KeyNote,
    KeyProgress,
    MarkedKind,
    Progress,
    Reached,
    Suspicion,
    SuspicionMark,
)
from raycp.protocol.frames.session import Clusters, ClusterState, Held, Hello, HelloPart, Refusal, RefusalCode, Welcome
from raycp.protocol.frames.stats import Stats, Sync, SyncDone, TimelineQuery, TimelineReply
from raycp.protocol.frames.tasks import (
    TOKEN_PATIENCE,
    CallOutcome,
    Culprit,
    Fold,
    LivenessQuery,
    LivenessReply,
    Pull,
    Read,
    Reply,
    ReplyCode,
    Revoke,
    Tasks,
    TokenRequest,
    task_token,
)
from raycp.protocol.frames.wakes import CapacityChanged, CapacityWanted, ClusterChanged, KindListed, Wake, Wakes, WakesDone

__all__ = [
    "LARGEST",
    "LARGEST_TASK",
    "MAX_SENT",
    "PAGE",
    "TOKEN_PATIENCE",
    "CallOutcome",
    "CapacityChanged",
    "CapacityWanted",
    "ClusterChanged",
    "ClusterState",
    "Clusters",
    "ControllerStart",
    "Culprit",
    "Due",
    "Fold",
    "Held",
    "Hello",
    "HelloPart",
    "KeyNote",
    "KeyProgress",
    "KindListed",
    "LivenessQuery",
    "LivenessReply",
    "MarkedKind",
    "Message",
    "Progress",
    "Pull",
    "Reached",
    "Read",
    "Refusal",
    "RefusalCode",
    "Reply",
    "ReplyCode",
    "Revoke",
    "Stats",
    "Suspicion",
    "SuspicionMark",
    "Sync",
    "SyncDone",
    "Tasks",
    "TimelineQuery",
    "TimelineReply",
    "TokenRequest",
    "Unsendable",
    "Wake",
    "Wakes",
    "WakesDone",
    "Welcome",
    "decode_body",
    "encode",
    "encode_body",
    "pages",
    "task_token",
]
