"""The boundary of control messages: bytes to questions, answers and failures to bytes, and back.

A question is ``[protocol, name, fields]`` in msgpack, an answer ``[protocol, code, message, value, release]``. What can't be
decoded is a ``ControlError``; no other exception crosses. ``release`` is that of the process that answers: where it is another one
than this, a failure that may come from that says so.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_args

import msgspec

from raycp.base.protocol_version import PROTOCOL, IncompatibleVersion, check_protocol
from raycp.base.release import difference, this_release
from raycp.base.text import clean, message_of
from raycp.protocol.control import leader, members, recordings
from raycp.protocol.control.errors import ControlError, ErrorCode
from raycp.protocol.control.question import Question

log = logging.getLogger(__name__)

A = TypeVar("A")

_QUESTIONS: dict[str, type[Question[Any]]] = {
    name: found
    for room in (leader, members, recordings)
    for name, found in vars(room).items()
    if isinstance(found, type) and issubclass(found, Question) and found is not Question
}


class _Asked(msgspec.Struct, array_like=True):
    protocol: int
    name: str
    question: msgspec.Raw


class _Answered(msgspec.Struct, array_like=True):
    protocol: int
    code: str
    message: str
    value: msgspec.Raw
    release: str = ""
    """Absent in answers of releases that do not tell."""


_SUSPECT = frozenset({ErrorCode.UNKNOWN_QUESTION, ErrorCode.MALFORMED, ErrorCode.INTERNAL})
"""Failures that processes of one release do not have with each other, or whose cause the release may be."""

_MESSAGE_LENGTH = 20_000
"""Characters of a failure's message; problems of a fleet file are listed in full."""

_NOTHING = msgspec.msgpack.encode(None)
_asked = msgspec.msgpack.Decoder(_Asked)
_answered = msgspec.msgpack.Decoder(_Answered)


@functools.cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


@functools.cache
def _answer_type(question: type[Question[Any]]) -> Any:
    return get_args(question.__orig_bases__[0])[0]  # type: ignore[attr-defined]


def encode_question(question: Question[Any]) -> bytes:
    """The question's bytes."""
    body = msgspec.Raw(msgspec.msgpack.encode(question))
    return msgspec.msgpack.encode(_Asked(PROTOCOL, type(question).__name__, body))


def decode_question(raw: bytes) -> Question[Any]:
    """Raises ``ControlError``."""
    with _Boundary("a control question"):
        asked = _asked.decode(raw)
        check_protocol(asked.protocol, "a control question")
        kind = _QUESTIONS.get(asked.name)
        if kind is None:
            raise ControlError(ErrorCode.UNKNOWN_QUESTION, f"there is no control question {asked.name!r}")
        found: Question[Any] = _decoder(kind).decode(asked.question)
        return found


def encode_answer(value: Any) -> bytes:
    """A successful answer's bytes."""
    return msgspec.msgpack.encode(_Answered(PROTOCOL, "", "", msgspec.Raw(msgspec.msgpack.encode(value)), this_release()))


def encode_failure(error: ControlError) -> bytes:
    """A failure's bytes."""
    message = clean(str(error), _MESSAGE_LENGTH)
    return msgspec.msgpack.encode(_Answered(PROTOCOL, error.code, message, msgspec.Raw(_NOTHING), this_release()))


def decode_answer(question: Question[A], raw: bytes) -> A:
    """The answer to ``question``. Raises ``ControlError``: the failure that was answered, or what is wrong with the answer."""
    with _Boundary(f"the answer to {type(question).__name__}"):
        answered = _answered.decode(raw)
        check_protocol(answered.protocol, f"the answer to {type(question).__name__}")
    if answered.code:
        known = answered.code in ErrorCode.__members__.values()
        failure = ControlError(ErrorCode(answered.code) if known else ErrorCode.INTERNAL, answered.message)
        raise _explained(failure, answered.release)
    try:
        with _Boundary(f"the answer to {type(question).__name__}"):
            found: A = _decoder(_answer_type(type(question))).decode(answered.value)
            return found
    except ControlError as error:
        raise _explained(error, answered.release) from error.__cause__


def _explained(error: ControlError, release: str) -> ControlError:
    why = difference(release) if error.code in _SUSPECT else ""
    return ControlError(ErrorCode.OTHER_RELEASE, f"{error}; {why}") if why else error


async def respond(raw: bytes, ask: Callable[[Question[Any]], Awaitable[Any]]) -> bytes:
    """Decode a question, have ``ask`` answer it, encode its answer or its failure. Raises nothing but cancellation."""
    try:
        return encode_answer(await ask(decode_question(raw)))
    except ControlError as error:
        return encode_failure(error)
    except Exception as error:
        log.debug("a control question failed", exc_info=True)
        return encode_failure(ControlError(ErrorCode.INTERNAL, first_line(error)))


def first_line(error: BaseException) -> str:
    """An exception's message in one line of at most 300 characters; its type's name where it has none."""
    lines = [line.strip() for line in message_of(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def unknown_question(question: Question[Any], role: str) -> ControlError:
    """The failure of a member that has no answer to this question."""
    return ControlError(ErrorCode.UNKNOWN_QUESTION, f"the {role} does not answer {type(question).__name__}")


class _Boundary:
    """Turns decoders' exceptions into ``ControlError``."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        cause = error.__cause__ if isinstance(error, msgspec.ValidationError) else error
        if isinstance(cause, IncompatibleVersion):
            raise ControlError(ErrorCode.INCOMPATIBLE_VERSION, str(cause)) from error
        if isinstance(error, (msgspec.MsgspecError, ValueError)):
            raise ControlError(ErrorCode.MALFORMED, f"{self._what} can't be decoded: {error}") from error
