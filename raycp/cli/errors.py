"""Errors as the command line shows them: one clear message on stderr, an exit code, no traceback."""

import errno
import os
import sys
import traceback

from raycp.cli.printer import OutputError, say

FAILED = 1
"""The input was right, the command failed."""
BAD_INPUT = 2
"""The input was wrong, nothing was done."""

_INPUT_ERRORS = (
    ("raycp.config.problems", "ConfigError"),
    ("raycp.sdk.definition", "DefinitionError"),
    ("raycp.sdk.loader", "ControllerLoadError"),
    ("raycp.embedded.life.stagefile", "StageError"),
    ("raycp.embedded.persist", "UnusableDirectory"),
)


_MACHINE = {
    errno.EADDRINUSE: "end the process that listens there (`ss -ltnp`), or give another port",
    errno.EDQUOT: "make room there",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the machine's limit of open files",
    errno.ENOMEM: "make room in memory",
    errno.ENOSPC: "make room there",
}
"""What to do where the machine is at an end: such an error names no file."""


class CliError(Exception):
    """The command failed. ``remedy`` says what to do about it."""

    code = FAILED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}; {self.remedy}" if self.remedy else message


class BadInput(CliError):
    """The user's input is wrong."""

    code = BAD_INPUT


def report(error: BaseException) -> int:
    """Print ``error`` on stderr and return the exit code. With ``RAYCP_DEBUG=1`` the traceback is printed too."""
    if os.environ.get("RAYCP_DEBUG", "") not in ("", "0"):
        say("".join(traceback.format_exception(error)), error=True, end="")
    code, text = describe(error)
    lines = text.splitlines() or [type(error).__name__]
    say("\n".join(f"error: {line}" for line in lines), error=True)
    return code


def describe(error: BaseException) -> tuple[int, str]:
    """Exit code and message. Errors that are not written for users get a hint how to find their origin."""
    if isinstance(error, CliError):
        return error.code, str(error)
    if isinstance(error, OutputError):
        return BAD_INPUT, str(error)
    if any(_is(error, *known) for known in _INPUT_ERRORS):
        return BAD_INPUT, str(error)
    if _is(error, "raycp.kube.errors", "KubeError"):
        return FAILED, str(error)
    if isinstance(error, OSError) and error.filename:
        return FAILED, f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return FAILED, f"{error.strerror}; {_MACHINE[error.errno]}"
    detail = str(error).strip()
    name = type(error).__name__
    hint = "this is a bug in raycp, or an error that lacks a message: RAYCP_DEBUG=1 prints the traceback"
    return FAILED, f"{name}: {detail}; {hint}" if detail else f"{name}; {hint}"


def _is(error: BaseException, module: str, name: str) -> bool:
    """``isinstance`` without importing: an error's class is loaded if the error is there."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(error, kind)
