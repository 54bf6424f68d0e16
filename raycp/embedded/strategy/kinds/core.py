"""ConfigMap, Secret, ServiceAccount, Event, Namespace, Endpoints: core/v1 without Pods, volumes and quotas."""

import base64
from typing import Any

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import (
    Errors,
    forbidden,
    immutable,
    not_supported,
    required,
    too_long,
    wrong,
)
from raycp.embedded.strategy.rules import Object, register

SECRET_LIMIT = 1024 * 1024


def _config_map(obj: Object, errors: Errors) -> None:
    size = 0
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key, value in data.items():
        for text in names.config_map_key(key):
            errors.append(wrong(f"data[{key}]", key, text))
        if key in binary:
            errors.append(wrong(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value)
    for key, value in binary.items():
        for text in names.config_map_key(key):
            errors.append(wrong(f"binaryData[{key}]", key, text))
        size += len(value) * 3 // 4
    if size > SECRET_LIMIT:
        errors.append(too_long("", SECRET_LIMIT))


def _config_map_update(new: Object, old: Object, errors: Errors) -> None:
    _immutable_data(new, old, ("data", "binaryData"), errors)
    _config_map(new, errors)


def _immutable_data(new: Object, old: Object, fields: tuple[str, ...], errors: Errors) -> None:
    if old.get("immutable"):
        if not new.get("immutable"):
            errors.append(forbidden("immutable", "field is immutable when `immutable` is set"))
        for field in fields:
            if (new.get(field) or {}) != (old.get(field) or {}):
                errors.append(forbidden(field, "field is immutable when `immutable` is set"))


register("", "ConfigMap", validate=_config_map, validate_update=_config_map_update, metadata_again=True)


def _secret_defaults(obj: Object) -> None:
    if not obj.get("type"):
        obj["type"] = "Opaque"
    given = obj.pop("stringData", None)
    if given:
        data = dict(obj.get("data") or {})
        for key, value in given.items():
            data[key] = base64.b64encode(value.encode()).decode()
        obj["data"] = data


_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _secret(obj: Object, errors: Errors) -> None:
    data = obj.get("data") or {}
    size = 0
    for key, value in data.items():
        for text in names.config_map_key(key):
            errors.append(wrong(f"data[{key}]", key, text))
        size += len(value) * 3 // 4
    if size > SECRET_LIMIT + 2:
        errors.append(too_long("data", SECRET_LIMIT))
    kind = obj.get("type")
    if kind == "kubernetes.io/service-account-token":
        if not (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name"):
            errors.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errors.append(required("data[username]"))
            errors.append(required("data[password]"))
    else:
        for key in _SECRET_KEYS.get(str(kind), ()):
            if key not in data:
                errors.append(required(f"data[{key}]"))
            elif key.startswith(".docker"):
                _json_value(data[key], f"data[{key}]", errors)


def _json_value(value: str, field: str, errors: Errors) -> None:
    import msgspec

    try:
        msgspec.json.decode(base64.b64decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        errors.append(wrong(field, "<secret contents redacted>", str(error)))


def _secret_update(new: Object, old: Object, errors: Errors) -> None:
    if new.get("type") != old.get("type"):
        errors.append(immutable("type", new.get("type")))
    _immutable_data(new, old, ("data",), errors)
    _secret(new, errors)


def _secret_prepare_update(new: Object, old: Object) -> None:
    if not new.get("type"):
        new["type"] = old.get("type", "Opaque")


register(
    "",
    "Secret",
    defaults=_secret_defaults,
    update=_secret_prepare_update,
    validate=_secret,
    validate_update=_secret_update,
    metadata_again=True,
)

register("", "ServiceAccount", metadata_again=True)


def _namespace_defaults(obj: Object) -> None:
    name = obj["metadata"].get("name") if type(obj.get("metadata")) is dict else None
    if name:
        labels = obj["metadata"].get("labels") or {}
        if labels.get("kubernetes.io/metadata.name") != name:
            obj["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": name}


def _namespace_create(obj: Object) -> None:
    _namespace_defaults(obj)  # again, because a generated name was missing when the body was decoded
    obj["status"] = {"phase": "Active"}
    spec = obj["spec"] = dict(obj.get("spec") or {})
    finalizers = spec.get("finalizers") or []
    if "kubernetes" not in finalizers:
        spec["finalizers"] = [*finalizers, "kubernetes"]


def _namespace_update(new: Object, old: Object) -> None:
    new["spec"] = {**(new.get("spec") or {})}
    if "finalizers" in (old.get("spec") or {}):
        new["spec"]["finalizers"] = old["spec"]["finalizers"]
    else:
        new["spec"].pop("finalizers", None)


def _namespace_status(new: Object, old: Object, errors: Errors) -> None:
    phase = (new.get("status") or {}).get("phase", "")
    if "deletionTimestamp" in new["metadata"]:
        if phase != "Terminating":
            errors.append(wrong("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"))
    elif phase != "Active":
        errors.append(wrong("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty"))


register(
    "",
    "Namespace",
    name=names.dns_label,
    defaults=_namespace_defaults,
    create=_namespace_create,
    update=_namespace_update,
    validate_status=_namespace_status,
)

_NO_NAMESPACE_EVENTS = ("", "default", "kube-system")


def _event(obj: Object, errors: Errors) -> None:
    about = obj.get("involvedObject") if obj["apiVersion"] == "v1" else obj.get("regarding")
    field = "involvedObject.namespace"
    namespace = obj["metadata"].get("namespace", "")
    there = (about or {}).get("namespace", "")
    if not there:
        if namespace not in ("default", "kube-system", ""):
            errors.append(wrong(field, there, "does not match event.namespace"))
    elif there != namespace:
        errors.append(wrong(field, there, "does not match event.namespace"))


def _new_event(obj: Object, errors: Errors) -> None:
    """events.k8s.io/v1 is strict where core/v1 is not (``ValidateEventCreate``)."""
    if not obj.get("eventTime"):
        errors.append(required("eventTime"))
    if obj.get("type") not in ("Normal", "Warning"):
        errors.append(wrong("type", obj.get("type", ""), "has invalid value: " + str(obj.get("type", ""))))
    for name, limit in (("reportingController", 0), ("reportingInstance", 128), ("action", 128), ("reason", 128)):
        value = obj.get(name, "")
        if not value:
            errors.append(required(name))
        elif name == "reportingController":
            for text in names.qualified_name(value):
                errors.append(wrong(name, value, text))
        elif len(value) > limit:
            errors.append(wrong(name, "", f"can have at most {limit} characters"))
    if len(obj.get("note", "")) > 1024:
        errors.append(wrong("note", "", "can have at most 1024 characters"))
    _event(obj, errors)


register("", "Event", validate=_event, metadata_again=True)
register("events.k8s.io", "Event", validate=_new_event, metadata_again=True)


def _endpoint_defaults(obj: Object) -> None:
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def _endpoints(obj: Object, errors: Errors) -> None:
    for index, subset in enumerate(obj.get("subsets") or ()):
        field = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(field, "must specify `addresses` or `notReadyAddresses`"))
        for number, port in enumerate(subset.get("ports") or ()):
            if not 1 <= port.get("port", 0) <= 65535:
                errors.append(wrong(f"{field}.ports[{number}].port", port.get("port", 0), PORT_TEXT))
            if port.get("protocol") not in PROTOCOLS:
                errors.append(not_supported(f"{field}.ports[{number}].protocol", port.get("protocol"), PROTOCOLS))


PORT_TEXT = "must be between 1 and 65535, inclusive"
PROTOCOLS = ("TCP", "UDP", "SCTP")
register("", "Endpoints", defaults=_endpoint_defaults, validate=_endpoints, metadata_again=True)


def spec_of(obj: Object) -> dict[str, Any]:
    """``spec``, or an empty one."""
    return obj.get("spec") or {}
