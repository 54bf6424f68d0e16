"""A fleet's note to its later leaders, in two places that outlive its members. It holds no secret.

Ray's key-value store is lost with a head without Redis; the file on the leader's node is found by leaders on that node only.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.experimental import internal_kv

from raycp.protocol.control.codec import first_line
from raycp.protocol.substrate import MemberUnavailable
from raycp.runtime.fleet_home import home_directory

log = logging.getLogger(__name__)

KV_NAMESPACE = b"raycp"
NOTHING = b"-"
"""In the key-value store: what is in files is out of date."""

WITHIN = 5.0
"""Deadline of the key-value store, in seconds: while Ray's head is away it does not answer."""


async def keep_note(namespace: str, note: bytes | None) -> None:
    """Keep the note of the fleet in that Ray namespace; None drops it. Raises ``MemberUnavailable`` where no place takes it."""
    problems = []
    try:
        await _kv(internal_kv._internal_kv_put, _key(namespace), note or NOTHING, True, namespace=KV_NAMESPACE)
    except MemberUnavailable as error:
        problems.append(str(error))
    try:
        await asyncio.to_thread(_write, namespace, note)
    except OSError as error:
        problems.append(f"{_file(namespace)}: {error.strerror or error}")
        log.info("the note of the fleet is not in a file: %s", problems[-1])
    if len(problems) == 2:
        raise MemberUnavailable("; ".join(problems))


async def read_note(namespace: str) -> bytes | None:
    """The note of the fleet in that Ray namespace; None for none. Raises ``MemberUnavailable`` where Ray does not answer, and there
    is no file."""
    try:
        found: bytes | None = await _kv(internal_kv._internal_kv_get, _key(namespace), namespace=KV_NAMESPACE)
    except MemberUnavailable:
        text = await asyncio.to_thread(_read, namespace)
        if text is None:
            raise
        return text
    if found is not None:
        return None if found == NOTHING else found
    return await asyncio.to_thread(_read, namespace)


async def _kv(function: Callable[..., Any], *arguments: object, **named: object) -> bytes | None:
    try:
        async with asyncio.timeout(WITHIN):
            found = await asyncio.to_thread(function, *arguments, **named)
    except TimeoutError as error:
        raise MemberUnavailable(f"Ray's key-value store did not answer within {WITHIN:g} s") from error
    except Exception as error:  # Ray's own, and those of its protocol's library
        raise MemberUnavailable(f"Ray's key-value store does not answer: {first_line(error)}") from error
    return found if isinstance(found, bytes) else None


def _key(namespace: str) -> bytes:
    return f"{namespace}/plan".encode()


def _file(namespace: str) -> Path:
    return home_directory() / namespace / "plan.json"


def _write(namespace: str, note: bytes | None) -> None:
    """Readable by its owner only, and never half written. Raises ``OSError``."""
    path = _file(namespace)
    if note is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(note)
    partial.replace(path)


def _read(namespace: str) -> bytes | None:
    try:
        return _file(namespace).read_bytes()
    except OSError:
        return None
