"""What was stored deflated: inflated again, within a limit, since a thousandth of a megabyte may inflate to one."""

import zlib

MOST = 32 * 1024 * 1024
"""Bytes of content: thirty times what one object of an API server holds deflated."""


def inflated(stored: bytes, most: int = MOST) -> bytes:
    """The content. Raises ``ValueError`` for bytes that are not deflated, are cut off, or inflate to more than ``most``."""
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(stored, most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflate.eof:
        raise ValueError("it is cut off, or too large")
    return content
