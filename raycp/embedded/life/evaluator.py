"""jq expressions of stage files. Paths are looked up here (``jqpath``), programs run by libjq in a process of their own.

libjq runs a program to its end while it holds the interpreter's lock, and knows no limit of steps or memory: one program that never
ends would stop this process for good. So programs are compiled here, which ends, and run in a child (``jqchild``) that the kernel
ends when it takes ``SECONDS`` of CPU for one object, or ``MEMORY``. The event loop is blocked by neither.

All expressions on a kind are one program, so that an object goes to the child once. If that program fails as a whole or ends the
child, each expression runs by itself: one that ends the child has no results for this object, with a reason in ``reasons``. One
that ends it for ``STRIKES`` objects in a row is not run again.

As in kwok (``pkg/utils/expression/query.go``) an expression that fails has no results (``None``), and nulls are dropped from them.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from raycp.embedded.life.jqpath import compile_path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Answers = Mapping[str, list[Any] | None]
"""The results of each expression on one object."""

SECONDS = 1.0
"""CPU time of a program on one object; the largest object takes some 0.1 s."""
MEMORY = 1 << 30
"""bytes of the child's address space"""
PATIENCE = 30.0
"""seconds to wait for an answer at all: the child may get no CPU"""
STRIKES = 3
LONGEST = 10_000
"""characters of an expression"""

LENGTH = struct.Struct(">I")
HEAD = struct.Struct(">IH")
"""what ``jqchild`` reads before an object: the length of its JSON, the number of the program"""


class JqError(ValueError):
    """An expression that does not compile."""


class JqChildEnded(Exception):
    """The child ended, or does not answer."""


@lru_cache(maxsize=4096)
def check(text: str) -> None:
    """Raise ``JqError`` if ``text`` is not a jq expression."""
    if compile_path(text) is not None:
        return
    import jq

    problem = "is empty" if not text.strip() else f"is longer than {LONGEST} characters" if len(text) > LONGEST else ""
    try:
        if not problem:
            jq.compile(text)
            jq.compile(_together([text]))  # also no directive, and nothing that is open at its end
    except ValueError as error:
        problem = str(error).split("\n", 1)[0].removeprefix("jq: error: ")
    if problem:
        raise JqError(f"jq expression {text[:200]!r}: {problem}")


def _together(texts: Sequence[str]) -> str:
    """One program: the results of each of ``texts`` as a list, null for one that fails. (The line break ends a comment.)"""
    return "[" + ", ".join(f"(try [{text}\n] catch null)" for text in texts) + "]"


class Evaluator:
    """Runs expressions by kind. It starts the child for the first object that needs it, and again when it has ended."""

    def __init__(self, expressions: Mapping[str, Sequence[str]]) -> None:
        self.reasons: dict[str, str] = {}
        """Why an expression had no results for the object that came last, or has none for any."""
        self._paths = {kind: {t: path for t in texts if (path := compile_path(t))} for kind, texts in expressions.items()}
        self._programs = {
            kind: [text for text in dict.fromkeys(texts) if text not in self._paths[kind]] for kind, texts in expressions.items()
        }
        self._strikes: dict[str, int] = {}
        self._lock = asyncio.Lock()
        self._child: JqChild | None = None

    async def answers(self, kind: str, obj: Any) -> Answers:
        """The results of the kind's expressions on ``obj``. Raises ``OSError`` if no child can be started."""
        found = {text: path(obj) for text, path in self._paths[kind].items()}
        if self._programs[kind]:
            found |= await self._ask(self._programs[kind], obj)
        return found

    async def _ask(self, programs: Sequence[str], obj: Any) -> Answers:
        none: dict[str, list[Any] | None] = dict.fromkeys(programs)
        async with self._lock:
            texts = self._living(programs)
            if not texts:
                return none
            payload = msgspec.json.encode(obj)
            for text in texts:
                self.reasons.pop(text, None)
            found = None
            with contextlib.suppress(JqChildEnded):
                found = await self._run(texts, payload)
            if found is None:
                found = [await self._alone(text, payload) for text in texts]
            for text in texts:
                if text not in self.reasons:
                    self._strikes.pop(text, None)
        return none | {text: _without_nulls(results) for text, results in zip(texts, found, strict=True)}

    def _living(self, programs: Sequence[str]) -> list[str]:
        return [text for text in programs if self._strikes.get(text, 0) < STRIKES]

    async def _alone(self, text: str, payload: bytes) -> list[Any] | None:
        try:
            found = await self._run([text], payload)
        except JqChildEnded as ended:
            strikes = self._strikes[text] = self._strikes.get(text, 0) + 1
            last = f", for {STRIKES} objects in a row: it is not run again" if strikes >= STRIKES else ""
            self.reasons[text] = f"jq expression {text[:200]!r} {ended}{last}"
            return None
        return found[0] if found else None

    async def _run(self, texts: Sequence[str], payload: bytes) -> list[list[Any] | None] | None:
        """The results of each of ``texts``; None if the program as a whole has none. Raises ``JqChildEnded``, ``OSError``."""
        program = _together(texts)
        if self._child is None or program not in self._child.programs:
            self.close()
            kinds = [self._living(programs) for programs in self._programs.values()]
            single = [[text] for of in kinds for text in of]
            self._child = await JqChild.start(list(dict.fromkeys(_together(each) for each in [*kinds, *single])))
        child, self._child = self._child, None  # one that is left in the middle of an answer is of no use
        try:
            answer = await child.ask(program, payload)
        except BaseException:
            child.close()
            raise
        self._child = child
        found: list[list[Any] | None] | None = msgspec.json.decode(answer)
        return found

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None


def _without_nulls(results: list[Any] | None) -> list[Any] | None:
    return None if results is None else [found for found in results if found is not None]


def _start() -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """A process of ``jqchild``, and the connection to it; it ends with the connection."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("jqchild.py")), str(SECONDS), str(MEMORY)],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"},  # `env` in jq shows no more than this
            start_new_session=True,  # Ctrl-C is for its parent
        )
    return process, ours


def _discard(starting: "asyncio.Future[tuple[subprocess.Popen[bytes], socket.socket]]") -> None:
    """End a process that came when nobody waited for it any more."""
    if starting.exception() is None:
        process, connection = starting.result()
        connection.close()
        process.kill()
        process.wait()


class JqChild:
    """One process of ``jqchild``, for one request at a time."""

    def __init__(self, process: "subprocess.Popen[bytes]", programs: Sequence[str], streams: Streams) -> None:
        self.programs = {program: number for number, program in enumerate(programs)}
        self._process = process
        self._reader, self._writer = streams

    @classmethod
    async def start(cls, programs: Sequence[str]) -> "JqChild":
        """Start one. Raises ``OSError``."""
        starting = asyncio.get_running_loop().run_in_executor(None, _start)
        try:
            process, connection = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_discard)
            raise
        streams = await asyncio.open_connection(sock=connection)
        text = msgspec.json.encode(programs)
        streams[1].write(LENGTH.pack(len(text)) + text)
        return cls(process, programs, streams)

    async def ask(self, program: str, payload: bytes) -> bytes:
        """The answer to an object as JSON. Raises ``JqChildEnded``."""
        try:
            async with asyncio.timeout(PATIENCE):
                self._writer.write(HEAD.pack(len(payload), self.programs[program]) + payload)
                await self._writer.drain()
                (size,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                return await self._reader.readexactly(size)
        except TimeoutError:
            raise JqChildEnded(f"had no results within {PATIENCE:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise JqChildEnded(self._cause()) from None

    def _cause(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.wait(5.0) == -signal.SIGPROF:
                return f"ran for longer than {SECONDS:g} s"
        return f"took more than {MEMORY >> 20} MiB, or crashed jq"

    def close(self) -> None:
        """End it at once."""
        self._writer.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
