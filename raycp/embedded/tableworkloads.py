"""Table rows of workload kinds (``pkg/printers/internalversion/printers.go``)."""

from typing import Any

from raycp.embedded.ages import UNKNOWN, age, duration
from raycp.embedded.strategy.scalars import unix_time
from raycp.embedded.tablecells import NONE, Object, container_cells, label_cell, name_age, selector_cell


def deployment_row(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    cells = [ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [*name_age(obj, now, *cells), *container_cells(spec.get("template")), selector_cell(spec.get("selector"))]


def replicas_row(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    selector = spec.get("selector")
    shown = label_cell(selector) if obj["kind"] == "ReplicationController" else selector_cell(selector)
    cells = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [*name_age(obj, now, *cells), *container_cells(spec.get("template")), shown]


def stateful_set_row(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [*name_age(obj, now, ready), *container_cells(spec.get("template"))]


def daemon_set_row(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    keys = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    nodes = label_cell(((spec.get("template") or {}).get("spec") or {}).get("nodeSelector"))
    cells = [*(status.get(key, 0) for key in keys), nodes]
    return [*name_age(obj, now, *cells), *container_cells(spec.get("template")), selector_cell(spec.get("selector"))]


def job_row(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    done = status.get("succeeded", 0)
    progress = (
        f"{done}/{completions}" if completions is not None else f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"
    )
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    state = "Running"
    for kind, word in (
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("deletion", "Terminating"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if kind in true or (kind == "deletion" and obj["metadata"].get("deletionTimestamp")):
            state = word
            break
    took = ""
    if status.get("startTime"):
        end = status.get("completionTime")
        took = duration((unix_time(end) if end else now) - unix_time(status["startTime"]))
    cells = [state, progress, took]
    return [*name_age(obj, now, *cells), *container_cells(spec.get("template")), selector_cell(spec.get("selector"))]


def cron_job_row(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    last = status.get("lastScheduleTime")
    template = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template")
    suspended = "True" if spec.get("suspend") else "False"
    shown = age(last, now) if last else NONE
    cells = [spec.get("schedule", ""), spec.get("timeZone") or NONE, suspended, len(status.get("active") or ()), shown]
    selector = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("selector")
    return [*name_age(obj, now, *cells), *container_cells(template), selector_cell(selector)]


def autoscaler_row(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ref = spec.get("scaleTargetRef") or {}
    targets = []
    current = {m.get("type"): m for m in status.get("currentMetrics") or ()}
    for metric in spec.get("metrics") or ():
        own = metric.get("resource") or {}
        wanted = (own.get("target") or {}).get("averageUtilization")
        seen = ((current.get("Resource") or {}).get("resource") or {}).get("current") or {}
        if wanted is not None:
            now_at = seen.get("averageUtilization")
            targets.append(f"{own.get('name')}: {UNKNOWN if now_at is None else f'{now_at}%'}/{wanted}%")
    bounds = [str(spec.get("minReplicas", "<unset>")), spec.get("maxReplicas", 0), status.get("currentReplicas", 0)]
    reference = f"{ref.get('kind', '')}/{ref.get('name', '')}"
    return name_age(obj, now, reference, ", ".join(targets) or NONE, *bounds)


def revision_row(obj: Object, now: float) -> list[Any]:
    owners = obj["metadata"].get("ownerReferences") or ()
    owner = next((o for o in owners if o.get("controller")), None)
    shown_owner = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = owner.get("kind", "").lower()
        shown_owner = f"{kind}.{group}/{owner.get('name', '')}" if group else f"{kind}/{owner.get('name', '')}"
    return name_age(obj, now, shown_owner, obj.get("revision", 0))
