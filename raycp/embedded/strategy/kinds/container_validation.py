"""Validation of a Pod's containers: names, images, probes, ports, variables, mounts, resources (``ValidateContainers``)."""

from collections.abc import Iterable

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
from raycp.embedded.strategy.rules import Object
from raycp.embedded.strategy.scalars import quantity_value

_PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
PORT_TEXT = "must be between 1 and 65535, inclusive"
NOT_NEGATIVE = "must be greater than or equal to 0"


def container(one: Object, field: str, seen: set[str], volumes: set[str], errors: Errors) -> None:
    name = one.get("name", "")
    if not name:
        errors.append(required(f"{field}.name"))
    else:
        for text in names.dns_label(name):
            errors.append(wrong(f"{field}.name", name, text))
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
            for text in names.env_name(variable["name"]):
                errors.append(wrong(f"{here}.name", variable["name"], text))
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
                for text in names.port_name(port):
                    errors.append(wrong(f"{field}.{kind}.port", port, text))


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
            for text in texts:
                errors.append(wrong(f"{here}.name", name, text))
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
            for text in texts:
                errors.append(wrong(here, name, text))
            if not texts and "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
                errors.append(wrong(here, name, "must be a standard resource type or fully qualified"))
            value = quantity_value(amount)
            if value.numerator < 0:  # comparing fractions costs a microsecond
                errors.append(wrong(here, amount, NOT_NEGATIVE))
            elif part == "requests" and name in limits and value > quantity_value(limits[name]):
                errors.append(wrong(f"{field}.requests", amount, f"must be less than or equal to {name} limit of {limits[name]}"))
