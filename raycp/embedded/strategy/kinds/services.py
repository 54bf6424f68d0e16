"""Service, EndpointSlice, Ingress, NetworkPolicy, PersistentVolume and PersistentVolumeClaim."""

import zlib
from typing import Any

from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import Errors, duplicate, forbidden, immutable, not_supported, required, wrong
from raycp.embedded.strategy.rules import Object, register

_PORT = "must be between 1 and 65535, inclusive"
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def _spec(obj: Object) -> Object:
    found: Object = obj.get("spec") or {}
    return found


def _service_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP" and not (spec.get("sessionAffinityConfig") or {}).get("clientIP"):
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (0, "", None):
            port["targetPort"] = port.get("port", 0)
    if spec["type"] in ("NodePort", "LoadBalancer") and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] in ("NodePort", "LoadBalancer", "ClusterIP") and spec.get("internalTrafficPolicy") is None:
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True


def _allocate(obj: Object) -> None:
    """Allocate addresses and node ports by a hash of the uid: without state, so that collisions are rare but possible."""
    spec = obj.get("spec")
    if spec is None or spec.get("type") == "ExternalName":
        return
    seed = obj["metadata"].get("uid") or obj["metadata"].get("name", "")
    drawn = zlib.crc32(str(seed).encode())
    if not spec.get("clusterIP"):
        given = spec.get("clusterIPs") or ()
        host = drawn % (2**20 - 2) + 1
        spec["clusterIP"] = given[0] if given else f"10.{96 + (host >> 16)}.{host >> 8 & 255}.{host & 255}"
    if not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    if spec["clusterIP"] != "None" or spec.get("selector") or spec.get("ipFamilies"):
        if not spec.get("ipFamilies"):
            spec["ipFamilies"] = ["IPv6" if ":" in spec["clusterIP"] else "IPv4"]
        if spec.get("ipFamilyPolicy") is None:
            spec["ipFamilyPolicy"] = "SingleStack"
    else:
        spec.setdefault("ipFamilies", ["IPv4", "IPv6"])
        spec.setdefault("ipFamilyPolicy", "RequireDualStack")
    if spec["type"] == "NodePort" or (spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts")):
        taken = {port.get("nodePort") for port in spec.get("ports") or ()}
        for index, port in enumerate(spec.get("ports") or ()):
            if not port.get("nodePort"):
                number = 30000 + (drawn + index * 7) % 2768
                while number in taken:
                    number = 30000 + (number + 1 - 30000) % 2768
                port["nodePort"] = number
                taken.add(number)


def _service_update_prepare(new: Object, old: Object) -> None:
    spec, before = new.get("spec"), _spec(old)
    if spec is None:
        return
    spec = new["spec"] = dict(spec)
    given = spec.get("clusterIPs")
    if spec.get("clusterIP") and spec["clusterIP"] != before.get("clusterIP") and given and given == before.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"], *given[1:]]  # clusterIP and the first of clusterIPs are the same
    if spec.get("type") != "ExternalName" and before.get("type") != "ExternalName":
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if not spec.get(key) and before.get(key):
                spec[key] = before[key]
        used = {(p.get("port"), p.get("protocol")): p.get("nodePort") for p in before.get("ports") or ()}
        if spec.get("ports") and spec.get("type") in ("NodePort", "LoadBalancer"):
            spec["ports"] = [dict(port) for port in spec["ports"]]
            for port in spec["ports"]:
                there = used.get((port.get("port"), port.get("protocol")))
                if not port.get("nodePort") and there:
                    port["nodePort"] = there
    elif spec.get("type") == "ExternalName":
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            if spec.get(key) == before.get(key):
                spec.pop(key, None)
    _allocate({"spec": spec, "metadata": new["metadata"]})


def _service(obj: Object, errors: Errors) -> None:
    spec = _spec(obj)
    kind = spec.get("type", "")
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    if kind == "LoadBalancer" and headless:
        text = "may not be set to 'None' for LoadBalancer services"
        errors.append(wrong("spec.clusterIPs[0]", "None", text))
    if kind == "ExternalName":
        if not spec.get("externalName"):
            errors.append(required("spec.externalName"))
        else:
            name = spec["externalName"].rstrip(".")
            for text in names.dns_subdomain(name):
                errors.append(wrong("spec.externalName", spec["externalName"], text))
    seen: set[str] = set()
    pairs: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        name, number, protocol = port.get("name", ""), port.get("port", 0), port.get("protocol", "")
        if not name:
            if len(ports) > 1:
                errors.append(required(f"{field}.name"))
        else:
            for text in names.dns_label(name):
                errors.append(wrong(f"{field}.name", name, text))
            if name in seen:
                errors.append(duplicate(f"{field}.name", name))
            seen.add(name)
        if not 1 <= number <= 65535:
            errors.append(wrong(f"{field}.port", number, _PORT))
        if protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{field}.protocol", protocol, _PROTOCOLS))
        target = port.get("targetPort", 0)
        if isinstance(target, int):
            if not 1 <= target <= 65535:
                errors.append(wrong(f"{field}.targetPort", target, _PORT))
        else:
            for text in names.port_name(target):
                errors.append(wrong(f"{field}.targetPort", target, text))
        if kind in ("ClusterIP", "ExternalName") and port.get("nodePort"):
            text = f"may not be used when `type` is '{kind}'"
            errors.append(forbidden(f"{field}.nodePort", text))
        if (protocol, number) in pairs:
            errors.append(duplicate(field, {"protocol": protocol, "port": number}))
        pairs.add((protocol, number))
    for key, value in (spec.get("selector") or {}).items():
        for text in names.qualified_name(key):
            errors.append(wrong("spec.selector", key, text))
        for text in names.label_value(value):
            errors.append(wrong("spec.selector", value, text))
    affinity = spec.get("sessionAffinity")
    if affinity not in ("ClientIP", "None"):
        errors.append(not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None")))
    if kind not in _TYPES:
        errors.append(not_supported("spec.type", kind, _TYPES))
    for key, values in (
        ("internalTrafficPolicy", ("Cluster", "Local")),
        ("externalTrafficPolicy", ("Cluster", "Local")),
    ):
        if spec.get(key) and spec[key] not in values:
            errors.append(not_supported(f"spec.{key}", spec[key], values))


def _service_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = _spec(new), _spec(old)
    if before.get("type") != "ExternalName" and spec.get("type") != "ExternalName":
        was = (before.get("clusterIPs") or [before.get("clusterIP")])[0]
        now = (spec.get("clusterIPs") or [spec.get("clusterIP")])[0]
        if was and was != now:
            errors.append(wrong("spec.clusterIPs[0]", spec.get("clusterIPs"), "may not change once set"))
    _service(new, errors)


register(
    "",
    "Service",
    name=names.dns_1035_label,
    defaults=_service_defaults,
    create=_allocate,
    update=_service_update_prepare,
    validate=_service,
    validate_update=_service_update,
    metadata_again=True,
)


def _slice_defaults(obj: Object) -> None:
    for port in obj.get("ports") or ():
        if port.get("name") is None:
            port["name"] = ""
        if port.get("protocol") is None:
            port["protocol"] = "TCP"


def _slice(obj: Object, errors: Errors) -> None:
    kinds = ("FQDN", "IPv4", "IPv6")
    if not obj.get("addressType"):
        errors.append(required("addressType"))
    elif obj["addressType"] not in kinds:
        errors.append(not_supported("addressType", obj["addressType"], kinds))
    for index, point in enumerate(obj.get("endpoints") or ()):
        if not point.get("addresses"):
            errors.append(required(f"endpoints[{index}].addresses", "must contain at least 1 address"))


def _slice_update(new: Object, old: Object, errors: Errors) -> None:
    _slice(new, errors)
    if new.get("addressType") != old.get("addressType"):
        errors.append(immutable("addressType", new.get("addressType")))


register(
    "discovery.k8s.io",
    "EndpointSlice",
    generation=True,
    generation_of=lambda obj: (obj.get("endpoints"), obj.get("ports"), obj.get("addressType")),
    defaults=_slice_defaults,
    validate=_slice,
    validate_update=_slice_update,
)


def _ingress(obj: Object, errors: Errors) -> None:
    spec = _spec(obj)
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        errors.append(wrong("spec", spec, "either `defaultBackend` or `rules` must be specified"))
    for index, rule in enumerate(spec.get("rules") or ()):
        field = f"spec.rules[{index}]"
        host = rule.get("host", "")
        if host:
            checked = host[2:] if host.startswith("*.") else host
            for text in names.dns_subdomain(checked):
                errors.append(wrong(f"{field}.host", host, text))
        http = rule.get("http")
        if http is None:
            continue
        if not http.get("paths"):
            errors.append(required(f"{field}.http.paths"))
        for number, path in enumerate(http.get("paths") or ()):
            here = f"{field}.http.paths[{number}]"
            kinds = ("Exact", "ImplementationSpecific", "Prefix")
            kind = path.get("pathType")
            if not kind:
                errors.append(required(f"{here}.pathType", "pathType must be specified"))
            elif kind not in kinds:
                errors.append(not_supported(f"{here}.pathType", kind, kinds))
            elif kind in ("Exact", "Prefix") and not path.get("path", "").startswith("/"):
                errors.append(wrong(f"{here}.path", path.get("path", ""), "must be an absolute path"))
            backend = path.get("backend") or {}
            if backend.get("resource") is None and backend.get("service") is None:
                errors.append(required(f"{here}.backend", "resource or service backend is required"))
            elif backend.get("service") is not None and not backend["service"].get("name"):
                errors.append(required(f"{here}.backend.service.name"))


register(
    "networking.k8s.io",
    "Ingress",
    generation=True,
    validate=_ingress,
    validate_update=lambda new, old, errors: _ingress(new, errors),
)
register("networking.k8s.io", "IngressClass", generation=True)


def _policy_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction) or ():
            for port in rule.get("ports") or ():
                if port.get("protocol") is None:
                    port["protocol"] = "TCP"
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


register("networking.k8s.io", "NetworkPolicy", generation=True, defaults=_policy_defaults)


def _claim_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is not None and spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"


def _claim_create(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}


_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def _claim(obj: Object, errors: Errors) -> None:
    spec = _spec(obj)
    if not spec.get("accessModes"):
        errors.append(required("spec.accessModes", "at least 1 access mode is required"))
    for mode in spec.get("accessModes") or ():
        if mode not in _MODES:
            errors.append(not_supported("spec.accessModes", mode, _MODES))
    if "storage" not in ((spec.get("resources") or {}).get("requests") or {}):
        errors.append(required("spec.resources[storage]"))


def _claim_update(new: Object, old: Object, errors: Errors) -> None:
    def fixed(spec: Object, was: Object) -> Object:
        kept = {k: v for k, v in spec.items() if k not in ("resources", "volumeAttributesClassName")}
        if not was.get("volumeName"):
            kept.pop("volumeName", None)
        return kept

    spec, before = _spec(new), _spec(old)
    if fixed(spec, before) != fixed(before, before):
        text = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        errors.append(forbidden("spec", text))


register(
    "",
    "PersistentVolumeClaim",
    defaults=_claim_defaults,
    create=_claim_create,
    validate=_claim,
    validate_update=_claim_update,
)


def _volume_defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is not None:
        if not spec.get("persistentVolumeReclaimPolicy"):
            spec["persistentVolumeReclaimPolicy"] = "Retain"
        if spec.get("volumeMode") is None:
            spec["volumeMode"] = "Filesystem"
        host = spec.get("hostPath")
        if host is not None and host.get("type") is None:
            host["type"] = ""


def _volume(obj: Object, errors: Errors) -> None:
    spec = _spec(obj)
    if not spec.get("accessModes"):
        errors.append(required("spec.accessModes"))
    for mode in spec.get("accessModes") or ():
        if mode not in _MODES:
            errors.append(not_supported("spec.accessModes", mode, _MODES))
    if not spec.get("capacity"):
        errors.append(required("spec.capacity"))
    elif "storage" not in spec["capacity"]:
        errors.append(not_supported("spec.capacity", spec["capacity"], ("storage",)))


def _volume_create(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}


register("", "PersistentVolume", defaults=_volume_defaults, create=_volume_create, validate=_volume)
