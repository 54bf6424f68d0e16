"""Objects that an API server creates itself: system namespaces, priority classes, its own Service, and with RBAC default roles."""

from typing import Any

from raycp.embedded.localapi import LocalApi

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_PRIORITIES = (
    ("system-cluster-critical", 2_000_000_000,
     "Used for system critical pods that must run in the cluster, but can be moved to another node "
     "if necessary."),
    ("system-node-critical", 2_000_001_000,
     "Used for system critical pods that must not be moved from their current node."),
)  # fmt: skip
_RBAC = "rbac.authorization.k8s.io"
_ALL = ["*"]
_VIEW = ["get", "list", "watch"]
_EDIT = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_WORKLOADS: list[dict[str, Any]] = [
    {
        "apiGroups": [""],
        "resources": [
            "configmaps", "endpoints", "events", "persistentvolumeclaims", "pods", "pods/log", "pods/status",
            "replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services",
        ],
    },
    {"apiGroups": ["apps"], "resources": ["*"]},
    {"apiGroups": ["batch"], "resources": ["*"]},
    {"apiGroups": ["autoscaling"], "resources": ["*"]},
    {"apiGroups": ["policy"], "resources": ["*"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["*"]},
]  # fmt: skip


async def bootstrap(api: LocalApi, *, rbac: bool) -> None:
    """Create what is missing."""
    for name in NAMESPACES:
        await _ensure(api, "namespaces", {"metadata": {"name": name}})
    for name, value, text in _PRIORITIES:
        await _ensure(
            api,
            "priorityclasses.scheduling.k8s.io",
            {
                "metadata": {"name": name},
                "value": value,
                "preemptionPolicy": "PreemptLowerPriority",
                "description": text,
            },
        )
    if rbac:
        await _roles(api)


async def _roles(api: LocalApi) -> None:
    edit = [{**rule, "verbs": _EDIT} for rule in _WORKLOADS] + [
        {"apiGroups": [""], "resources": ["secrets", "pods/eviction", "pods/binding"], "verbs": _EDIT}
    ]
    own_roles = {"apiGroups": [_RBAC], "resources": ["roles", "rolebindings"], "verbs": _EDIT}
    reviews = {
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        "verbs": ["create"],
    }
    whoami = {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]}
    roles: dict[str, list[dict[str, Any]]] = {
        "cluster-admin": [
            {"apiGroups": _ALL, "resources": _ALL, "verbs": _ALL},
            {"nonResourceURLs": _ALL, "verbs": _ALL},
        ],
        "admin": [*edit, own_roles],
        "edit": edit,
        "view": [{**rule, "verbs": _VIEW} for rule in _WORKLOADS],
        "system:basic-user": [reviews, whoami],
    }
    for name, rules in roles.items():
        await _ensure(api, f"clusterroles.{_RBAC}", {"metadata": {"name": name}, "rules": rules})
    for name, role, group in (
        ("cluster-admin", "cluster-admin", "system:masters"),
        ("system:basic-user", "system:basic-user", "system:authenticated"),
    ):
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": group}],
        }
        await _ensure(api, f"clusterrolebindings.{_RBAC}", binding)


async def publish(api: LocalApi, address: str, port: int) -> None:
    """The Service ``kubernetes`` and what it leads to, as kube-apiserver's reconciler keeps them in ``default``."""
    meta = {"name": "kubernetes", "namespace": "default"}
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    service = {
        "metadata": {**meta, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": "10.96.0.1",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
    }
    mirrored = {**meta, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}
    endpoints = {"metadata": mirrored, "subsets": [{"addresses": [{"ip": address}], "ports": ports}]}
    endpoint_slice = {
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": ports,
    }
    for resource, wanted in (("services", service), ("endpoints", endpoints), ("endpointslices.discovery.k8s.io", endpoint_slice)):
        info = api.resource(resource).info
        await api.apply(resource, {"apiVersion": info.api_version, "kind": info.kind, **wanted})


async def _ensure(api: LocalApi, resource: str, obj: dict[str, Any]) -> None:
    if api.get(resource, "", obj["metadata"]["name"]) is None:
        await api.create(resource, obj)
