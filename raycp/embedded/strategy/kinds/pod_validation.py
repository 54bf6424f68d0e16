"""Validation of Pods and of workloads' pod templates (``pkg/apis/core/validation``)."""

from collections.abc import Iterable

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import (
    Errors,
    duplicate,
    forbidden,
    not_supported,
    required,
    wrong,
)
from raycp.embedded.strategy.kinds.container_validation import NOT_NEGATIVE, container
from raycp.embedded.strategy.kinds.placement_validation import affinity_terms, tolerations, topology_spread
from raycp.embedded.strategy.metadata import check_labels
from raycp.embedded.strategy.rules import Object

_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART = ("Always", "OnFailure", "Never")


def pod_spec(spec: Object, field: str, errors: Errors, *, restart: Iterable[str] = _RESTART) -> None:
    """``ValidatePodSpec``."""
    volumes = _volumes(spec.get("volumes") or (), f"{field}.volumes", errors)
    seen: set[str] = set()
    containers = spec.get("containers")
    if not containers:
        errors.append(required(f"{field}.containers"))
    for index, one in enumerate(containers or ()):
        container(one, f"{field}.containers[{index}]", seen, volumes, errors)
    for index, one in enumerate(spec.get("initContainers") or ()):
        container(one, f"{field}.initContainers[{index}]", seen, volumes, errors)
        policy = one.get("restartPolicy")
        if policy is not None and policy not in _RESTART:
            errors.append(not_supported(f"{field}.initContainers[{index}].restartPolicy", policy, _RESTART))
    policy = spec.get("restartPolicy")
    if not policy:
        errors.append(required(f"{field}.restartPolicy"))
    elif policy not in _RESTART:
        errors.append(not_supported(f"{field}.restartPolicy", policy, _RESTART))
    elif policy not in restart:
        errors.append(not_supported(f"{field}.restartPolicy", policy, restart))
    dns = spec.get("dnsPolicy")
    if not dns:
        errors.append(required(f"{field}.dnsPolicy"))
    elif dns not in _DNS:
        errors.append(not_supported(f"{field}.dnsPolicy", dns, _DNS))
    elif dns == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        errors.append(required(f"{field}.dnsConfig.nameservers", "must provide at least one DNS nameserver"))
    if spec.get("nodeSelector"):
        check_labels(spec["nodeSelector"], f"{field}.nodeSelector", errors)
    _security(spec, field, errors)
    affinity_terms(spec.get("affinity"), f"{field}.affinity", errors)
    account = spec.get("serviceAccountName")
    if account:
        for text in names.dns_subdomain(account):
            errors.append(wrong(f"{field}.serviceAccountName", account, text))
    node = spec.get("nodeName")
    if node:
        for text in names.dns_subdomain(node):
            errors.append(wrong(f"{field}.nodeName", node, text))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        errors.append(wrong(f"{field}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive"))
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            for text in names.dns_label(spec[name]):
                errors.append(wrong(f"{field}.{name}", spec[name], text))
    if spec.get("tolerations"):
        tolerations(spec["tolerations"], f"{field}.tolerations", errors)
    if spec.get("priorityClassName"):
        name = spec["priorityClassName"]
        for text in names.dns_subdomain(name):
            errors.append(wrong(f"{field}.priorityClassName", name, text))
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        errors.append(required(f"{field}.terminationGracePeriodSeconds"))
    elif grace < 0:
        errors.append(wrong(f"{field}.terminationGracePeriodSeconds", grace, NOT_NEGATIVE))
    topology_spread(spec.get("topologySpreadConstraints") or (), f"{field}.topologySpreadConstraints", errors)
    gates: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name", "")
        for text in names.qualified_name(name):
            errors.append(wrong(f"{field}.schedulingGates[{index}]", name, text))
        if name in gates:
            errors.append(duplicate(f"{field}.schedulingGates[{index}]", name))
        gates.add(name)
    policy = spec.get("preemptionPolicy")
    if policy is not None and policy not in ("PreemptLowerPriority", "Never"):
        errors.append(not_supported(f"{field}.preemptionPolicy", policy, ("PreemptLowerPriority", "Never")))


def _volumes(volumes: Iterable[Object], field: str, errors: Errors) -> set[str]:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"{field}[{index}]"
        name = volume.get("name", "")
        if not name:
            errors.append(required(f"{here}.name"))
        else:
            texts = names.dns_label(name)
            for text in texts:
                errors.append(wrong(f"{here}.name", name, text))
            if name in seen:
                errors.append(duplicate(f"{here}.name", name))
        seen.add(name)
        sources = [key for key in volume if key != "name"]
        for extra in sources[1:]:
            errors.append(forbidden(f"{here}.{extra}", "may not specify more than 1 volume type"))
        claim = volume.get("persistentVolumeClaim")
        if claim is not None and not claim.get("claimName"):
            errors.append(required(f"{here}.persistentVolumeClaim.claimName"))
        if volume.get("configMap") is not None and not volume["configMap"].get("name"):
            errors.append(required(f"{here}.configMap.name"))
        if volume.get("secret") is not None and not volume["secret"].get("secretName"):
            errors.append(required(f"{here}.secret.secretName"))
        if volume.get("hostPath") is not None and not volume["hostPath"].get("path"):
            errors.append(required(f"{here}.hostPath.path"))
    return seen


def _security(spec: Object, field: str, errors: Errors) -> None:
    context = spec.get("securityContext") or {}
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        value = context.get(name)
        if value is not None and not 0 <= value <= 2**31 - 1:
            errors.append(wrong(f"{field}.securityContext.{name}", value, "must be between 0 and 2147483647, inclusive"))


def template(obj: Object | None, field: str, errors: Errors, *, restart: Iterable[str] = _RESTART) -> None:
    """A PodTemplateSpec."""
    meta = (obj or {}).get("metadata") or {}
    if meta.get("labels"):
        check_labels(meta["labels"], f"{field}.labels", errors)
    pod_spec((obj or {}).get("spec") or {}, f"{field}.spec", errors, restart=restart)


_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def update(new: Object, old: Object, errors: Errors) -> None:
    """``ValidatePodUpdate``."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if spec is before or spec == before:
        return
    pod_spec(spec, "spec", errors)
    for group in ("containers", "initContainers"):
        if len(spec.get(group) or ()) != len(before.get(group) or ()):
            what = "containers" if group == "containers" else "initContainers"
            errors.append(forbidden(f"spec.{group}", f"pod updates may not add or remove {what}"))
            return
    deadline, deadline_before = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if deadline is not None:
        if deadline_before is not None and deadline_before < deadline:
            errors.append(
                wrong(
                    "spec.activeDeadlineSeconds",
                    deadline,
                    f"must be less than or equal to previous value {deadline_before}",
                )
            )
    elif deadline_before is not None:
        errors.append(wrong("spec.activeDeadlineSeconds", deadline, "must not update from a positive integer to nil value"))
    _added_tolerations(spec.get("tolerations") or [], before.get("tolerations") or [], errors)
    gates_before = before.get("schedulingGates") or []
    for gate in spec.get("schedulingGates") or []:
        if gate not in gates_before:
            errors.append(forbidden("spec.schedulingGates", "only deletion is allowed, but found new scheduling gate"))
    munged = dict(spec)
    skip = {"activeDeadlineSeconds", "tolerations", "schedulingGates"}
    if before.get("terminationGracePeriodSeconds", 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        skip.add("terminationGracePeriodSeconds")
    if gates_before:
        skip |= {"nodeSelector", "affinity"}
    for name in skip:
        munged.pop(name, None)
        if name in before:
            munged[name] = before[name]
    for group in ("containers", "initContainers"):
        if group in munged:
            munged[group] = [
                {**one, "image": was.get("image", ""), "resources": one.get("resources", {})}
                for one, was in zip(munged[group], before[group], strict=True)
            ]
    if munged != before:
        errors.append(forbidden("spec", _UPDATE_TEXT))


def _added_tolerations(new: list[Object], old: list[Object], errors: Errors) -> None:
    def bare(one: Object) -> Object:
        return {key: value for key, value in one.items() if key != "tolerationSeconds"}

    there = [bare(one) for one in new]
    if any(bare(one) not in there for one in old):
        errors.append(forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"))
