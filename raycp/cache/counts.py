"""Why a list begins and why a watch ends, as one word each, for a reflector's metrics."""

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec

from raycp.cache.states import Restored
from raycp.kube import ApiError, KubeError, NoSuchKind, Unreachable
from raycp.metrics import ReflectorSeries

START = "start"
"""Of a reflector's first list."""

NOT_STREAMED = "not-streamed"
"""Of a list that follows a stream without an end mark, or one that the server refused."""


def reason_of(error: BaseException) -> str:
    """``expired`` (410), ``restored``, ``lost`` (no answer, broken, silent), ``refused`` (any other status), ``unserved``,
    ``undecodable``, ``stopped``, ``failed`` (a bug)."""
    if isinstance(error, ApiError):
        return "expired" if error.expired else "refused"
    match error:
        case Restored():
            return "restored"
        case Unreachable():
            return "lost"
        case NoSuchKind():
            return "unserved"
        case msgspec.MsgspecError() | ValueError() | KubeError():
            return "undecodable"
        case asyncio.CancelledError() | GeneratorExit():
            return "stopped"
    return "failed"


@contextlib.contextmanager
def counted_watch(series: ReflectorSeries) -> Iterator[None]:
    """Count a watch: that it began, and why it ended (``closed``: the server ended it)."""
    series.watches.inc()
    try:
        yield
    except BaseException as error:
        series.watch_ended(reason_of(error))
        raise
    series.watch_ended("closed")
