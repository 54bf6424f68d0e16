"""Ray's job server: submit a fleet's job, or join one that runs, and follow its log to its end."""

import asyncio
import contextlib
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raycp.protocol.control.codec import first_line

ANSWER_WITHIN = 4.0
"""How long the job server may take for its first answer, in seconds."""

SILENT_FOR = 30.0
"""How long the job server may be silent while the job runs, in seconds: its head may be restarting."""

AGENT_WITHIN = 60.0
"""How long a new head is given to bring up its agent for jobs, in seconds."""


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
        await _submit(client, identity, fleet, generation, directory, command)
        notify(f"submitted job {identity}")
    async for text in client.tail_job_logs(identity):
        for line in text.splitlines():
            notify(line)
    state = await _state(client, identity)
    while state in (JobStatus.PENDING, JobStatus.RUNNING):  # as long as the job lasts: its log may have been cut
        await asyncio.sleep(0.2)
        state = await _state(client, identity)
    if state is not JobStatus.SUCCEEDED:
        info = await asyncio.to_thread(client.get_job_info, identity)
        raise JobError(f"job {identity} ended as {state.value}: {info.message or 'see its log above'}")
    return identity, state.value


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


async def _submit(client: Any, identity: str, fleet: str, generation: str, directory: Path, command: str) -> None:
    """Hand the job in. A head that has just started has no agent for jobs yet: that is waited for."""
    runtime_env = {"working_dir": str(directory), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", "PYTHONUNBUFFERED": "1"}}
    deadline = asyncio.get_running_loop().time() + AGENT_WITHIN
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
            if "No available agent" not in text or asyncio.get_running_loop().time() > deadline:
                raise JobError(f"Ray refuses the job: {text}") from error
        await asyncio.sleep(0.5)
