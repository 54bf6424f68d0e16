"""Tables as ``kubectl get`` prints them (``pkg/printers/internalversion/printers.go``), and CRDs' printer columns."""

from functools import lru_cache
from typing import Any

from raycp.embedded.ages import UNKNOWN, age
from raycp.embedded.jsonpath import Visits, json_path, shown
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.tablerows import ROWS

Object = dict[str, Any]

# Group/Kind: columns; "*" marks those of `-o wide`, ":i" and ":b" integers and booleans, all others are strings
_COLUMNS = """
/Pod: Name Ready Status Restarts Age *IP *Node *Nominated_Node *Readiness_Gates
/ConfigMap: Name Data Age
/Secret: Name Type Data Age
/Namespace: Name Status Age
/Node: Name Status Roles Age Version *Internal-IP *External-IP *OS-Image *Kernel-Version *Container-Runtime
/Service: Name Type Cluster-IP External-IP Port(s) Age *Selector
/ServiceAccount: Name Secrets Age
/Endpoints: Name Endpoints Age
/Event: Last_Seen Type Reason Object *Subobject *Source Message *First_Seen *Count *Name
/PersistentVolume: Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass
 Reason Age *VolumeMode
/PersistentVolumeClaim: Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age *VolumeMode
/ReplicationController: Name Desired:i Current:i Ready:i Age *Containers *Images *Selector
/ResourceQuota: Name Age Request Limit
apps/Deployment: Name Ready Up-to-date Available Age *Containers *Images *Selector
apps/ReplicaSet: Name Desired:i Current:i Ready:i Age *Containers *Images *Selector
apps/StatefulSet: Name Ready Age *Containers *Images
apps/DaemonSet: Name Desired:i Current:i Ready:i Up-to-date:i Available:i Node_Selector Age
 *Containers *Images *Selector
batch/Job: Name Status Completions Duration Age *Containers *Images *Selector
batch/CronJob: Name Schedule Timezone Suspend:b Active:i Last_Schedule Age *Containers *Images *Selector
coordination.k8s.io/Lease: Name Holder Age
policy/PodDisruptionBudget: Name Min_Available Max_Unavailable Allowed_Disruptions:i Age
scheduling.k8s.io/PriorityClass: Name Value:i Global-Default:b Age PreemptionPolicy
storage.k8s.io/StorageClass: Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age
rbac.authorization.k8s.io/RoleBinding: Name Role Age *Users *Groups *ServiceAccounts
rbac.authorization.k8s.io/ClusterRoleBinding: Name Role Age *Users *Groups *ServiceAccounts
networking.k8s.io/Ingress: Name Class Hosts Address Ports Age
networking.k8s.io/NetworkPolicy: Name Pod-Selector Age
networking.k8s.io/IngressClass: Name Controller Parameters Age
discovery.k8s.io/EndpointSlice: Name AddressType Ports Endpoints Age
autoscaling/HorizontalPodAutoscaler: Name Reference Targets MinPods MaxPods Replicas Age
apps/ControllerRevision: Name Controller Revision Age
node.k8s.io/RuntimeClass: Name Handler Age
storage.k8s.io/CSINode: Name Drivers:i Age
admissionregistration.k8s.io/MutatingWebhookConfiguration: Name Webhooks:i Age
admissionregistration.k8s.io/ValidatingWebhookConfiguration: Name Webhooks:i Age
events.k8s.io/Event: Last_Seen Type Reason Object *Subobject *Source Message *First_Seen *Count *Name
"""


@lru_cache(maxsize=1)
def _known() -> dict[tuple[str, str], list[Object]]:
    found: dict[tuple[str, str], list[Object]] = {}
    for line in _COLUMNS.strip().replace("\n ", " ").splitlines():
        target, _, columns = line.partition(": ")
        group, _, kind = target.partition("/")
        found[group, kind] = [_column(word) for word in columns.split()]
    return found


def _column(word: str) -> Object:
    priority = 1 if word.startswith("*") else 0
    name, _, kind = word.lstrip("*").partition(":")
    name = name.replace("_", " ")
    return _definition(name, {"i": "integer", "b": "boolean"}.get(kind, "string"), priority=priority)


def _definition(name: str, kind: str, form: str = "", text: str = "", priority: int = 0) -> Object:
    if name == "Name" and priority == 0:
        form = "name"
    return {"name": name, "type": kind, "format": form, "description": text or name, "priority": priority}


def table_columns(info: ResourceInfo) -> list[Object]:
    """``columnDefinitions`` of a resource's Table."""
    if info.crd is not None:
        return [_definition("Name", "string"), *(_printer_column(one) for one in _printer_columns(info))]
    found = _known().get((info.group, info.kind))
    return found if found is not None else [_definition("Name", "string"), _definition("Created At", "date")]


def table_row(info: ResourceInfo, obj: Object, now: float) -> list[Any]:
    """One row's cells. ``now`` is Unix time, for ages."""
    if info.crd is not None:
        visits = Visits()
        cells = [_cell(obj, column, now, visits) for column in _printer_columns(info)]
        return [obj["metadata"].get("name", ""), *cells]
    row = ROWS.get((info.group, info.kind))
    if row is None:
        return [obj["metadata"].get("name", ""), obj["metadata"].get("creationTimestamp")]
    return row(obj, now)


# ---- custom resources

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _printer_columns(info: ResourceInfo) -> list[Object]:
    assert info.crd is not None
    version = next(v for v in info.crd["spec"]["versions"] if v["name"] == info.version)
    return version.get("additionalPrinterColumns") or [_AGE]


def _printer_column(column: Object) -> Object:
    text = column.get("description") or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
    made = _definition(column["name"], column["type"], column.get("format", ""), text, column.get("priority", 0))
    made["format"] = column.get("format", "")
    return made


def _cell(obj: Object, column: Object, now: float, visits: Visits) -> Any:
    found = json_path(obj, column["jsonPath"], visits)
    if not found:
        return None
    kind = column["type"]
    value = found[0]
    if kind == "integer":
        return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind == "number":
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "date":
        return age(value, now) if isinstance(value, str) else UNKNOWN
    return " ".join(shown(one) for one in found)
