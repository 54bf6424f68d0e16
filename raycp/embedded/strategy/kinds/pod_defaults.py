"""Versioned defaults of Pods and of the templates of workloads (``pkg/apis/core/v1/defaults.go``)."""

from typing import Any

from raycp.embedded.strategy.rules import Object

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE = (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3))
_POD_SPEC = (
    ("restartPolicy", "Always"),
    ("terminationGracePeriodSeconds", 30),
    ("dnsPolicy", "ClusterFirst"),
    ("schedulerName", "default-scheduler"),
)
_MODES = ("secret", "configMap", "downwardAPI", "projected")
_SOURCES_OF_NOTHING = {"name"}


def pod_spec(spec: Object, *, template: bool = True) -> None:
    """Defaults of a PodSpec. ``template``: it is a workload's, in which limits do not default requests."""
    for name, value in _POD_SPEC:
        if name not in spec:
            spec[name] = value
    if "securityContext" not in spec:
        spec["securityContext"] = {}
    if not template and "enableServiceLinks" not in spec:
        spec["enableServiceLinks"] = True
    host_network = not template and bool(spec.get("hostNetwork"))
    for group in ("containers", "initContainers", "ephemeralContainers"):
        for one in spec.get(group) or ():
            container(one, host_network)
            if not template:
                _requests_from_limits(one.get("resources"))
    for volume in spec.get("volumes") or ():
        _volume(volume)


def container(one: Object, host_network: bool = False) -> None:
    """Defaults of one container."""
    if "imagePullPolicy" not in one:
        one["imagePullPolicy"] = _pull_policy(one.get("image", ""))
    if "terminationMessagePath" not in one:
        one["terminationMessagePath"] = "/dev/termination-log"
    if "terminationMessagePolicy" not in one:
        one["terminationMessagePolicy"] = "File"
    for port in one.get("ports") or ():
        if "protocol" not in port:
            port["protocol"] = "TCP"
        if host_network and not port.get("hostPort"):
            port["hostPort"] = port.get("containerPort", 0)
    for variable in one.get("env") or ():
        source = variable.get("valueFrom")
        if source:
            field = source.get("fieldRef")
            if field is not None and not field.get("apiVersion"):
                field["apiVersion"] = "v1"
            key = source.get("fileKeyRef")
            if key is not None and key.get("optional") is None:
                key["optional"] = False
    for name in _PROBES:
        probe = one.get(name)
        if probe is not None:
            for key, value in _PROBE:
                if not probe.get(key):
                    probe[key] = value
            _handler(probe)
    lifecycle = one.get("lifecycle")
    if lifecycle:
        for hook in ("postStart", "preStop"):
            if lifecycle.get(hook):
                _handler(lifecycle[hook])


def _handler(action: Object) -> None:
    http = action.get("httpGet")
    if http is not None:
        if not http.get("path"):
            http["path"] = "/"
        if not http.get("scheme"):
            http["scheme"] = "HTTP"


def _pull_policy(image: str) -> str:
    name = image.rsplit("/", 1)[-1]
    if "@" in name:
        return "IfNotPresent"
    _, colon, tag = name.partition(":")
    return "IfNotPresent" if colon and tag != "latest" else "Always"


def _requests_from_limits(resources: Any) -> None:
    if resources and resources.get("limits"):
        requests = resources.get("requests")
        limits = resources["limits"]
        if requests is None:
            resources["requests"] = dict(limits)
        else:
            for name, amount in limits.items():
                if name not in requests:
                    requests[name] = amount


def _volume(volume: Object) -> None:
    if volume.keys() <= _SOURCES_OF_NOTHING:
        volume["emptyDir"] = {}
        return
    for kind in _MODES:
        source = volume.get(kind)
        if source is None:
            continue
        if source.get("defaultMode") is None:
            source["defaultMode"] = 420
        if kind == "downwardAPI":
            _downward(source)
        elif kind == "projected":
            for part in source.get("sources") or ():
                if part.get("downwardAPI"):
                    _downward(part["downwardAPI"])
                token = part.get("serviceAccountToken")
                if token is not None and token.get("expirationSeconds") is None:
                    token["expirationSeconds"] = 3600
    host = volume.get("hostPath")
    if host is not None and host.get("type") is None:
        host["type"] = ""
    iscsi = volume.get("iscsi")
    if iscsi is not None and not iscsi.get("iscsiInterface"):
        iscsi["iscsiInterface"] = "default"
    rbd = volume.get("rbd")
    if rbd is not None:
        for key, value in (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")):
            if not rbd.get(key):
                rbd[key] = value
    azure = volume.get("azureDisk")
    if azure is not None:
        for key, fallback in (
            ("cachingMode", "ReadWrite"),
            ("kind", "Shared"),
            ("fsType", "ext4"),
            ("readOnly", False),
        ):
            if azure.get(key) is None:
                azure[key] = fallback
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim and claim.get("spec") is not None and not claim["spec"].get("volumeMode"):
        claim["spec"]["volumeMode"] = "Filesystem"


def _downward(source: Object) -> None:
    for item in source.get("items") or ():
        field = item.get("fieldRef")
        if field is not None and not field.get("apiVersion"):
            field["apiVersion"] = "v1"


def pod(obj: Object) -> None:
    """Defaults of a Pod."""
    spec = obj.get("spec")
    if spec is not None:
        pod_spec(spec, template=False)


_UNREACHABLE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def default_tolerations(spec: Object) -> None:
    """Admission plugin DefaultTolerationSeconds: tolerate not-ready and unreachable nodes for 300 s."""
    there = spec.get("tolerations") or []
    more = []
    for key in _UNREACHABLE:
        if not there or not any(t.get("key", "") in (key, "") and t.get("effect", "") in ("NoExecute", "") for t in there):
            more.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    if more:
        spec["tolerations"] = [*there, *more]


def admit(obj: Object) -> None:
    """Admission and PrepareForCreate of a new Pod. Priorities are the caller's."""
    spec = obj.get("spec")
    if not spec:
        return
    default_tolerations(spec)
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    status: Object = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": None,
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    obj["status"] = status


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort (``qos.ComputePodQOS``)."""
    anything = False
    guaranteed = True
    for group in ("containers", "initContainers"):
        for one in spec.get(group) or ():
            resources = one.get("resources") or {}
            requests = {k: v for k, v in (resources.get("requests") or {}).items() if k in ("cpu", "memory") and v != "0"}
            limits = {k: v for k, v in (resources.get("limits") or {}).items() if k in ("cpu", "memory") and v != "0"}
            anything = anything or bool(requests) or bool(limits)
            guaranteed = guaranteed and len(limits) == 2 and requests == limits
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
