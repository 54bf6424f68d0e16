"""Text from outside: whatever it is, what is kept of it can be encoded and is short."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from raycp.base.text import ERROR_LENGTH, clean, message_of

any_text = st.text(st.characters(codec=None) | st.integers(0xD800, 0xDFFF).map(chr), max_size=40)


@given(any_text, st.integers(3, 30))
def test_clean_text_can_be_encoded_and_is_short(text: str, length: int) -> None:
    found = clean(text, length)
    found.encode()
    assert len(found) <= length
    try:
        text.encode()
    except UnicodeEncodeError:
        assert "\ufffd" in found or len(text) > length
    else:
        assert found == text or len(text) > length


def test_an_error_has_a_message_whatever_its_author_did() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    assert message_of(Mute("x")) == "Mute"
    assert message_of(KeyError()) == "KeyError"
    assert message_of(ValueError("\ud800 is no character")) == "\ufffd is no character"
    assert len(message_of(ValueError("x" * 10_000_000))) == ERROR_LENGTH
    assert sys.getsizeof(message_of(ValueError("x" * 10_000_000))) < 2 * ERROR_LENGTH
