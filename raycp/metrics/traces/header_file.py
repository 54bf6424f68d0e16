"""The file with headers of requests to the collector: one ``name=value`` a line. Its values are secrets, and in no message."""

import re

from raycp.base.regular_files import read_regular

_LARGEST = 64 * 1024
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")


class BadHeaders(ValueError):
    """Headers that can't be used; its text says where, without a value."""


def header(line: str, where: str) -> tuple[str, str]:
    """``name=value``, with a name in lower case. Raises ``BadHeaders``."""
    name, equals, value = (part.strip() for part in line.partition("="))
    if not equals:
        raise BadHeaders(f"{where} is not name=value")
    if not _NAME.fullmatch(name):
        raise BadHeaders(f"{where}: what is left of = is no name of a header")
    if not _VALUE.fullmatch(value):
        raise BadHeaders(f"{where}: the value is empty, or has characters that no header may have")
    return name.lower(), value


def read_headers(path: str) -> dict[str, str]:
    """The headers in a file; empty lines and those that begin with ``#`` are left out. Raises ``BadHeaders``."""
    try:
        text = read_regular(path, _LARGEST).decode("ascii")
    except OSError as error:
        raise BadHeaders(f"{path} can't be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise BadHeaders(f"{path} has characters beyond ASCII, which no header may have") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return dict(header(line, f"{path}, line {number}") for number, line in lines if line and not line.startswith("#"))
