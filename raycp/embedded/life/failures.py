"""The plan of a simulated Pod: when it starts, how long it runs, how it ends. Pure; equal seeds give equal plans.

In order of precedence:

1. annotations on the Pod: ``embedded.raycp.io/startup-delay`` and ``/runtime`` (Go durations; runtime ``never`` never
   ends), ``/exit-code``, ``/failure-probability`` (0 to 1, or ``30%``), ``/reason``, ``/message``, ``/image-pull-error``;
2. the command of its first container, if it is one of the usual ones for trying things out: ``sleep N``,
   ``exit N``, ``true``, ``false``, ``echo``, ``date``, also as ``sh -c`` with ``;`` and ``&&`` between them;
3. the cluster's ``startupDelay``, ``podRuntime`` and ``failureRate``.

An image of a registry in the domain ``.invalid`` (RFC 2606) can not be pulled.

A random draw depends on (seed, namespace, name, restart count) alone, so that a run is repeatable.
"""

import random
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raycp.embedded.life.environ import ShellText, environment_of, expanded
from raycp.embedded.life.stagefile import seconds_of

PREFIX = "embedded.raycp.io/"
LONGEST_BACKOFF = 300.0
"""seconds; kubelet's longest back-off between restarts"""


_NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Rates:
    """The cluster's own defaults. Seconds; ``failure_rate`` from 0 to 1."""

    startup_delay: float = 0.0
    pod_runtime: float | None = 2.0
    failure_rate: float = 0.0
    seed: int = 0
    nodeless: bool = False
    """whether Pods run without being bound (a cluster without nodes)"""


def plan(pod: Mapping[str, Any], rates: Rates) -> dict[str, Any]:
    """The ``.raycp`` of stages: startup, runtime, backoff (seconds), starts, pulls, ends, restarts (bool), phase, exitCode,
    reason, message, restartCount, unpulled (the container whose image can not be pulled), pullError, pullState (what that
    container waits for)."""
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    notes: Mapping[str, str] = meta.get("annotations") or {}
    policy = spec.get("restartPolicy", "Always")
    restarts = max((int(c.get("restartCount") or 0) for c in status.get("containerStatuses") or []), default=0)
    script = command_of(spec, _environment(pod))
    unpulled, pull_error = pull_failure(pod)
    runtime, code = _runtime(notes, script, policy, rates), _exit_code(notes, script)
    if runtime is not None and code == 0 and script is None:
        share = _share(notes.get(PREFIX + "failure-probability"), rates.failure_rate)
        if share > 0:
            draw = random.Random(f"{rates.seed}/{meta.get('namespace', '')}/{meta['name']}/{restarts}").random()
            code = 1 if draw < share else 0
    again = runtime is not None and (policy == "Always" or (policy == "OnFailure" and code != 0))
    phase, reason, message = ("Succeeded", "Completed", "") if code == 0 else ("Failed", "Error", "")
    pod_reason = pod_message = ""
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and (runtime is None or float(deadline) < runtime):
        runtime, code, again, phase = float(deadline), 137, False, "Failed"
        pod_reason, pod_message = "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
        reason = "Error"
    return {
        "starts": bool(spec.get("nodeName")) or rates.nodeless,
        "pulls": not unpulled,
        "unpulled": unpulled,
        "pullError": pull_error,
        "pullState": _pull_state(status, unpulled) if unpulled else "",
        "startup": _seconds(notes.get(PREFIX + "startup-delay"), rates.startup_delay),
        "runtime": runtime if runtime is not None else 0.0,
        "ends": runtime is not None and not again,
        "restarts": again,
        "backoff": min(LONGEST_BACKOFF, 10.0 * 2 ** max(0, restarts - 1)),
        "restartCount": restarts,
        "phase": phase,
        "exitCode": code,
        "reason": notes.get(PREFIX + "reason") or reason,
        "message": notes.get(PREFIX + "message") or message,
        "podReason": pod_reason,
        "podMessage": pod_message,
    }


def pull_failure(pod: Mapping[str, Any]) -> tuple[str, str]:
    """The container whose image can not be pulled, and why, as containerd says it; empty if all can be."""
    spec = pod.get("spec") or {}
    every = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    noted = (pod["metadata"].get("annotations") or {}).get(PREFIX + "image-pull-error")
    if noted is not None and every:
        return every[0]["name"], noted or f"{_unpacked(every[0].get('image') or '')}: not found"
    for one in every:
        image = one.get("image") or ""
        host, slash, rest = image.partition("/")
        name = host.partition(":")[0]
        if slash and name.endswith(".invalid"):
            path, _, tag = rest.partition(":")
            request = f'failed to do request: Head "https://{host}/v2/{path}/manifests/{tag or "latest"}"'
            return one["name"], f"{_unpacked(image)}: {request}: dial tcp: lookup {name}: no such host"
    return "", ""


def _pull_state(status: Mapping[str, Any], container: str) -> str:
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = [(one.get("state") or {}).get("waiting") for one in every if one.get("name") == container]
    return str((waiting[0] or {}).get("reason") or "none") if waiting else "none"


def _unpacked(image: str) -> str:
    return f'failed to pull and unpack image "{image}": failed to resolve reference "{image}"'


def _environment(pod: Mapping[str, Any]) -> Mapping[str, str]:
    containers = (pod.get("spec") or {}).get("containers") or ()
    return environment_of(pod, containers[0]) if containers else {}


@dataclass(frozen=True)
class Script:
    """The effect of a well-known command: seconds of sleep, exit code, printed lines."""

    seconds: float
    code: int
    lines: tuple[str, ...]


def command_of(spec: Mapping[str, Any], variables: Mapping[str, str] = _NONE) -> Script | None:
    """The script of the first container, whose environment is ``variables``; None for a command that is not supported."""
    containers = spec.get("containers") or []
    if not containers:
        return None
    words = [*(containers[0].get("command") or []), *(containers[0].get("args") or [])]
    if not words:
        return None
    words = [expanded(str(word), variables) for word in words]
    if words[0].rsplit("/", 1)[-1] in ("sh", "bash", "ash") and len(words) >= 3 and words[1].startswith("-") and "c" in words[1]:
        script = ShellText(words[2], variables)
        try:
            parts = [shlex.split(part, comments=True) for part in re.split(r";|&&|\n", script.text)]
            lines = [[script.filled(word) for word in part] for part in parts]
        except ValueError:
            return None
    else:
        lines = [words]
    seconds = 0.0
    printed: list[str] = []
    for line in lines:
        if not line:
            continue
        name, arguments = line[0].rsplit("/", 1)[-1], line[1:]
        if name == "sleep" and len(arguments) == 1 and re.fullmatch(r"\d+(\.\d+)?[smh]?", arguments[0]):
            number = arguments[0]
            seconds += float(number.rstrip("smh")) * {"m": 60.0, "h": 3600.0}.get(number[-1], 1.0)
        elif name == "sleep" and arguments in (["infinity"], ["inf"]):
            return Script(float("inf"), 0, tuple(printed))
        elif name == "exit" and len(arguments) <= 1 and (not arguments or arguments[0].isdigit()):
            return Script(seconds, int(arguments[0]) & 255 if arguments else 0, tuple(printed))
        elif name == "false":
            return Script(seconds, 1, tuple(printed))
        elif name in ("true", ":", "date", "set"):
            continue
        elif name == "echo":
            printed.append(" ".join(arguments[1:] if arguments[:1] == ["-n"] else arguments))
        else:
            return None
    return Script(seconds, 0, tuple(printed))


def _runtime(notes: Mapping[str, str], script: Script | None, policy: str, rates: Rates) -> float | None:
    """Seconds from Running to the end; None: it never ends."""
    noted = notes.get(PREFIX + "runtime")
    if noted is not None:
        return None if noted == "never" else _seconds(noted, rates.pod_runtime or 0.0)
    if script is not None:
        return None if script.seconds == float("inf") else script.seconds
    if PREFIX + "exit-code" not in notes and policy == "Always":
        return None
    return rates.pod_runtime


def _exit_code(notes: Mapping[str, str], script: Script | None) -> int:
    noted = notes.get(PREFIX + "exit-code", "")
    if noted.strip().isdigit():
        return int(noted) & 255
    return script.code if script is not None else 0


def _seconds(text: str | None, otherwise: float) -> float:
    found = seconds_of(text, 0.0) if text else None
    return otherwise if found is None else max(0.0, found)


def _share(text: str | None, otherwise: float) -> float:
    if not text:
        return otherwise
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return otherwise
