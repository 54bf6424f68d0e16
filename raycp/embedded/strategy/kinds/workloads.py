"""apps/v1 and autoscaling: defaults and validation (``pkg/apis/apps``); Jobs are in ``batch``."""

from typing import Any

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import Errors, forbidden, immutable, not_supported, required, wrong
from raycp.embedded.strategy.kinds import pod_defaults
from raycp.embedded.strategy.kinds.placement_validation import label_selector
from raycp.embedded.strategy.kinds.pod_validation import template
from raycp.embedded.strategy.kinds.shares import share
from raycp.embedded.strategy.rules import Object, register

_NOT_NEGATIVE = "must be greater than or equal to 0"
LABELS_MISMATCH = "`selector` does not match template `labels`"


def spec_of(obj: Object) -> Object:
    """``spec``, or an empty one."""
    found: Object = obj.get("spec") or {}
    return found


def fill(target: Object, **values: Any) -> None:
    """Set the missing fields."""
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def template_defaults(spec: Object) -> None:
    """Defaults of the Pods in ``spec.template``."""
    pod = (spec.get("template") or {}).get("spec")
    if pod:
        pod_defaults.pod_spec(pod)


def _rolling_update(spec: Object, field: str, **defaults: Any) -> None:
    """Make the strategy in ``field`` a rolling update unless it says another; ``defaults`` are of its ``rollingUpdate``."""
    strategy = spec.get(field)
    if strategy is None:
        strategy = spec[field] = {}
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        fill(strategy, rollingUpdate={})
        fill(strategy["rollingUpdate"], **defaults)


def _deployment_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    template_defaults(spec)
    fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _rolling_update(spec, "strategy", maxUnavailable="25%", maxSurge="25%")


def _replicas_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    template_defaults(spec)
    fill(spec, replicas=1)


def _controller_defaults(obj: Object) -> None:
    """ReplicationController: selector and labels default to the template's labels."""
    _replicas_defaults(obj)
    spec = spec_of(obj)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)


def _stateful_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    template_defaults(spec)
    fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    _rolling_update(spec, "updateStrategy", partition=0)
    fill(spec, persistentVolumeClaimRetentionPolicy={})
    policy = spec["persistentVolumeClaimRetentionPolicy"]
    for key in ("whenDeleted", "whenScaled"):
        if not policy.get(key):
            policy[key] = "Retain"
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        if claim.get("spec") is not None:
            fill(claim["spec"], volumeMode="Filesystem")
        if not (claim.get("status") or {}).get("phase"):
            claim["status"] = {**(claim.get("status") or {}), "phase": "Pending"}


def _daemon_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    template_defaults(spec)
    fill(spec, revisionHistoryLimit=10)
    _rolling_update(spec, "updateStrategy", maxUnavailable=1, maxSurge=0)


def _selected(spec: Object, errors: Errors) -> None:
    """Validate selector and template of a workload with restartPolicy Always."""
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        label_selector(selector, "spec.selector", errors)
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(wrong("spec.selector", selector, "empty selector is invalid for deployment"))
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if selector and not matches(selector, labels):
        errors.append(wrong("spec.template.metadata.labels", labels, LABELS_MISMATCH))


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector matches these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for term in selector.get("matchExpressions") or ():
        key, operator, values = term.get("key"), term.get("operator"), term.get("values") or ()
        good = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(operator, False)
        if not good:
            return False
    return True


def _running_template(spec: Object, errors: Errors) -> None:
    pod = (spec.get("template") or {}).get("spec") or {}
    template(spec.get("template"), "spec.template", errors)
    policy = pod.get("restartPolicy")
    if policy in ("OnFailure", "Never"):
        errors.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if pod.get("activeDeadlineSeconds") is not None:
        errors.append(forbidden("spec.template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported"))


def not_negative(value: Any, field: str, errors: Errors) -> None:
    """Counts and durations."""
    if value is not None and value < 0:
        errors.append(wrong(field, value, _NOT_NEGATIVE))


def _deployment(obj: Object, errors: Errors) -> None:
    spec = spec_of(obj)
    not_negative(spec.get("replicas"), "spec.replicas", errors)
    _selected(spec, errors)
    _running_template(spec, errors)
    strategy = spec.get("strategy") or {}
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            text = "may not be specified when strategy `type` is 'Recreate'"
            errors.append(forbidden("spec.strategy.rollingUpdate", text))
    elif kind == "RollingUpdate":
        _rolling(rolling or {}, "spec.strategy.rollingUpdate", errors)
    else:
        errors.append(not_supported("spec.strategy", strategy, ("Recreate", "RollingUpdate")))
    for key in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        not_negative(spec.get(key), f"spec.{key}", errors)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        errors.append(wrong("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))


def _rolling(rolling: Object, field: str, errors: Errors) -> None:
    for key in ("maxUnavailable", "maxSurge"):
        share(rolling.get(key), f"{field}.{key}", errors, of_all=key == "maxUnavailable")
    if rolling.get("maxUnavailable") in (0, "0%") and rolling.get("maxSurge") in (0, "0%"):
        text = "may not be 0 when `maxSurge` is 0"
        errors.append(wrong(f"{field}.maxUnavailable", rolling["maxUnavailable"], text))


def _replica_set(obj: Object, errors: Errors) -> None:
    spec = spec_of(obj)
    not_negative(spec.get("replicas"), "spec.replicas", errors)
    _selected(spec, errors)
    _running_template(spec, errors)


def _same_selector(new: Object, old: Object, errors: Errors) -> None:
    if spec_of(new).get("selector") != spec_of(old).get("selector"):
        errors.append(immutable("spec.selector", spec_of(new).get("selector")))


def _deployment_update(new: Object, old: Object, errors: Errors) -> None:
    _deployment(new, errors)
    _same_selector(new, old, errors)


def _replica_set_update(new: Object, old: Object, errors: Errors) -> None:
    _replica_set(new, errors)
    _same_selector(new, old, errors)


_STATEFUL_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _stateful(obj: Object, errors: Errors) -> None:
    spec = spec_of(obj)
    policies = ("OrderedReady", "Parallel")
    if spec.get("podManagementPolicy") not in policies:
        text = f"must be '{policies[0]}' or '{policies[1]}'"
        errors.append(wrong("spec.podManagementPolicy", spec.get("podManagementPolicy"), text))
    kind = (spec.get("updateStrategy") or {}).get("type")
    if kind not in ("RollingUpdate", "OnDelete"):
        errors.append(wrong("spec.updateStrategy", spec.get("updateStrategy"), "must be 'RollingUpdate' or 'OnDelete'"))
    not_negative(spec.get("replicas"), "spec.replicas", errors)
    _selected(spec, errors)
    _running_template(spec, errors)


def _stateful_update(new: Object, old: Object, errors: Errors) -> None:
    _stateful(new, errors)
    before = {**spec_of(old), **{k: spec_of(new)[k] for k in _STATEFUL_MUTABLE if k in spec_of(new)}}
    after = {**spec_of(new), **{k: before[k] for k in _STATEFUL_MUTABLE if k in before}}
    if before != after:
        text = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
            "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        )
        errors.append(forbidden("spec", text))


def _deployment_status(new: Object, old: Object) -> None:
    """A status update of a Deployment leaves its labels alone."""
    meta, before = new["metadata"], old["metadata"]
    meta.pop("labels", None)
    if "labels" in before:
        meta["labels"] = before["labels"]


register(
    "apps",
    "Deployment",
    generation=True,
    status_update=_deployment_status,
    # annotations too, as Deployments have done since extensions/v1beta1
    generation_of=lambda obj: (obj.get("spec"), obj["metadata"].get("annotations")),
    defaults=_deployment_defaults,
    validate=_deployment,
    validate_update=_deployment_update,
)
register(
    "apps",
    "ReplicaSet",
    generation=True,
    defaults=_replicas_defaults,
    validate=_replica_set,
    validate_update=_replica_set_update,
)
register(
    "apps",
    "StatefulSet",
    generation=True,
    defaults=_stateful_defaults,
    validate=_stateful,
    validate_update=_stateful_update,
)
register(
    "apps",
    "DaemonSet",
    generation=True,
    defaults=_daemon_defaults,
    validate=_replica_set,
    validate_update=_replica_set_update,
)
register("", "ReplicationController", generation=True, defaults=_controller_defaults)
register("apps", "ControllerRevision")


def _hpa_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is not None:
        fill(spec, minReplicas=1)
        if obj["apiVersion"] == "autoscaling/v2" and not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": 80}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def _hpa(obj: Object, errors: Errors) -> None:
    spec = spec_of(obj)
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        errors.append(wrong("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        errors.append(wrong("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        errors.append(wrong("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    ref = spec.get("scaleTargetRef") or {}
    for key in ("kind", "name"):
        if not ref.get(key):
            errors.append(required(f"spec.scaleTargetRef.{key}"))
        else:
            texts = names.path_segment(ref[key])
            errors.extend(wrong(f"spec.scaleTargetRef.{key}", ref[key], text) for text in texts)


register(
    "autoscaling",
    "HorizontalPodAutoscaler",
    defaults=_hpa_defaults,
    validate=_hpa,
    validate_update=lambda new, old, errors: _hpa(new, errors),
)
