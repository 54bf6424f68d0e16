"""The mutual challenge: members that share the secret pass, and nothing else does, whatever is said in whatever order."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raycp.protocol.channels.handshake import (
    MAX_FIRST,
    CallerHandshake,
    CallerProof,
    Challenge,
    NotAuthenticated,
    Opening,
    ReceiverHandshake,
)

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
encode = msgspec.msgpack.encode


def run(caller: CallerHandshake, receiver: ReceiverHandshake) -> None:
    """The whole exchange. Raises ``NotAuthenticated``."""
    challenge = receiver.received(caller.first)
    assert challenge is not None
    assert receiver.received(caller.answer(challenge)) is None


@given(names, names, names, names)
def test_members_that_share_the_secret_authenticate_in_small_frames(secret: str, member: str, role: str, target: str) -> None:
    caller, receiver = CallerHandshake(secret, member, role, target), ReceiverHandshake(secret, target)
    run(caller, receiver)
    assert receiver.caller is not None
    assert (receiver.caller.member, receiver.caller.role) == (member, role)
    assert len(caller.first) < MAX_FIRST


@given(names, names)
def test_neither_end_passes_with_another_secret(secret: str, other: str) -> None:
    if secret == other:
        return
    caller, receiver = CallerHandshake(secret, "w", "worker", "s"), ReceiverHandshake(other, "s")
    challenge = receiver.received(caller.first)
    assert challenge is not None
    with pytest.raises(NotAuthenticated, match="does not prove that it is s"):
        caller.answer(challenge)
    lying = CallerHandshake(other, "w", "worker", "s")
    answer = lying.answer(ReceiverHandshake(other, "s").received(lying.first) or b"")
    right = ReceiverHandshake(secret, "s")
    right.received(lying.first)
    with pytest.raises(NotAuthenticated, match="does not know the fleet's secret"):
        right.received(answer)
    assert right.caller is None


def test_the_secret_is_in_no_frame() -> None:
    caller, receiver = CallerHandshake("the-secret", "w", "worker", "s"), ReceiverHandshake("the-secret", "s")
    challenge = receiver.received(caller.first) or b""
    assert not any(b"the-secret" in frame for frame in (caller.first, challenge, caller.answer(challenge)))


def test_a_member_proves_no_name_but_its_own() -> None:
    """Else an impostor at a dead member's port would pass the caller's opening on to a living one, and its answer back."""
    with pytest.raises(NotAuthenticated, match="calls another member"):
        ReceiverHandshake("secret", "alive").received(CallerHandshake("secret", "w", "worker", "dead").first)


@given(st.sampled_from(["member", "role", "target", "nonce"]))
def test_a_proof_is_of_no_use_for_another_name_role_or_connection(changed: str) -> None:
    caller, receiver = CallerHandshake("secret", "w", "worker", "s"), ReceiverHandshake("secret", "s")
    opening = msgspec.msgpack.decode(caller.first, type=Opening)
    proof = caller.answer(receiver.received(caller.first) or b"")
    other = {"member": "x", "role": "shard", "target": "t", "nonce": b"n" * 32}[changed]
    again = ReceiverHandshake("secret", "t" if changed == "target" else "s")
    again.received(encode(msgspec.structs.replace(opening, **{changed: other})))
    with pytest.raises(NotAuthenticated):
        again.received(proof)


def test_what_is_said_is_not_accepted_when_it_comes_back() -> None:
    """A receiver that knows nothing reflects: the caller's own opening, and proofs that it gets in other connections."""
    caller, other = CallerHandshake("secret", "w", "worker", "s"), ReceiverHandshake("secret", "s")
    with pytest.raises(NotAuthenticated):
        caller.answer(caller.first)
    mine = CallerHandshake("secret", "w", "worker", "s")
    elsewhere = mine.answer(other.received(mine.first) or b"")
    proof = msgspec.msgpack.decode(elsewhere, type=CallerProof)
    with pytest.raises(NotAuthenticated):
        caller.answer(encode(Challenge(b"n" * 32, proof.proof)))


frames = st.one_of(
    st.binary(max_size=300),
    st.builds(Opening, names, names, st.just("s"), st.binary(max_size=40), st.integers(0, 5)).map(encode),
    st.builds(Challenge, st.binary(max_size=40), st.binary(max_size=40)).map(encode),
    st.builds(CallerProof, st.binary(max_size=40)).map(encode),
    st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(codec="utf-8"), max_size=5),
        lambda each: st.lists(each, max_size=4),
    ).map(encode),
)


@given(st.lists(frames, max_size=6))
@example([b"\x91\xa1\x80"])  # the tag of a message that is no UTF-8
def test_whatever_a_stranger_says_it_is_not_let_in_and_nothing_else_is_raised(said: list[bytes]) -> None:
    receiver = ReceiverHandshake("secret", "s")
    for frame in said:
        try:
            receiver.received(frame)
        except NotAuthenticated:
            break
    assert receiver.caller is None


@given(frames)
def test_whatever_an_impostor_answers_it_gets_no_proof_and_nothing_else_is_raised(answer: bytes) -> None:
    with pytest.raises(NotAuthenticated):
        CallerHandshake("secret", "w", "worker", "s").answer(answer)
