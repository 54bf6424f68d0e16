"""What ``setup_logging`` changes, put back: it takes raycp's loggers from pytest's ``caplog``."""

import contextlib
import logging
from collections.abc import Iterator
from typing import IO

from raycp.metrics.log import setup_logging


@contextlib.contextmanager
def printed(level: str, stream: IO[str]) -> Iterator[None]:
    """Print raycp's log to ``stream``, for the time of the block."""
    root = logging.getLogger("raycp")
    level_before, propagated, handlers = root.level, root.propagate, list(root.handlers)
    setup_logging(level, stream=stream)
    try:
        yield
    finally:
        root.setLevel(level_before)
        root.propagate = propagated
        root.handlers[:] = handlers
