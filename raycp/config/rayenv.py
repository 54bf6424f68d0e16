"""Settings of Ray that bound the gaps after a failure. Plain data.

Ray reads them when its processes start, so they must be in the environment of ``ray start`` on every node; raycp sets
them for a Ray that it starts itself.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

RAY_ENV: dict[str, str] = {
    "RAY_timeout_ms_task_wait_for_death_info": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_worker_niceness": "0",
}
"""With these, an actor's death is reported after 6 ms instead of 2 s and a lost node after 3.3 s instead of 14 s (frozen:
7.9 s instead of 65 s), and actors run at normal priority instead of nice 15."""


def missing_settings(environment: Mapping[str, str]) -> list[str]:
    """``NAME=value`` of each setting that is missing or different in the environment of a Ray process."""
    return [f"{name}={value}" for name, value in RAY_ENV.items() if environment.get(name) != value]


def local_ray_environments(proc: Path = Path("/proc")) -> list[dict[str, str]]:
    """The environments of the raylets and GCS servers on this machine that this process may read."""
    found: list[dict[str, str]] = []
    for entry in proc.glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() not in ("raylet", "gcs_server"):
                continue
            raw = (entry / "environ").read_bytes()
        except OSError:
            continue
        pairs = (os.fsdecode(item).partition("=") for item in raw.split(b"\0") if item)
        found.append({key: value for key, _, value in pairs})
    return found


def unfit_python(executable: str) -> str:
    """Why no process of a fleet starts with this Python, and the remedy; empty where it does. Ray starts each process that has a
    ``runtime_env`` with a line for a shell in which the path is not quoted (``ray/_private/runtime_env/context.py``)."""
    if shlex.quote(executable) == executable:
        return ""
    return (
        f"Ray starts no worker with the Python {executable}, since its path has a space or another character that a shell reads; "
        "make the virtual environment in a folder without one (it can't be moved), and install raycp there"
    )
