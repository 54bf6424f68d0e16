"""The cells of built-in kinds in a table (``pkg/printers/internalversion/printers.go``)."""

from collections.abc import Callable
from typing import Any

from raycp.embedded.ages import UNKNOWN, age, duration
from raycp.embedded.strategy.scalars import unix_time

Object = dict[str, Any]
Row = Callable[[Object, float], list[Any]]
NONE = "<none>"


def _name_age(obj: Object, now: float, *between: Any) -> list[Any]:
    meta = obj["metadata"]
    return [meta.get("name", ""), *between, age(meta.get("creationTimestamp"), now)]


def _labels(labels: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) if labels else NONE


def _selector(selector: Object | None) -> str:
    if not selector:
        return NONE
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(sorted(term.get("values") or ()))
        operator = term.get("operator")
        if operator in ("In", "NotIn"):
            parts.append(f"{term['key']} {operator.lower()} ({values})")
        else:
            parts.append(term["key"] if operator == "Exists" else f"!{term['key']}")
    return ",".join(parts) or NONE


def _containers(template: Object | None) -> list[str]:
    found = ((template or {}).get("spec") or {}).get("containers") or ()
    return [",".join(c.get("name", "") for c in found), ",".join(c.get("image", "") for c in found)]


def _pod(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    reason = status.get("reason") or status.get("phase", "")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    restarts = 0
    last_restart = ""
    ready = 0
    sidecars = {c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or ()) + len(sidecars)
    initializing = False
    for index, one in enumerate(status.get("initContainerStatuses") or ()):
        restarts += one.get("restartCount", 0)
        state = one.get("state") or {}
        ended = state.get("terminated")
        if one.get("name") in sidecars and one.get("started"):
            ready += bool(one.get("ready"))
            continue
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if ended is not None:
            text = ended.get("reason") or _ended(ended)
            reason = f"Init:{text}"
        elif (state.get("waiting") or {}).get("reason") not in (None, "", "PodInitializing"):
            reason = f"Init:{state['waiting']['reason']}"
        else:
            reason = f"Init:{index}/{len(spec.get('initContainers') or ())}"
        initializing = True
        break
    if not initializing:
        restarts = 0 if not sidecars else restarts
        running = False
        for one in reversed(status.get("containerStatuses") or ()):
            restarts += one.get("restartCount", 0)
            state = one.get("state") or {}
            finished = ((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
            last_restart = max(last_restart, finished)
            waiting, ended = state.get("waiting"), state.get("terminated")
            if waiting and waiting.get("reason"):
                reason = waiting["reason"]
            elif ended is not None:
                reason = ended.get("reason") or _ended(ended)
            elif one.get("ready") and state.get("running") is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or ()}
            reason = "Running" if conditions.get("Ready") == "True" else "NotReady"
    if obj["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    told = f"{restarts} ({age(last_restart, now)} ago)" if restarts and last_restart else str(restarts)
    gates = spec.get("readinessGates") or ()
    shown_gates = NONE
    if gates:
        met = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
        shown_gates = f"{sum(1 for g in gates if g.get('conditionType') in met)}/{len(gates)}"
    addresses = status.get("podIPs") or ()
    return [
        *_name_age(obj, now, f"{ready}/{total}", reason, told),
        (addresses[0].get("ip") if addresses else status.get("podIP")) or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        shown_gates,
    ]


def _ended(state: Object) -> str:
    if state.get("signal"):
        return f"Signal:{state['signal']}"
    return f"ExitCode:{state.get('exitCode', 0)}"


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
    told = status.get("nodeInfo") or {}

    def address(kind: str) -> str:
        return next((a["address"] for a in status.get("addresses") or () if a.get("type") == kind), NONE)

    return [
        meta.get("name", ""),
        ",".join(states),
        ",".join(sorted(roles)) or NONE,
        age(meta.get("creationTimestamp"), now),
        told.get("kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        told.get("osImage") or UNKNOWN,
        told.get("kernelVersion") or UNKNOWN,
        told.get("containerRuntimeVersion") or UNKNOWN,
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
    return [*_name_age(obj, now, *cells), _labels(spec.get("selector"))]


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


def _deployment(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    cells = [ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [*_name_age(obj, now, *cells), *_containers(spec.get("template")), _selector(spec.get("selector"))]


def _replicas(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    selector = spec.get("selector")
    shown = _labels(selector) if obj["kind"] == "ReplicationController" else _selector(selector)
    cells = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [*_name_age(obj, now, *cells), *_containers(spec.get("template")), shown]


def _stateful(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [*_name_age(obj, now, ready), *_containers(spec.get("template"))]


def _daemon(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    keys = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    nodes = _labels(((spec.get("template") or {}).get("spec") or {}).get("nodeSelector"))
    cells = [*(status.get(key, 0) for key in keys), nodes]
    return [*_name_age(obj, now, *cells), *_containers(spec.get("template")), _selector(spec.get("selector"))]


def _job(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    done = status.get("succeeded", 0)
    told = f"{done}/{completions}" if completions is not None else f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    state = "Running"
    for kind, word in (
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("deletion", "Terminating"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if kind in true or (kind == "deletion" and obj["metadata"].get("deletionTimestamp")):
            state = word
            break
    took = ""
    if status.get("startTime"):
        end = status.get("completionTime")
        took = duration((unix_time(end) if end else now) - unix_time(status["startTime"]))
    cells = [state, told, took]
    return [*_name_age(obj, now, *cells), *_containers(spec.get("template")), _selector(spec.get("selector"))]


def _cron(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    last = status.get("lastScheduleTime")
    template = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template")
    suspended = "True" if spec.get("suspend") else "False"
    shown = age(last, now) if last else NONE
    cells = [spec.get("schedule", ""), spec.get("timeZone") or NONE, suspended, len(status.get("active") or ()), shown]
    selector = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("selector")
    return [*_name_age(obj, now, *cells), *_containers(template), _selector(selector)]


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
    return [*_name_age(obj, now, *cells), spec.get("volumeMode") or "<unset>"]


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
    return [*_name_age(obj, now, *cells), spec.get("volumeMode") or "<unset>"]


def _budget(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    shown = ["N/A" if value is None else str(value) for value in (least, most)]
    return _name_age(obj, now, *shown, status.get("disruptionsAllowed", 0))


def _binding(obj: Object, now: float) -> list[Any]:
    ref = obj.get("roleRef") or {}
    people: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            name = f"{subject.get('namespace', '')}/{name}"
        people.setdefault(subject.get("kind", ""), []).append(name)
    shown = [", ".join(people[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [*_name_age(obj, now, f"{ref.get('kind', '')}/{ref.get('name', '')}"), *shown]


def _quota(obj: Object, now: float) -> list[Any]:
    status = obj.get("status") or {}
    used, hard = status.get("used") or {}, status.get("hard") or {}
    parts: dict[bool, list[str]] = {True: [], False: []}
    for name in sorted(hard):
        parts[name.startswith("limits.")].append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [*_name_age(obj, now), ", ".join(parts[False]), ", ".join(parts[True])]


def _ingress(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    hosts = [rule.get("host") or "*" for rule in spec.get("rules") or ()]
    points = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    address = ",".join(p.get("ip") or p.get("hostname", "") for p in points)
    shown = ",".join(dict.fromkeys(hosts)) or "*"
    ports = "80, 443" if spec.get("tls") else "80"
    return _name_age(obj, now, spec.get("ingressClassName") or NONE, shown, address, ports)


def _priority(obj: Object, now: float) -> list[Any]:
    first = _name_age(obj, now, obj.get("value", 0), obj.get("globalDefault", False))
    return [*first, obj.get("preemptionPolicy", "")]


def _endpoints(obj: Object, now: float) -> list[Any]:
    found = []
    for subset in obj.get("subsets") or ():
        for address in subset.get("addresses") or ():
            ip = str(address.get("ip"))
            found += [f"{ip}:{port['port']}" for port in subset.get("ports") or ()] or [ip]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return _name_age(obj, now, ",".join(found[:3]) + more or NONE)


def _slice(obj: Object, now: float) -> list[Any]:
    ports = ",".join(str(p.get("port", "*")) for p in obj.get("ports") or ()) or "<unset>"
    points = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    more = f" + {len(points) - 3} more..." if len(points) > 3 else ""
    return _name_age(obj, now, obj.get("addressType", ""), ports, ",".join(points[:3]) + more or "<unset>")


def _class(obj: Object, now: float) -> list[Any]:
    annotations = obj["metadata"].get("annotations") or {}
    name = obj["metadata"].get("name", "")
    if annotations.get("storageclass.kubernetes.io/is-default-class") == "true":
        name += " (default)"
    more = "true" if obj.get("allowVolumeExpansion") else "false"
    cells = [obj.get("provisioner", ""), obj.get("reclaimPolicy", ""), obj.get("volumeBindingMode", ""), more]
    return [name, *cells, age(obj["metadata"].get("creationTimestamp"), now)]


def _autoscaler(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ref = spec.get("scaleTargetRef") or {}
    targets = []
    current = {m.get("type"): m for m in status.get("currentMetrics") or ()}
    for metric in spec.get("metrics") or ():
        own = metric.get("resource") or {}
        wanted = (own.get("target") or {}).get("averageUtilization")
        seen = ((current.get("Resource") or {}).get("resource") or {}).get("current") or {}
        if wanted is not None:
            now_at = seen.get("averageUtilization")
            targets.append(f"{own.get('name')}: {UNKNOWN if now_at is None else f'{now_at}%'}/{wanted}%")
    bounds = [str(spec.get("minReplicas", "<unset>")), spec.get("maxReplicas", 0), status.get("currentReplicas", 0)]
    reference = f"{ref.get('kind', '')}/{ref.get('name', '')}"
    return _name_age(obj, now, reference, ", ".join(targets) or NONE, *bounds)


def _revision(obj: Object, now: float) -> list[Any]:
    owners = obj["metadata"].get("ownerReferences") or ()
    owner = next((o for o in owners if o.get("controller")), None)
    shown_owner = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = owner.get("kind", "").lower()
        shown_owner = f"{kind}.{group}/{owner.get('name', '')}" if group else f"{kind}/{owner.get('name', '')}"
    return _name_age(obj, now, shown_owner, obj.get("revision", 0))


def _webhooks(obj: Object, now: float) -> list[Any]:
    return _name_age(obj, now, len(obj.get("webhooks") or ()))


ROWS: dict[tuple[str, str], Row] = {
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("apps", "ControllerRevision"): _revision,
    ("node.k8s.io", "RuntimeClass"): lambda o, n: _name_age(o, n, o.get("handler", "")),
    ("storage.k8s.io", "CSINode"): lambda o, n: _name_age(o, n, len((o.get("spec") or {}).get("drivers") or ())),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _webhooks,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _webhooks,
    ("", "Pod"): _pod,
    ("", "ConfigMap"): lambda o, n: _name_age(o, n, len(o.get("data") or ()) + len(o.get("binaryData") or ())),
    ("", "Secret"): lambda o, n: _name_age(o, n, o.get("type", ""), len(o.get("data") or ())),
    ("", "Namespace"): lambda o, n: _name_age(o, n, (o.get("status") or {}).get("phase", "")),
    ("", "Node"): _node,
    ("", "Service"): _service,
    ("", "ServiceAccount"): lambda o, n: _name_age(o, n, len(o.get("secrets") or ())),
    ("", "Endpoints"): _endpoints,
    ("", "Event"): _event,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "ReplicationController"): _replicas,
    ("", "ResourceQuota"): _quota,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replicas,
    ("apps", "StatefulSet"): _stateful,
    ("apps", "DaemonSet"): _daemon,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron,
    ("coordination.k8s.io", "Lease"): lambda o, n: _name_age(o, n, (o.get("spec") or {}).get("holderIdentity", "")),
    ("policy", "PodDisruptionBudget"): _budget,
    ("scheduling.k8s.io", "PriorityClass"): _priority,
    ("storage.k8s.io", "StorageClass"): _class,
    ("rbac.authorization.k8s.io", "RoleBinding"): _binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _binding,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("networking.k8s.io", "NetworkPolicy"): lambda o, n: _name_age(o, n, _selector((o.get("spec") or {}).get("podSelector"))),
    ("networking.k8s.io", "IngressClass"): lambda o, n: _name_age(o, n, (o.get("spec") or {}).get("controller", ""), NONE),
    ("discovery.k8s.io", "EndpointSlice"): _slice,
    ("events.k8s.io", "Event"): _event,
}
