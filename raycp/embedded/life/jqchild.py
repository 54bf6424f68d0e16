"""The process that runs jq programs for ``evaluator``: programs first, then objects on standard input, results on standard output.

It imports nothing of raycp, so that it starts within tens of milliseconds. The kernel ends it when it takes more than ``argv[1]``
seconds of CPU for one object (SIGPROF); an allocation beyond ``argv[2]`` bytes fails, which ends it too.
"""

import json
import os
import resource
import signal
import struct
import sys
from typing import Any

import jq

HEAD = struct.Struct(">IH")
"""Length of the object's JSON, number of the program."""
LENGTH = struct.Struct(">I")


def _read(size: int) -> bytes:
    """Exactly ``size`` bytes. The process ends with its parent."""
    pieces = []
    while size:
        piece = os.read(0, min(size, 1 << 20))
        if not piece:
            sys.exit(0)
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def main(seconds: float, memory: int) -> None:
    """Answer until standard input ends. A program that has no result for an object, since it fails, has the result null."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    texts = json.loads(_read(*LENGTH.unpack(_read(LENGTH.size))))
    programs: dict[int, Any] = {}
    while True:
        size, number = HEAD.unpack(_read(HEAD.size))
        text = _read(size).decode()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        program = programs.get(number) or programs.setdefault(number, jq.compile(texts[number]))
        try:
            answer = json.dumps(program.input_text(text).first()).encode()
        except (ValueError, StopIteration):  # it fails, or has no result
            answer = b"null"
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(LENGTH.pack(len(answer)) + answer)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
