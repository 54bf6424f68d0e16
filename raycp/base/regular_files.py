"""Reads a file that someone else names: a regular one, of bounded size, at once."""

import errno
import os
import stat


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes; a symbolic link is followed.

    Raises ``OSError`` whose ``strerror`` says why it cannot be had: also for a FIFO, a device or a directory, which would block or
    never end, and for a file that is too large.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        with open(handle, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(handle)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit >> 10} KiB", os.fspath(path))
    return content
