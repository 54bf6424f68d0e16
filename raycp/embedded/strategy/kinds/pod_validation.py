"""What makes a Pod, or a workload's template, invalid (``pkg/apis/core/validation``)."""

from collections.abc import Iterable
from typing import Any

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import (
    Errors,
    duplicate,
    forbidden,
    not_supported,
    not_there,
    required,
    wrong,
)
from raycp.embedded.strategy.metadata import check_labels
from raycp.embedded.strategy.rules import Object
from raycp.embedded.strategy.scalars import quantity_value

_PULL = ("Always", "IfNotPresent", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART = ("Always", "OnFailure", "Never")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
PORT_TEXT = "must be between 1 and 65535, inclusive"
NOT_NEGATIVE = "must be greater than or equal to 0"


def pod_spec(spec: Object, field: str, errors: Errors, *, restart: Iterable[str] = _RESTART) -> None:
    """``ValidatePodSpec``."""
    volumes = _volumes(spec.get("volumes") or (), f"{field}.volumes", errors)
    seen: set[str] = set()
    containers = spec.get("containers")
    if not containers:
        errors.append(required(f"{field}.containers"))
    for index, one in enumerate(containers or ()):
        _container(one, f"{field}.containers[{index}]", seen, volumes, errors)
    for index, one in enumerate(spec.get("initContainers") or ()):
        _container(one, f"{field}.initContainers[{index}]", seen, volumes, errors)
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
    _affinity(spec.get("affinity"), f"{field}.affinity", errors)
    account = spec.get("serviceAccountName")
    if account:
        errors.extend(wrong(f"{field}.serviceAccountName", account, text) for text in names.dns_subdomain(account))
    node = spec.get("nodeName")
    if node:
        errors.extend(wrong(f"{field}.nodeName", node, text) for text in names.dns_subdomain(node))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        errors.append(wrong(f"{field}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive"))
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            errors.extend(wrong(f"{field}.{name}", spec[name], text) for text in names.dns_label(spec[name]))
    if spec.get("tolerations"):
        tolerations(spec["tolerations"], f"{field}.tolerations", errors)
    if spec.get("priorityClassName"):
        name = spec["priorityClassName"]
        errors.extend(wrong(f"{field}.priorityClassName", name, text) for text in names.dns_subdomain(name))
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        errors.append(required(f"{field}.terminationGracePeriodSeconds"))
    elif grace < 0:
        errors.append(wrong(f"{field}.terminationGracePeriodSeconds", grace, NOT_NEGATIVE))
    _spread(spec.get("topologySpreadConstraints") or (), f"{field}.topologySpreadConstraints", errors)
    gates: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name", "")
        errors.extend(wrong(f"{field}.schedulingGates[{index}]", name, text) for text in names.qualified_name(name))
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
            errors.extend(wrong(f"{here}.name", name, text) for text in texts)
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


def _container(one: Object, field: str, seen: set[str], volumes: set[str], errors: Errors) -> None:
    name = one.get("name", "")
    if not name:
        errors.append(required(f"{field}.name"))
    else:
        errors.extend(wrong(f"{field}.name", name, text) for text in names.dns_label(name))
    if name in seen and name:
        errors.append(duplicate(f"{field}.name", name))
    seen.add(name)
    image = one.get("image", "")
    if not image:
        errors.append(required(f"{field}.image"))
    elif image != image.strip():
        errors.append(wrong(f"{field}.image", image, "must not have leading or trailing whitespace"))
    lifecycle = one.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        if lifecycle.get(hook) is not None:
            _handler(lifecycle[hook], f"{field}.lifecycle.{hook}", errors)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if one.get(probe) is not None:
            _probe(one[probe], f"{field}.{probe}", probe, errors)
    _ports(one.get("ports") or (), f"{field}.ports", errors)
    for index, variable in enumerate(one.get("env") or ()):
        here = f"{field}.env[{index}]"
        if not variable.get("name"):
            errors.append(required(f"{here}.name"))
        else:
            errors.extend(wrong(f"{here}.name", variable["name"], text) for text in names.env_name(variable["name"]))
        source = variable.get("valueFrom")
        if source is not None:
            if variable.get("value"):
                errors.append(wrong(f"{here}.valueFrom", "", "may not be specified when `value` is not empty"))
            if not source:
                errors.append(
                    wrong(
                        f"{here}.valueFrom",
                        "",
                        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                    )
                )
    mounts: set[str] = set()
    for index, mount in enumerate(one.get("volumeMounts") or ()):
        here = f"{field}.volumeMounts[{index}]"
        if not mount.get("name"):
            errors.append(required(f"{here}.name"))
        if mount.get("name") not in volumes:
            errors.append(not_there(f"{here}.name", mount.get("name", "")))
        path = mount.get("mountPath", "")
        if not path:
            errors.append(required(f"{here}.mountPath"))
        if path in mounts:
            errors.append(wrong(f"{here}.mountPath", path, "must be unique"))
        mounts.add(path)
    pull = one.get("imagePullPolicy")
    if not pull:
        errors.append(required(f"{field}.imagePullPolicy"))
    elif pull not in _PULL:
        errors.append(not_supported(f"{field}.imagePullPolicy", pull, _PULL))
    policy = one.get("terminationMessagePolicy")
    if policy not in ("File", "FallbackToLogsOnError"):
        errors.append(not_supported(f"{field}.terminationMessagePolicy", policy, ("File", "FallbackToLogsOnError")))
    if one.get("resources"):
        _resources(one["resources"], f"{field}.resources", errors)


def _handler(action: Object, field: str, errors: Errors) -> None:
    kinds = [key for key in ("exec", "httpGet", "tcpSocket", "grpc", "sleep") if action.get(key) is not None]
    if not kinds:
        errors.append(required(field, "must specify a handler type"))
    for extra in kinds[1:]:
        errors.append(forbidden(f"{field}.{extra}", "may not specify more than 1 handler type"))
    if action.get("exec") is not None and not action["exec"].get("command"):
        errors.append(required(f"{field}.exec.command"))
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if action.get(kind) is not None:
            port = action[kind].get("port", 0)
            if isinstance(port, int):
                if not 1 <= port <= 65535:
                    errors.append(wrong(f"{field}.{kind}.port", port, PORT_TEXT))
            else:
                errors.extend(wrong(f"{field}.{kind}.port", port, text) for text in names.port_name(port))


def _probe(probe: Object, field: str, kind: str, errors: Errors) -> None:
    _handler(probe, field, errors)
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if probe.get(name, 0) < 0:
            errors.append(wrong(f"{field}.{name}", probe[name], NOT_NEGATIVE))
    if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        errors.append(wrong(f"{field}.successThreshold", probe.get("successThreshold"), "must be 1"))


def _ports(ports: Iterable[Object], field: str, errors: Errors) -> None:
    taken: set[str] = set()
    for index, port in enumerate(ports):
        here = f"{field}[{index}]"
        name = port.get("name")
        if name:
            texts = names.port_name(name)
            errors.extend(wrong(f"{here}.name", name, text) for text in texts)
            if not texts and name in taken:
                errors.append(duplicate(f"{here}.name", name))
            taken.add(name)
        number = port.get("containerPort", 0)
        if not number:
            errors.append(required(f"{here}.containerPort"))
        elif not 1 <= number <= 65535:
            errors.append(wrong(f"{here}.containerPort", number, PORT_TEXT))
        host = port.get("hostPort", 0)
        if host and not 1 <= host <= 65535:
            errors.append(wrong(f"{here}.hostPort", host, PORT_TEXT))
        protocol = port.get("protocol", "")
        if not protocol:
            errors.append(required(f"{here}.protocol"))
        elif protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{here}.protocol", protocol, _PROTOCOLS))


_STANDARD = ("cpu", "memory", "ephemeral-storage", "storage")


def _resources(resources: Object, field: str, errors: Errors) -> None:
    limits = resources.get("limits") or {}
    requests = resources.get("requests") or {}
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            here = f"{field}.{part}[{name}]"
            texts = names.qualified_name(name)
            errors.extend(wrong(here, name, text) for text in texts)
            if not texts and "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
                errors.append(wrong(here, name, "must be a standard resource type or fully qualified"))
            value = quantity_value(amount)
            if value < 0:
                errors.append(wrong(here, amount, NOT_NEGATIVE))
            elif part == "requests" and name in limits and value > quantity_value(limits[name]):
                errors.append(wrong(f"{field}.requests", amount, f"must be less than or equal to {name} limit of {limits[name]}"))


def _security(spec: Object, field: str, errors: Errors) -> None:
    context = spec.get("securityContext") or {}
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        value = context.get(name)
        if value is not None and not 0 <= value <= 2**31 - 1:
            errors.append(wrong(f"{field}.securityContext.{name}", value, "must be between 0 and 2147483647, inclusive"))


def _selector(selector: Any, field: str, errors: Errors) -> None:
    if selector:
        label_selector(selector, field, errors)


def label_selector(selector: Object, field: str, errors: Errors) -> None:
    """``ValidateLabelSelector``."""
    if selector.get("matchLabels"):
        check_labels(selector["matchLabels"], f"{field}.matchLabels", errors)
    for index, term in enumerate(selector.get("matchExpressions") or ()):
        here = f"{field}.matchExpressions[{index}]"
        operator, values = term.get("operator"), term.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                errors.append(forbidden(f"{here}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
        else:
            errors.append(wrong(f"{here}.operator", operator or "", "not a valid selector operator"))
        errors.extend(wrong(f"{here}.key", term.get("key", ""), text) for text in names.qualified_name(term.get("key", "")))
        for number, value in enumerate(values):
            errors.extend(wrong(f"{here}.values[{number}]", value, text) for text in names.label_value(value))


def _affinity(affinity: Any, field: str, errors: Errors) -> None:
    if not affinity:
        return
    node = affinity.get("nodeAffinity") or {}
    wanted = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if wanted is not None and not wanted.get("nodeSelectorTerms"):
        here = f"{field}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        errors.append(required(here, "must have at least one node selector term"))
    for kind in ("podAffinity", "podAntiAffinity"):
        part = affinity.get(kind) or {}
        for index, term in enumerate(part.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            here = f"{field}.{kind}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"
            _selector(term.get("labelSelector"), f"{here}.labelSelector", errors)
            if not term.get("topologyKey"):
                errors.append(required(f"{here}.topologyKey", "can not be empty"))


def _spread(constraints: Iterable[Object], field: str, errors: Errors) -> None:
    for index, one in enumerate(constraints):
        here = f"{field}[{index}]"
        if one.get("maxSkew", 0) <= 0:
            errors.append(wrong(f"{here}.maxSkew", one.get("maxSkew", 0), "must be greater than zero"))
        if not one.get("topologyKey"):
            errors.append(required(f"{here}.topologyKey", "can not be empty"))
        action = one.get("whenUnsatisfiable", "")
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            errors.append(not_supported(f"{here}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway")))
        _selector(one.get("labelSelector"), f"{here}.labelSelector", errors)


def tolerations(found: Iterable[Object], field: str, errors: Errors) -> None:
    """``ValidateTolerations``."""
    for index, one in enumerate(found):
        here = f"{field}[{index}]"
        key, operator = one.get("key", ""), one.get("operator", "")
        if key:
            errors.extend(wrong(f"{here}.key", key, text) for text in names.qualified_name(key))
        elif operator != "Exists":
            errors.append(
                wrong(
                    f"{here}.operator",
                    operator,
                    'operator must be Exists when `key` is empty, which means "match all values and all keys"',
                )
            )
        if one.get("tolerationSeconds") is not None and one.get("effect") != "NoExecute":
            errors.append(
                wrong(
                    f"{here}.effect",
                    one.get("effect", ""),
                    "effect must be 'NoExecute' when `tolerationSeconds` is set",
                )
            )
        if operator in ("Equal", ""):
            errors.extend(wrong(f"{here}.operator", one.get("value", ""), text) for text in names.label_value(one.get("value", "")))
        elif operator == "Exists":
            if one.get("value"):
                errors.append(wrong(f"{here}.operator", one, "value must be empty when `operator` is 'Exists'"))
        elif operator not in ("Lt", "Gt"):
            errors.append(not_supported(f"{here}.operator", operator, ("Equal", "Exists")))
        if one.get("effect") and one["effect"] not in _EFFECTS:
            errors.append(not_supported(f"{here}.effect", one["effect"], _EFFECTS))


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
