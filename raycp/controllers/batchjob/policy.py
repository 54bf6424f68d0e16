"""What a failed Pod means (``podFailurePolicy``, KEP-3329), and when a job succeeds (``successPolicy``, KEP-3998)."""

from raycp.controllers.batchjob.indexes import IndexSet
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.types import BatchJobSpec, ExitCodes, FailureRule


def action_for(pod: JobPod, spec: BatchJobSpec, namespace: str) -> tuple[str, str]:
    """(FailJob | FailIndex | Ignore | Count, why, in the Job controller's words). Count where no rule matches."""
    for at, rule in enumerate(spec.pod_failure_policy.rules if spec.pod_failure_policy else ()):
        why = _matches(pod, rule, f"{namespace}/{pod.name}")
        if why:
            return rule.action, f"{why} matching {rule.action} rule at index {at}"
    return "Count", ""


def success_met(spec: BatchJobSpec, completed: IndexSet) -> str:
    """The rule of ``successPolicy`` that is met, as a sentence; empty where none is. As in the Job controller's
    ``matchSuccessPolicy``, none is met before the first success, and one that names no index never."""
    for at, rule in enumerate(spec.success_policy.rules if spec.success_policy and completed else ()):
        counted, needed = len(completed), rule.succeeded_count
        if rule.succeeded_indexes is not None:
            wanted = IndexSet.read(rule.succeeded_indexes, spec.size)
            if not wanted:
                continue
            counted = completed.common(wanted)
            needed = len(wanted) if needed is None else needed
        if needed is not None and counted >= needed:
            return f"Matched rules at index {at}"
    return ""


def _matches(pod: JobPod, rule: FailureRule, name: str) -> str:
    status = pod.raw.get("status") or {}
    for wanted in rule.on_pod_conditions:
        for condition in status.get("conditions") or ():
            if condition.get("type") == wanted.type and condition.get("status") == wanted.status:
                return f"Pod {name} has condition {wanted.type}"
    if rule.on_exit_codes is not None:
        statuses = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
        for container in statuses:
            code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode")
            if code and _code_matches(container.get("name"), code, rule.on_exit_codes):
                return f"Container {container.get('name')} for pod {name} failed with exit code {code}"
    return ""


def _code_matches(container: str | None, code: int, wanted: ExitCodes) -> bool:
    if wanted.container_name is not None and wanted.container_name != container:
        return False
    return (code in wanted.values) == (wanted.operator == "In")
