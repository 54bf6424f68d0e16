"""Ray's job server: submit a fleet's job, or join one that runs, and follow its log to its end."""

import asyncio
import contextlib
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from raycp.protocol.control.codec import first_line
from raycp.runtime.head import silence

ANSWER_WITHIN = 4.0
"""How long the job server may take for its first answer, in seconds."""

SILENT_FOR = 30.0
"""How long the job server may be silent while the job runs, in seconds: its head may be restarting."""

AGENT_WITHIN = 60.0
"""How long a new head is given to bring up its agent for jobs, in seconds."""

AGENT_PORT = 52365
"""The agent's, unless ``ray start`` is told another (``DEFAULT_DASHBOARD_AGENT_LISTEN_PORT`` of Ray). An agent that finds its port
taken goes on without its part for jobs, and says so in ``dashboard_agent.log`` only."""


Pick = Callable[[dict[str, str]], tuple[str, bool]]
"""From the states of known jobs, by id: the id to use, and whether such a job runs already."""


class JobError(Exception):
    """A job could not be submitted, or failed; the message says why and what to do."""


async def submit(
    address: str, fleet: str, generation: str, directory: Path, command: str, notify: Callable[[str], None], pick: Pick
) -> tuple[str, str]:
    """Submit (or join) the job and follow its log to its end; (submission id, final state). Raises ``JobError``."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    for name in ("ray", "ray.dashboard", "ray.dashboard.modules"):  # notes on packaging are not the user's business
        logging.getLogger(name).setLevel(logging.WARNING)

    def connect() -> Any:
        with contextlib.suppress(urllib.error.HTTPError):  # an answer; Ray's client, which knows no deadline, judges it
            urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=ANSWER_WITHIN).close()
        with _unnamed():
            return JobSubmissionClient(address)

    try:
        client = await asyncio.to_thread(connect)
        jobs = await asyncio.to_thread(client.list_jobs)
    except Exception as error:
        text = first_line(error)
        raise JobError(
            f"no Ray job server answers at {address}: {text}. Start Ray (`ray start --head`), or correct --address"
        ) from error
    known = {
        job.submission_id: str(job.status.value if isinstance(job.status, JobStatus) else job.status)
        for job in jobs
        if job.submission_id
    }
    identity, joined = pick(known)
    if joined:
        notify(f"job {identity} is under way already; following it")
    else:
        await _submit(client, identity, fleet, generation, directory, command, notify)
        notify(f"submitted job {identity}")
    shown = await _follow(client, identity, notify)
    state = await _state(client, identity)
    while state in (JobStatus.PENDING, JobStatus.RUNNING):  # as long as the job lasts: its log may have been cut
        await asyncio.sleep(0.2)
        state = await _state(client, identity)
    await _show_rest(client, identity, shown, notify)
    if state is not JobStatus.SUCCEEDED:
        info = await asyncio.to_thread(client.get_job_info, identity)
        raise JobError(f"job {identity} ended as {state.value}: {info.message or 'see its log above'}")
    return identity, state.value


_NAMES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@contextlib.contextmanager
def _unnamed() -> Iterator[None]:
    """Ray's client takes these variables before the address that it is given."""
    kept = {name: os.environ.pop(name) for name in _NAMES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def named_by(environment: Mapping[str, str]) -> str:
    """The Ray that the environment names to those who submit jobs, as ``http://HOST:8265`` or ``HOST:6379``; empty where none."""
    return next((found for name in _NAMES if (found := environment.get(name, "")) not in ("", "auto", "local")), "")


def server_url(address: str) -> str:
    """``http://HOST:PORT`` of the job server of the Ray whose head is ``HOST:PORT``; a URL stays. Blocks. Raises ``JobError``."""
    from ray.dashboard.utils import ray_address_to_api_server_url

    if "://" in address:
        return address
    if why := silence(address):
        raise JobError(f"no Ray answers at {address}: {why}. Name its job server with --address http://HOST:8265")
    try:
        return str(ray_address_to_api_server_url(address))
    except Exception as error:  # Ray's own, of any type
        raise JobError(f"the Ray at {address} names no job server: {first_line(error)}. Start it with its dashboard") from error


async def _follow(client: Any, identity: str, notify: Callable[[str], None]) -> int:
    """Show the job's log for as long as Ray streams it; how many characters that were."""
    shown = 0
    try:
        async for text in client.tail_job_logs(identity):
            shown += len(text)
            for line in text.splitlines():
                notify(line)
    except Exception as error:  # Ray's own, of any type: the job goes on
        notify(f"the log of job {identity} can't be followed any longer: {first_line(error)}")
    return shown


async def _show_rest(client: Any, identity: str, shown: int, notify: Callable[[str], None]) -> None:
    """Show what the stream of an ended job's log has left out: Ray may end it before the last lines."""
    try:
        async with asyncio.timeout(SILENT_FOR):
            log = await asyncio.to_thread(client.get_job_logs, identity)
    except Exception as error:  # the state of the job is known without it
        notify(f"the end of the log of job {identity} can't be read: {first_line(error)}")
        return
    for line in log[shown:].splitlines():
        notify(line)


async def _state(client: Any, identity: str) -> Any:
    """The job's state. Raises ``JobError`` where the server is silent for ``SILENT_FOR`` seconds."""
    now = asyncio.get_running_loop().time
    deadline = now() + SILENT_FOR
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.to_thread(client.get_job_status, identity)
        except Exception as error:
            if now() >= deadline:
                why = first_line(error) or "no answer"
                raise JobError(f"Ray's job server was silent for {SILENT_FOR:g} s: {why}; job {identity} may go on") from error
        await asyncio.sleep(0.5)


async def _submit(
    client: Any, identity: str, fleet: str, generation: str, directory: Path, command: str, notify: Callable[[str], None]
) -> None:
    """Hand the job in. A head that has just started has no agent for jobs yet: that is waited for."""
    runtime_env = {"working_dir": str(directory), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", "PYTHONUNBUFFERED": "1"}}
    deadline = asyncio.get_running_loop().time() + AGENT_WITHIN
    waits = False
    while True:
        try:
            await asyncio.to_thread(
                client.submit_job,
                entrypoint=command,
                submission_id=identity,
                runtime_env=runtime_env,
                metadata={"raycp.io/fleet": fleet, "raycp.io/generation": generation},
            )
            return
        except Exception as error:
            text = first_line(error)
            if "No available agent" not in text:
                raise JobError(f"Ray refuses the job: {text}") from error
            if asyncio.get_running_loop().time() > deadline:
                raise JobError(
                    f"no node of this Ray has an agent for jobs after {AGENT_WITHIN:g} s: its port, {AGENT_PORT} by default, may "
                    "be taken there by another process. Free it, or start Ray with another --dashboard-agent-listen-port"
                ) from error
            if not waits:
                notify(f"waiting for an agent for jobs: it listens on port {AGENT_PORT} of each node by default")
            waits = True
        await asyncio.sleep(0.5)
