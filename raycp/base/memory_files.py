"""A file name for a text that must not lie on a disk, such as a private key."""

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def memory_file(text: str) -> Iterator[str]:
    """The name of a file with this text, to be opened once: OpenSSL's loaders take names only.

    It lies in memory and in no directory: no other user can open it, and a process that dies leaves none behind. Where there is no
    memfd (macOS), it is a file that never had a name.
    """
    if hasattr(os, "memfd_create"):
        folder, handle = "/proc/self/fd", os.memfd_create("raycp", os.MFD_CLOEXEC)
    else:
        folder = "/dev/fd"
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    try:
        with open(handle, "wb", closefd=False) as stream:
            stream.write(text.encode("latin-1", "replace"))
        os.lseek(handle, 0, os.SEEK_SET)
        yield f"{folder}/{handle}"
    finally:
        os.close(handle)
