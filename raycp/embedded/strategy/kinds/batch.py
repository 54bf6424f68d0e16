"""Job and CronJob: defaults, generated selectors, validation (``pkg/apis/batch``, ``pkg/registry/batch``)."""

from raycp.embedded.strategy.causes import Errors, immutable, not_supported, required, wrong
from raycp.embedded.strategy.kinds.pod_validation import template
from raycp.embedded.strategy.kinds.workloads import (
    LABELS_MISMATCH,
    fill,
    matches,
    not_negative,
    spec_of,
    template_defaults,
)
from raycp.embedded.strategy.rules import Object, register


def job_spec_defaults(spec: Object) -> None:
    """Defaults of a Job's spec."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    fill(spec, parallelism=1, completionMode="NonIndexed", suspend=False)
    fill(spec, backoffLimit=2**31 - 1 if spec.get("backoffLimitPerIndex") is not None else 6)
    fill(spec, podReplacementPolicy="Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            if not pattern.get("status"):
                pattern["status"] = "True"


def _job_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    template_defaults(spec)
    job_spec_defaults(spec)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    meta = obj.get("metadata")
    if labels and meta is not None and not meta.get("labels"):
        meta["labels"] = dict(labels)


_UID, _NAME = "controller-uid", "job-name"


def _job_create(obj: Object) -> None:
    """``generateSelector``: without ``manualSelector`` a Job selects exactly the Pods that carry its uid."""
    spec = obj.get("spec")
    if spec is None or spec.get("manualSelector"):
        return
    uid, name = obj["metadata"].get("uid", ""), obj["metadata"].get("name", "")
    pods = spec["template"] = dict(spec.get("template") or {})
    meta = pods["metadata"] = dict(pods.get("metadata") or {})
    labels = dict(meta.get("labels") or {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels[prefix + _UID] = uid
        labels[prefix + _NAME] = name
    meta["labels"] = labels
    selector = dict(spec.get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), "batch.kubernetes.io/" + _UID: uid}
    spec["selector"] = selector


def _job(obj: Object, errors: Errors) -> None:
    spec = spec_of(obj)
    _job_spec(spec, "spec", errors)
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if not matches(selector, labels):
            errors.append(wrong("spec.template.metadata.labels", labels, LABELS_MISMATCH))


def _job_spec(spec: Object, field: str, errors: Errors) -> None:
    for key in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        not_negative(spec.get(key), f"{field}.{key}", errors)
    mode = spec.get("completionMode")
    if mode is not None:
        if mode not in ("NonIndexed", "Indexed"):
            errors.append(not_supported(f"{field}.completionMode", mode, ("Indexed", "NonIndexed")))
        if mode == "Indexed" and spec.get("completions") is None:
            errors.append(required(f"{field}.completions", "when completion mode is Indexed"))
    if spec.get("backoffLimitPerIndex") is not None and mode != "Indexed":
        text = "requires indexed completion mode"
        errors.append(wrong(f"{field}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], text))
    template(spec.get("template"), f"{field}.template", errors)
    pod = (spec.get("template") or {}).get("spec") or {}
    policy = pod.get("restartPolicy", "Always")
    if policy in ("Always", ""):
        errors.append(required(f"{field}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(not_supported(f"{field}.template.spec.restartPolicy", policy, ("Never", "OnFailure")))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(wrong(f"{field}.template.spec.restartPolicy", policy, text))


_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "schedulingGates")


def _job_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = spec_of(new), spec_of(old)
    _job_spec(spec, "spec", errors)
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if spec.get("completions") != before.get("completions") and not elastic:
        errors.append(immutable("spec.completions", spec.get("completions")))
    if spec.get("selector") != before.get("selector"):
        errors.append(immutable("spec.selector", spec.get("selector")))
    pods, pods_before = spec.get("template") or {}, before.get("template") or {}
    if before.get("suspend") and not (old.get("status") or {}).get("startTime"):
        pods, pods_before = _without_scheduling(pods), _without_scheduling(pods_before)
    if pods != pods_before:
        errors.append(immutable("spec.template", spec.get("template")))
    for key in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        if spec.get(key) != before.get(key):
            errors.append(immutable(f"spec.{key}", spec.get(key)))


def _without_scheduling(pods: Object) -> Object:
    """A template without the fields that may change while a Job is suspended (used by Kueue)."""
    meta = {k: v for k, v in (pods.get("metadata") or {}).items() if k not in ("labels", "annotations")}
    spec = {k: v for k, v in (pods.get("spec") or {}).items() if k not in _SCHEDULING}
    return {"metadata": meta, "spec": spec}


register(
    "batch",
    "Job",
    generation=True,
    defaults=_job_defaults,
    create=_job_create,
    validate=_job,
    validate_update=_job_update,
)


def _cron_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    fill(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template_defaults((spec.get("jobTemplate") or {}).get("spec") or {})


def _cron(obj: Object, errors: Errors) -> None:
    spec = spec_of(obj)
    schedule = spec.get("schedule", "")
    if not schedule:
        errors.append(required("spec.schedule"))
    elif not schedule.startswith("@") and len(schedule.split()) != 5:
        text = f"expected exactly 5 fields, found {len(schedule.split())}: {schedule}"
        errors.append(wrong("spec.schedule", schedule, text))
    policies = ("Allow", "Forbid", "Replace")
    if spec.get("concurrencyPolicy") not in policies:
        errors.append(not_supported("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), policies))
    for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        not_negative(spec.get(key), f"spec.{key}", errors)
    _job_spec((spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec", errors)
    name = obj["metadata"].get("name", "")
    if len(name) > 52:
        errors.append(wrong("metadata.name", name, "must be no more than 52 characters"))


register(
    "batch",
    "CronJob",
    generation=True,
    defaults=_cron_defaults,
    validate=_cron,
    validate_update=lambda new, old, errors: _cron(new, errors),
)
