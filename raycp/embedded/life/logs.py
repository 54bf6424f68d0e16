"""The log of a simulated container: the output of its command, or lines about its start and end."""

from datetime import UTC, datetime
from typing import Any

from raycp.embedded.errors import bad_request
from raycp.embedded.life.environ import environment_of
from raycp.embedded.life.failures import PREFIX, command_of
from raycp.embedded.life.seams import unix
from raycp.embedded.logparameters import LogParameters

Line = tuple[float, str]


_UNPULLED = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}


def lines_of(pod: dict[str, Any], container: str, previous: bool = False) -> list[Line]:
    """(Unix seconds, text) of each line of a container, or of its ``previous`` run: pure. The annotation
    ``embedded.raycp.io/log`` replaces the text. Raises ``StatusError`` 400 if there is no such run (``validateContainerLogStatus``
    of kubelet)."""
    status = pod.get("status") or {}
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    found: dict[str, Any] = next((c for c in every if c["name"] == container), {})
    state: dict[str, Any] = found.get("state") or {}
    which, last = f'container "{container}" in pod "{pod["metadata"]["name"]}"', found.get("lastState") or {}
    if previous:
        if not last.get("terminated"):
            raise bad_request(f"previous terminated {which} not found")
        state = last
    elif not state.get("running") and not state.get("terminated"):
        if not last.get("terminated"):
            reason = (state.get("waiting") or {}).get("reason") or ""
            told = f"waiting to start: {_UNPULLED.get(reason, reason)}" if reason else "not available"
            raise bad_request(f"{which} is {told}")
        state = last  # while it backs off, that is what there is
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


def logs(pod: dict[str, Any], container: str, parameters: LogParameters) -> bytes:
    """The log of a container. Raises ``StatusError`` 400 if it has none."""
    lines = lines_of(pod, container, parameters.previous)
    if parameters.since is not None:
        lines = [line for line in lines if line[0] >= parameters.since]
    if parameters.tail is not None:
        lines = lines[max(0, len(lines) - parameters.tail) :]
    text = "".join(f"{_stamp(at)} {line}\n" if parameters.stamped else f"{line}\n" for at, line in lines).encode()
    return text if parameters.limit is None else text[: parameters.limit]


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
