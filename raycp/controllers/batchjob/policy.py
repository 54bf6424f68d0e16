"""What a failed Pod means (``podFailurePolicy``, KEP-3329), and when a job succeeds (``successPolicy``, KEP-3998)."""

from collections.abc import Collection

from raycp.controllers.batchjob import indexes
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.types import BatchJobSpec, ExitCodes, FailureRule


def action_for(pod: JobPod, spec: BatchJobSpec) -> tuple[str, str]:
    """(FailJob | FailIndex | Ignore | Count, why). Count where no rule matches."""
    for at, rule in enumerate(spec.pod_failure_policy.rules if spec.pod_failure_policy else ()):
        why = _matches(pod, rule)
        if why:
            return rule.action, f"Pod {pod.name} {why}, rule {at}"
    return "Count", f"Pod {pod.name} failed"


def success_met(spec: BatchJobSpec, completed: Collection[int]) -> str:
    """The rule of ``successPolicy`` that is met, as a sentence; empty where none is."""
    for at, rule in enumerate(spec.success_policy.rules if spec.success_policy else ()):
        counted = set(completed)
        needed = rule.succeeded_count
        if rule.succeeded_indexes is not None:
            wanted = indexes.parse(rule.succeeded_indexes)
            counted &= wanted
            needed = len(wanted) if needed is None else needed
        if needed is not None and len(counted) >= needed:
            return f"successPolicy rule {at} is met"
    return ""


def _matches(pod: JobPod, rule: FailureRule) -> str:
    status = pod.raw.get("status") or {}
    for wanted in rule.on_pod_conditions:
        for condition in status.get("conditions") or ():
            if condition.get("type") == wanted.type and condition.get("status") == wanted.status:
                return f"has condition {wanted.type}={wanted.status}"
    if rule.on_exit_codes is not None:
        statuses = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
        for container in statuses:
            code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode")
            if code and _code_matches(container.get("name"), code, rule.on_exit_codes):
                return f"ended with exit code {code} in {container.get('name')}"
    return ""


def _code_matches(container: str | None, code: int, wanted: ExitCodes) -> bool:
    if wanted.container_name is not None and wanted.container_name != container:
        return False
    return (code in wanted.values) == (wanted.operator == "In")
