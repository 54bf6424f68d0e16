"""Table rows of built-in kinds, by group and kind (``pkg/printers/internalversion/printers.go``)."""

from typing import Any

from raycp.embedded.ages import UNKNOWN, age
from raycp.embedded.tablecells import NONE, Object, Row, label_cell, name_age, selector_cell
from raycp.embedded.tablepods import pod_row
from raycp.embedded.tableworkloads import (
    autoscaler_row,
    cron_job_row,
    daemon_set_row,
    deployment_row,
    job_row,
    replicas_row,
    revision_row,
    stateful_set_row,
)


def _node(obj: Object, now: float) -> list[Any]:
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    ready = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    states = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if spec.get("unschedulable"):
        states.append("SchedulingDisabled")
    roles = set()
    for key, value in (meta.get("labels") or {}).items():
        if key.startswith("node-role.kubernetes.io/") and key[24:]:
            roles.add(key[24:])
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    info = status.get("nodeInfo") or {}

    def address(kind: str) -> str:
        return next((a["address"] for a in status.get("addresses") or () if a.get("type") == kind), NONE)

    return [
        meta.get("name", ""),
        ",".join(states),
        ",".join(sorted(roles)) or NONE,
        age(meta.get("creationTimestamp"), now),
        info.get("kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _service(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    kind = spec.get("type", "")
    external = ",".join(spec.get("externalIPs") or ()) or NONE
    if kind == "LoadBalancer":
        points = (status.get("loadBalancer") or {}).get("ingress") or ()
        balanced = ",".join(p.get("ip") or p.get("hostname", "") for p in points)
        external = balanced or (external if external != NONE else "<pending>")
    elif kind == "ExternalName":
        external = spec.get("externalName", "")
    ports = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    addresses = spec.get("clusterIPs") or ()
    cluster = addresses[0] if addresses else spec.get("clusterIP") or NONE
    cells = [kind, cluster or NONE, external, ",".join(ports) or NONE]
    return [*name_age(obj, now, *cells), label_cell(spec.get("selector"))]


def _event(obj: Object, now: float) -> list[Any]:
    meta = obj["metadata"]
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    series = obj.get("series") or {}
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    count = series.get("count") or obj.get("count") or obj.get("deprecatedCount") or 1
    kind, name = about.get("kind", "").lower(), about.get("name", "")
    return [
        age(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{name}" if kind else name,
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        (obj.get("message") or obj.get("note") or "").strip(),
        age(first, now),
        count,
        meta.get("name", ""),
    ]


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(modes: Any) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in modes or ())


def _claim(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", "")
    capacity = modes = ""
    if spec.get("volumeName"):
        capacity = (status.get("capacity") or {}).get("storage", "0")
        modes = _modes(status.get("accessModes"))
    classes = [spec.get("storageClassName") or "", spec.get("volumeAttributesClassName") or "<unset>"]
    cells = [phase, spec.get("volumeName", ""), capacity, modes, *classes]
    return [*name_age(obj, now, *cells), spec.get("volumeMode") or "<unset>"]


def _volume(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", "")
    ref = spec.get("claimRef")
    claim = f"{ref.get('namespace', '')}/{ref.get('name', '')}" if ref else ""
    cells = [
        (spec.get("capacity") or {}).get("storage", "0"),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        phase,
        claim,
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or "<unset>",
        status.get("reason", ""),
    ]
    return [*name_age(obj, now, *cells), spec.get("volumeMode") or "<unset>"]


def _budget(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    shown = ["N/A" if value is None else str(value) for value in (least, most)]
    return name_age(obj, now, *shown, status.get("disruptionsAllowed", 0))


def _binding(obj: Object, now: float) -> list[Any]:
    ref = obj.get("roleRef") or {}
    people: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            name = f"{subject.get('namespace', '')}/{name}"
        people.setdefault(subject.get("kind", ""), []).append(name)
    shown = [", ".join(people[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [*name_age(obj, now, f"{ref.get('kind', '')}/{ref.get('name', '')}"), *shown]


def _quota(obj: Object, now: float) -> list[Any]:
    status = obj.get("status") or {}
    used, hard = status.get("used") or {}, status.get("hard") or {}
    parts: dict[bool, list[str]] = {True: [], False: []}
    for name in sorted(hard):
        parts[name.startswith("limits.")].append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [*name_age(obj, now), ", ".join(parts[False]), ", ".join(parts[True])]


def _ingress(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    hosts = [rule.get("host") or "*" for rule in spec.get("rules") or ()]
    points = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    address = ",".join(p.get("ip") or p.get("hostname", "") for p in points)
    shown = ",".join(dict.fromkeys(hosts)) or "*"
    ports = "80, 443" if spec.get("tls") else "80"
    return name_age(obj, now, spec.get("ingressClassName") or NONE, shown, address, ports)


def _priority(obj: Object, now: float) -> list[Any]:
    first = name_age(obj, now, obj.get("value", 0), obj.get("globalDefault", False))
    return [*first, obj.get("preemptionPolicy", "")]


def _endpoints(obj: Object, now: float) -> list[Any]:
    found = []
    for subset in obj.get("subsets") or ():
        for address in subset.get("addresses") or ():
            ip = str(address.get("ip"))
            found += [f"{ip}:{port['port']}" for port in subset.get("ports") or ()] or [ip]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return name_age(obj, now, ",".join(found[:3]) + more or NONE)


def _slice(obj: Object, now: float) -> list[Any]:
    ports = ",".join(str(p.get("port", "*")) for p in obj.get("ports") or ()) or "<unset>"
    points = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    more = f" + {len(points) - 3} more..." if len(points) > 3 else ""
    return name_age(obj, now, obj.get("addressType", ""), ports, ",".join(points[:3]) + more or "<unset>")


def _class(obj: Object, now: float) -> list[Any]:
    annotations = obj["metadata"].get("annotations") or {}
    name = obj["metadata"].get("name", "")
    if annotations.get("storageclass.kubernetes.io/is-default-class") == "true":
        name += " (default)"
    more = "true" if obj.get("allowVolumeExpansion") else "false"
    cells = [obj.get("provisioner", ""), obj.get("reclaimPolicy", ""), obj.get("volumeBindingMode", ""), more]
    return [name, *cells, age(obj["metadata"].get("creationTimestamp"), now)]


def _webhooks(obj: Object, now: float) -> list[Any]:
    return name_age(obj, now, len(obj.get("webhooks") or ()))


ROWS: dict[tuple[str, str], Row] = {
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaler_row,
    ("apps", "ControllerRevision"): revision_row,
    ("node.k8s.io", "RuntimeClass"): lambda o, n: name_age(o, n, o.get("handler", "")),
    ("storage.k8s.io", "CSINode"): lambda o, n: name_age(o, n, len((o.get("spec") or {}).get("drivers") or ())),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _webhooks,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _webhooks,
    ("", "Pod"): pod_row,
    ("", "ConfigMap"): lambda o, n: name_age(o, n, len(o.get("data") or ()) + len(o.get("binaryData") or ())),
    ("", "Secret"): lambda o, n: name_age(o, n, o.get("type", ""), len(o.get("data") or ())),
    ("", "Namespace"): lambda o, n: name_age(o, n, (o.get("status") or {}).get("phase", "")),
    ("", "Node"): _node,
    ("", "Service"): _service,
    ("", "ServiceAccount"): lambda o, n: name_age(o, n, len(o.get("secrets") or ())),
    ("", "Endpoints"): _endpoints,
    ("", "Event"): _event,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "ReplicationController"): replicas_row,
    ("", "ResourceQuota"): _quota,
    ("apps", "Deployment"): deployment_row,
    ("apps", "ReplicaSet"): replicas_row,
    ("apps", "StatefulSet"): stateful_set_row,
    ("apps", "DaemonSet"): daemon_set_row,
    ("batch", "Job"): job_row,
    ("batch", "CronJob"): cron_job_row,
    ("coordination.k8s.io", "Lease"): lambda o, n: name_age(o, n, (o.get("spec") or {}).get("holderIdentity", "")),
    ("policy", "PodDisruptionBudget"): _budget,
    ("scheduling.k8s.io", "PriorityClass"): _priority,
    ("storage.k8s.io", "StorageClass"): _class,
    ("rbac.authorization.k8s.io", "RoleBinding"): _binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _binding,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("networking.k8s.io", "NetworkPolicy"): lambda o, n: name_age(o, n, selector_cell((o.get("spec") or {}).get("podSelector"))),
    ("networking.k8s.io", "IngressClass"): lambda o, n: name_age(o, n, (o.get("spec") or {}).get("controller", ""), NONE),
    ("discovery.k8s.io", "EndpointSlice"): _slice,
    ("events.k8s.io", "Event"): _event,
}
