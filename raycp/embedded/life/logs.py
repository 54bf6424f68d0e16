"""The log of a simulated container: the output of its command, or lines about its start and end."""

from datetime import UTC, datetime
from typing import Any

from raycp.embedded.life.environ import environment_of
from raycp.embedded.life.failures import PREFIX, command_of
from raycp.embedded.life.seams import unix

Line = tuple[float, str]


def lines_of(pod: dict[str, Any], container: str) -> list[Line]:
    """(Unix seconds, text) of each line: pure. The annotation ``embedded.raycp.io/log`` replaces the text."""
    status = pod.get("status") or {}
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    found = next((c for c in every if c["name"] == container), None)
    state: dict[str, Any] = (found or {}).get("state") or {}
    times = state.get("running") or state.get("terminated") or {}
    if not times.get("startedAt"):
        return []
    begin = unix(times["startedAt"])
    end = unix(times["finishedAt"]) if times.get("finishedAt") else begin
    noted = (pod["metadata"].get("annotations") or {}).get(PREFIX + "log")
    if noted is not None:
        return [(begin, line) for line in noted.splitlines()]
    first = (pod["spec"].get("containers") or [{}])[0]
    script = command_of(pod["spec"], environment_of(pod, first)) if first.get("name") == container else None
    if script is not None:
        return [(begin, line) for line in script.lines]
    lines = [(begin, f"{pod['metadata']['name']}/{container} started")]
    if "terminated" in state:
        lines.append((end, f"{pod['metadata']['name']}/{container} exited with code {state['terminated']['exitCode']}"))
    return lines


def logs(pod: dict[str, Any], container: str, parameters: dict[str, str]) -> bytes:
    """The log of a container. Supported parameters: ``timestamps``, ``tailLines``, ``limitBytes``, ``sinceTime``, ``previous``."""
    if parameters.get("previous") in ("true", "1"):
        return b""
    lines = lines_of(pod, container)
    since = parameters.get("sinceTime")
    if since:
        lines = [line for line in lines if line[0] >= unix(since)]
    tail = parameters.get("tailLines")
    if tail is not None:
        lines = lines[max(0, len(lines) - int(tail)) :]
    stamped = parameters.get("timestamps") in ("true", "1")
    text = "".join(f"{_stamp(at)} {line}\n" if stamped else f"{line}\n" for at, line in lines).encode()
    limit = parameters.get("limitBytes")
    return text[: int(limit)] if limit is not None else text


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
