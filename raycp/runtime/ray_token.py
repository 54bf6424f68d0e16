"""Tokens of the Rays that raycp starts. Ray runs the code of whoever reaches its ports, as the user that started it; with a token,
only of those who can read that user's files (https://docs.ray.io/en/latest/ray-security/token-auth.html).

``$RAYCP_HOME/ray/PROCESS/token``, for its user only: one per process that starts a Ray. ``$RAYCP_HOME/ray/HOST:PORT`` leads there,
by which other commands find it. The user's own ``~/.ray/auth_token`` is neither read nor written for such a Ray.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from raycp.runtime.fleet_home import home_directory

MODE = "RAY_AUTH_MODE"
PATH = "RAY_AUTH_TOKEN_PATH"
TOKEN = "RAY_AUTH_TOKEN"
"""Of Ray's, and stronger than ``PATH``."""

_PROCESS = re.compile(r"\d+-\d+")
"""A process: its pid, and when it began."""


def new_token() -> Path:
    """The file of a new random token for the Ray that this process is about to start. Raises ``OSError``."""
    root = _root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(root)
    folder = root / _name_of(psutil.Process())
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / "token"
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(32))
    return file


def record(address: str, file: Path) -> None:
    """The Ray at ``HOST:PORT`` has the token in ``file``: ``token_of`` finds it from now on. Raises ``OSError``."""
    link = _root() / address
    link.unlink(missing_ok=True)
    link.symlink_to(file.parent.name)


def token_of(address: str) -> Path | None:
    """The token of the Ray at ``HOST:PORT``; None where no living process of this user's raycp started one there."""
    link = _root() / address.removeprefix("ray://")
    if not link.is_symlink() or not _lives(os.readlink(link)):
        return None
    file = link / "token"
    return file.resolve() if file.is_file() else None


def forget(file: Path) -> None:
    """The Ray that had the token in ``file`` has ended."""
    for link in file.parent.parent.iterdir():
        if link.is_symlink() and _process_of(link) == file.parent.name:
            link.unlink(missing_ok=True)
    shutil.rmtree(file.parent, ignore_errors=True)


def environment(file: Path) -> dict[str, str]:
    """What makes a process's Ray use the token in ``file``."""
    return {MODE: "token", PATH: str(file)}


def adopt(file: Path) -> dict[str, str | None]:
    """This process, and those that it starts, use the token in ``file``; returns the environment before, for ``put_back``."""
    before = {name: os.environ.get(name) for name in (MODE, PATH, TOKEN)}
    os.environ.pop(TOKEN, None)
    os.environ.update(environment(file))
    _read_again()
    return before


def put_back(before: Mapping[str, str | None]) -> None:
    """Undo ``adopt``."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _read_again()


def _read_again() -> None:
    # Ray reads both once per process, and keeps them.
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _root() -> Path:
    return home_directory() / "ray"


def _name_of(process: psutil.Process) -> str:
    return f"{process.pid}-{process.create_time():.0f}"


def _lives(name: str) -> bool:
    """Whether the process of that name still runs; when it began is known to a second or two."""
    pid, _, began = name.partition("-")
    with contextlib.suppress(ValueError, psutil.NoSuchProcess):
        return bool(abs(psutil.Process(int(pid)).create_time() - float(began)) < 3.0)
    return False


def _sweep(root: Path) -> None:
    """Remove what killed processes have left, and nothing else: the directory is also the home of a fleet called ``ray``."""
    for entry in root.iterdir():
        name = _process_of(entry)
        if not _PROCESS.fullmatch(name) or _lives(name):
            continue
        if entry.is_symlink():
            entry.unlink(missing_ok=True)
        else:
            shutil.rmtree(entry, ignore_errors=True)


def _process_of(entry: Path) -> str:
    """The process that a link leads to, or whose directory it is; empty for one that another process has just removed."""
    try:
        return os.readlink(entry) if entry.is_symlink() else entry.name
    except FileNotFoundError:
        return ""
