"""The table row of a Pod (``printPod`` in ``pkg/printers/internalversion/printers.go``)."""

from typing import Any

from raycp.embedded.ages import age
from raycp.embedded.tablecells import NONE, Object, name_age


def pod_row(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    reason = status.get("reason") or status.get("phase", "")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    restarts = 0
    last_restart = ""
    ready = 0
    sidecars = {c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or ()) + len(sidecars)
    initializing = False
    for index, one in enumerate(status.get("initContainerStatuses") or ()):
        restarts += one.get("restartCount", 0)
        state = one.get("state") or {}
        ended = state.get("terminated")
        if one.get("name") in sidecars and one.get("started"):
            ready += bool(one.get("ready"))
            continue
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if ended is not None:
            text = ended.get("reason") or _ended(ended)
            reason = f"Init:{text}"
        elif (state.get("waiting") or {}).get("reason") not in (None, "", "PodInitializing"):
            reason = f"Init:{state['waiting']['reason']}"
        else:
            reason = f"Init:{index}/{len(spec.get('initContainers') or ())}"
        initializing = True
        break
    if not initializing:
        restarts = 0 if not sidecars else restarts
        running = False
        for one in reversed(status.get("containerStatuses") or ()):
            restarts += one.get("restartCount", 0)
            state = one.get("state") or {}
            finished = ((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
            last_restart = max(last_restart, finished)
            waiting, ended = state.get("waiting"), state.get("terminated")
            if waiting and waiting.get("reason"):
                reason = waiting["reason"]
            elif ended is not None:
                reason = ended.get("reason") or _ended(ended)
            elif one.get("ready") and state.get("running") is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or ()}
            reason = "Running" if conditions.get("Ready") == "True" else "NotReady"
    if obj["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    restart_cell = f"{restarts} ({age(last_restart, now)} ago)" if restarts and last_restart else str(restarts)
    gates = spec.get("readinessGates") or ()
    shown_gates = NONE
    if gates:
        met = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
        shown_gates = f"{sum(1 for g in gates if g.get('conditionType') in met)}/{len(gates)}"
    addresses = status.get("podIPs") or ()
    return [
        *name_age(obj, now, f"{ready}/{total}", reason, restart_cell),
        (addresses[0].get("ip") if addresses else status.get("podIP")) or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        shown_gates,
    ]


def _ended(state: Object) -> str:
    if state.get("signal"):
        return f"Signal:{state['signal']}"
    return f"ExitCode:{state.get('exitCode', 0)}"
