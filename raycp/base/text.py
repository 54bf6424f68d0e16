"""Text from outside, as it may be kept and sent: Unicode that can be encoded, of bounded length."""

import re

ERROR_LENGTH = 1000
"""Characters of an error that are kept: enough for a sentence and a place, little enough for every frame that carries it."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str, length: int = ERROR_LENGTH) -> str:
    """``text`` cut to ``length`` characters, its lone surrogates (which no UTF-8 encoder takes) replaced by U+FFFD."""
    if len(text) > length:
        text = f"{text[: length - 3]}..."
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def message_of(error: BaseException, length: int = ERROR_LENGTH) -> str:
    """An exception's message, ``clean``; its type's name where it has none, or where its ``__str__`` fails."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return clean(text or type(error).__name__, length)
