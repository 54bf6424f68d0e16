"""A fleet as a Ray job: the job brings the fleet up and succeeds; the fleet's detached actors outlive it."""

import contextlib
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from raycp.driver.fleet_client import FleetError
from raycp.runtime import job_client

MAX_BYTES = 100 * 1024 * 1024

DOCUMENT = "fleet.yaml"
"""The fleet file in a job's working directory."""

DASHBOARD = "http://127.0.0.1:8265"
"""Ray's dashboard with its job server, as ``ray start --head`` starts it."""

_LEFT_OUT = ("__pycache__", "node_modules", "*.pyc", "*.egg-info", "venv", "dist", "build")


@contextlib.contextmanager
def staged(document: str, working_dir: Path) -> Iterator[Path]:
    """A directory to send along: the working directory's files, without hidden ones and environments, and the
    fleet file (``document``, canonical, so that its paths no longer depend on where it lay) as ``DOCUMENT``. Links are followed,
    unless they lead to a directory that they lie in.

    Raises ``FleetError`` where that is more than ``MAX_BYTES``, or can't be read.
    """

    def ignore(directory: str, names: list[str]) -> set[str]:
        left_out = set(shutil.ignore_patterns(*_LEFT_OUT)(directory, names))
        left_out |= {name for name in names if name.startswith(".") or (name == DOCUMENT and Path(directory) == working_dir)}
        left_out |= {name for name in names if (Path(directory) / name / "pyvenv.cfg").exists()}
        inside = {os.path.realpath(each) for each in (Path(directory), *Path(directory).parents)}
        left_out |= {name for name in names if os.path.realpath(os.path.join(directory, name)) in inside}
        return left_out | {
            name for name in names if not (Path(directory) / name).is_dir() and not (Path(directory) / name).is_file()
        }

    with tempfile.TemporaryDirectory(prefix="raycp-job-") as name:
        target = Path(name) / "job"
        size = 0
        try:
            for root, directories, files in os.walk(working_dir, followlinks=True):
                left_out = ignore(root, [*directories, *files])
                directories[:] = [each for each in directories if each not in left_out]
                size += sum((Path(root) / each).stat().st_size for each in files if each not in left_out)
                if size > MAX_BYTES:
                    raise FleetError(
                        f"the working directory {working_dir} has more than {MAX_BYTES // 1024 // 1024} MiB to send: "
                        "name a smaller one with --working-dir, or bake the modules into the nodes' image"
                    )
            shutil.copytree(working_dir, target, ignore=ignore)
        except shutil.Error as error:  # one line for each file
            source, _, why = error.args[0][0]
            raise FleetError(f"{source} can't be sent: {why}. Name another directory with --working-dir") from error
        (target / DOCUMENT).write_text(document)
        yield target


def entrypoint(address: str, python: str | None, command: Sequence[str] = ("run",)) -> str:
    """The job's command line: ``command`` with the fleet file and the modules that are sent along. On this machine's own Ray its
    Python is ours, elsewhere the one on the nodes' path."""
    if python is None:
        host = urlsplit(address).hostname or ""
        try:
            local = host == "localhost" or socket.gethostbyname(host) in {"127.0.0.1", socket.gethostbyname(socket.gethostname())}
        except OSError:
            local = False
        python = sys.executable if local else "python"
    return " ".join([shlex.quote(python), "-m raycp.cli.main", *command, f"-c {DOCUMENT} --address auto --working-dir ."])


def submission_id(fleet: str, generation: str, known: dict[str, str]) -> tuple[str, bool]:
    """(id to use, whether such a job runs already).

    One id per generation and try: an id can be used once in a Ray cluster's life, so after a job that has ended comes the
    next try; a job that still runs is joined. ``known`` maps ids to job states.
    """
    base = f"raycp-{fleet}-{generation}"
    tries = {}
    for name, state in known.items():
        match = re.fullmatch(rf"{re.escape(base)}(?:-(\d+))?", name)
        if match:
            tries[int(match[1] or 1)] = state
    if not tries:
        return base, False
    last = max(tries)
    if tries[last] in ("PENDING", "RUNNING"):
        return (base if last == 1 else f"{base}-{last}"), True
    return f"{base}-{last + 1}", False


def job_server(address: str, environment: Mapping[str, str]) -> str:
    """``http://HOST:PORT`` of the job server: of ``address``, else of the Ray that the environment names, else of this machine.

    Blocks. Raises ``FleetError``.
    """
    try:
        return job_client.server_url(address or job_client.named_by(environment) or DASHBOARD)
    except job_client.JobError as error:
        raise FleetError(str(error)) from error


async def submit(
    address: str, fleet: str, generation: str, directory: Path, command: str, notify: Callable[[str], None]
) -> tuple[str, str]:
    """Submit (or join) the job and follow its log to its end; (submission id, final state). Raises ``FleetError``."""
    try:
        return await job_client.submit(
            address, fleet, generation, directory, command, notify, lambda known: submission_id(fleet, generation, known)
        )
    except job_client.JobError as error:
        raise FleetError(str(error)) from error
