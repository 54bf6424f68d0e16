"""Failures of control questions: a code for programs, a message for people."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why a question was not answered."""

    HANDED_OVER = "handed_over"
    """This revision of the fleet has handed over and is about to end: ask the leader of the other one."""
    NOT_PRIMARY = "not_primary"
    """The shard's process that was asked is not its primary."""
    BUSY = "busy"
    """Work is under way that did not end in time."""
    TIMED_OUT = "timed_out"
    """What had to happen first did not happen in time."""
    REFUSED = "refused"
    """The question makes no sense in the present state; the message says why and what to do."""
    NOT_FOUND = "not_found"
    """The question names something that does not exist."""
    UNKNOWN_QUESTION = "unknown_question"
    INCOMPATIBLE_VERSION = "incompatible_version"
    OTHER_RELEASE = "other_release"
    """The question or its answer could not be understood, or failed; the two processes run different releases of raycp."""
    MALFORMED = "malformed"
    """The bytes are no control message."""
    INTERNAL = "internal"
    """An unexpected exception; the message has its first line."""


class ControlError(Exception):
    """A question was not answered."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
