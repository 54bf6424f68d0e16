"""Control questions: bytes and back, and failures with codes."""

from typing import Any

import msgspec
import pytest
from inprocess import plan_of

from raycp.base.release import this_release
from raycp.protocol.control import (
    Apply,
    Configure,
    ControlError,
    DrainedPrimary,
    ErrorCode,
    FollowPrimaries,
    HandOver,
    HandoverResult,
    Lead,
    PlanOf,
    Question,
    ReportAfter,
    Rest,
    TakeLead,
)
from raycp.protocol.control.codec import decode_answer, decode_question, encode_answer, encode_question, respond
from raycp.protocol.members import LEADER
from raycp.protocol.substrate import MemberFailed, answer_of

PLAN = plan_of({"here": "0"}, "tracked")


@pytest.mark.parametrize(
    "question",
    [
        ReportAfter(3),
        Configure(PLAN),
        Apply(PLAN.fleet),
        FollowPrimaries({"0": DrainedPrimary("m", 2, 7)}),
        TakeLead(Lead("h", 0.5, None)),
        Rest(),
    ],
)
def test_a_question_survives_its_bytes(question: Question[Any]) -> None:
    assert decode_question(encode_question(question)) == question


def test_an_answer_is_decoded_as_its_question_says() -> None:
    assert decode_answer(PlanOf(), encode_answer(PLAN)) == PLAN
    assert decode_answer(PlanOf(), encode_answer(None)) is None
    assert decode_answer(HandOver(), encode_answer([HandoverResult("0", problem="x")])) == [HandoverResult("0", problem="x")]
    with pytest.raises(ControlError, match="the answer to PlanOf can't be decoded") as malformed:
        decode_answer(PlanOf(), encode_answer(7))
    assert malformed.value.code is ErrorCode.MALFORMED


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.MALFORMED),
        (b"\xc1", ErrorCode.MALFORMED),
        (msgspec.msgpack.encode({"a": 1}), ErrorCode.MALFORMED),
        (msgspec.msgpack.encode([2, "ReportAfter", ["x"]]), ErrorCode.MALFORMED),
        (msgspec.msgpack.encode([2, "Dance", []]), ErrorCode.UNKNOWN_QUESTION),
        (msgspec.msgpack.encode([9, "ReportAfter", [1]]), ErrorCode.INCOMPATIBLE_VERSION),
    ],
)
async def test_bytes_that_are_no_question_are_answered_with_a_code(raw: bytes, code: ErrorCode) -> None:
    async def ask(question: Question[Any]) -> None:
        raise AssertionError(question)

    with pytest.raises(ControlError) as refused:
        decode_answer(Rest(), await respond(raw, ask))
    assert refused.value.code is code


async def test_a_failure_travels_with_its_code_and_message() -> None:
    async def busy(question: Question[Any]) -> None:
        raise ControlError(ErrorCode.BUSY, "3 reconciles run")

    async def broken(question: Question[Any]) -> None:
        raise ZeroDivisionError("by zero\nand more")

    with pytest.raises(MemberFailed, match=r"leader leader .*: Rest: 3 reconciles run") as failed:
        answer_of(LEADER, Rest(), await respond(encode_question(Rest()), busy))
    assert failed.value.code is ErrorCode.BUSY
    with pytest.raises(MemberFailed, match=r"Rest: by zero$") as failed:
        answer_of(LEADER, Rest(), await respond(encode_question(Rest()), broken))
    assert failed.value.code is ErrorCode.INTERNAL


@pytest.mark.parametrize(("release", "code"), [(this_release(), ErrorCode.INTERNAL), ("9+a", ErrorCode.OTHER_RELEASE)])
def test_an_unknown_code_is_an_internal_error_or_of_another_release(release: str, code: ErrorCode) -> None:
    with pytest.raises(ControlError, match="why") as failed:
        decode_answer(Rest(), msgspec.msgpack.encode([2, "too_late", "why", None, release]))
    assert failed.value.code is code


def of_another_release(raw: bytes, *release: str) -> bytes:
    """The answer as a process of another release gives it; one that does not tell sends no such field."""
    return msgspec.msgpack.encode([*msgspec.msgpack.decode(raw)[:4], *release])


@pytest.mark.parametrize("release", [("0.0.9+abc",), ()])
async def test_a_failure_between_two_releases_says_so(release: tuple[str, ...]) -> None:
    async def invalid(question: Question[Any]) -> None:
        raise ValueError("1 validation error for FleetDoc")

    async def busy(question: Question[Any]) -> None:
        raise ControlError(ErrorCode.BUSY, "3 reconciles run")

    assert decode_answer(PlanOf(), of_another_release(encode_answer(PLAN), *release)) == PLAN, "what is understood is taken"
    for answer, what in (
        (await respond(encode_question(Rest()), invalid), "1 validation error for FleetDoc; it runs "),
        (encode_answer(7), "the answer to PlanOf can't be decoded.*; it runs "),
    ):
        with pytest.raises(ControlError, match=what) as failed:
            decode_answer(PlanOf(), of_another_release(answer, *release))
        assert failed.value.code is ErrorCode.OTHER_RELEASE
        assert ("raycp 0.0.9 (code abc)" in str(failed.value)) == bool(release)
    with pytest.raises(ControlError, match=r"^3 reconciles run$") as failed:
        decode_answer(Rest(), of_another_release(await respond(encode_question(Rest()), busy), *release))
    assert failed.value.code is ErrorCode.BUSY
