"""Descriptions of served resources: one ``ResourceInfo`` per resource, for built-in kinds and for CRDs.

``BUILTINS`` lists what kube-apiserver 1.36 serves by default, in the order of its discovery.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CRD_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
"""the verbs, in the order of apiextensions-apiserver"""
READ_WRITE = ("get", "patch", "update")
_PROXY = ("create", "delete", "get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource. ``group`` and ``version`` are set if its kind belongs to another group."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ResourceInfo:
    """One resource in one version. Compared by identity: built-in ones exist once per (group, version, plural)."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresource_table: Mapping[str, Subresource] = field(default_factory=dict)
    storage_group: str = ""
    """group under which objects are stored; differs from ``group`` for events.k8s.io, which shares the core's"""
    list_kind: str = ""
    crd: dict[str, Any] | None = None
    """the CustomResourceDefinition, for custom resources"""
    subresources: frozenset[str] = field(init=False)
    api_version: str = field(init=False)
    name: str = field(init=False)
    """``plural`` or ``plural.group``, as errors and CRDs name it"""

    def __post_init__(self) -> None:
        put = object.__setattr__  # the class is frozen
        put(self, "subresources", frozenset(self.subresource_table))
        put(self, "api_version", f"{self.group}/{self.version}" if self.group else self.version)
        put(self, "name", f"{self.plural}.{self.group}" if self.group else self.plural)

    def subresource(self, name: str) -> Subresource | None:
        return self.subresource_table.get(name)


# plural Kind scope[N|C] [short,names] [+categories] [=verbs] [/subresource...]; indented under its group version
_TABLE = """
v1
 bindings Binding N =create
 componentstatuses ComponentStatus C cs =get,list
 configmaps ConfigMap N cm
 endpoints Endpoints N ep
 events Event N ev
 limitranges LimitRange N limits
 namespaces Namespace C ns =create,delete,get,list,patch,update,watch /finalize /status
 nodes Node C no /proxy /status
 persistentvolumeclaims PersistentVolumeClaim N pvc /status
 persistentvolumes PersistentVolume C pv /status
 pods Pod N po +all /attach /binding /ephemeralcontainers /eviction /exec /log /portforward /proxy /resize /status
 podtemplates PodTemplate N
 replicationcontrollers ReplicationController N rc +all /scale /status
 resourcequotas ResourceQuota N quota /status
 secrets Secret N
 serviceaccounts ServiceAccount N sa /token
 services Service N svc +all /proxy /status
apiregistration.k8s.io/v1
 apiservices APIService C +api-extensions /status
apps/v1
 controllerrevisions ControllerRevision N
 daemonsets DaemonSet N ds +all /status
 deployments Deployment N deploy +all /scale /status
 replicasets ReplicaSet N rs +all /scale /status
 statefulsets StatefulSet N sts +all /scale /status
events.k8s.io/v1
 events Event N ev
authentication.k8s.io/v1
 selfsubjectreviews SelfSubjectReview C =create
 tokenreviews TokenReview C =create
authorization.k8s.io/v1
 localsubjectaccessreviews LocalSubjectAccessReview N =create
 selfsubjectaccessreviews SelfSubjectAccessReview C =create
 selfsubjectrulesreviews SelfSubjectRulesReview C =create
 subjectaccessreviews SubjectAccessReview C =create
autoscaling/v2
 horizontalpodautoscalers HorizontalPodAutoscaler N hpa +all /status
autoscaling/v1
 horizontalpodautoscalers HorizontalPodAutoscaler N hpa +all /status
batch/v1
 cronjobs CronJob N cj +all /status
 jobs Job N +all /status
certificates.k8s.io/v1
 certificatesigningrequests CertificateSigningRequest C csr /approval /status
networking.k8s.io/v1
 ingressclasses IngressClass C
 ingresses Ingress N ing /status
 ipaddresses IPAddress C ip
 networkpolicies NetworkPolicy N netpol
 servicecidrs ServiceCIDR C /status
policy/v1
 poddisruptionbudgets PodDisruptionBudget N pdb /status
rbac.authorization.k8s.io/v1
 clusterrolebindings ClusterRoleBinding C
 clusterroles ClusterRole C
 rolebindings RoleBinding N
 roles Role N
storage.k8s.io/v1
 csidrivers CSIDriver C
 csinodes CSINode C
 csistoragecapacities CSIStorageCapacity N
 storageclasses StorageClass C sc
 volumeattachments VolumeAttachment C /status
 volumeattributesclasses VolumeAttributesClass C vac
admissionregistration.k8s.io/v1
 mutatingadmissionpolicies MutatingAdmissionPolicy C +api-extensions
 mutatingadmissionpolicybindings MutatingAdmissionPolicyBinding C +api-extensions
 mutatingwebhookconfigurations MutatingWebhookConfiguration C +api-extensions
 validatingadmissionpolicies ValidatingAdmissionPolicy C +api-extensions /status
 validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding C +api-extensions
 validatingwebhookconfigurations ValidatingWebhookConfiguration C +api-extensions
apiextensions.k8s.io/v1
 customresourcedefinitions CustomResourceDefinition C crd,crds +api-extensions /status
scheduling.k8s.io/v1
 priorityclasses PriorityClass C pc
coordination.k8s.io/v1
 leases Lease N
node.k8s.io/v1
 runtimeclasses RuntimeClass C
discovery.k8s.io/v1
 endpointslices EndpointSlice N
resource.k8s.io/v1
 deviceclasses DeviceClass C
 resourceclaims ResourceClaim N /status
 resourceclaimtemplates ResourceClaimTemplate N
 resourceslices ResourceSlice C
flowcontrol.apiserver.k8s.io/v1
 flowschemas FlowSchema C /status
 prioritylevelconfigurations PriorityLevelConfiguration C /status
"""

_CONNECT = ("create", "get")
# subresources whose kind is not that of their parent
_SPECIAL = {
    "scale": ("Scale", READ_WRITE, "autoscaling", "v1"),
    "attach": ("PodAttachOptions", _CONNECT, "", ""),
    "binding": ("Binding", ("create",), "", ""),
    "eviction": ("Eviction", ("create",), "policy", "v1"),
    "exec": ("PodExecOptions", _CONNECT, "", ""),
    "portforward": ("PodPortForwardOptions", _CONNECT, "", ""),
    "token": ("TokenRequest", ("create",), "authentication.k8s.io", "v1"),
    "log": ("", ("get",), "", ""),
    "finalize": ("", ("update",), "", ""),
}


def _subresource(name: str, kind: str) -> Subresource:
    if name == "proxy":
        return Subresource(name, f"{kind}ProxyOptions", _PROXY)
    special = _SPECIAL.get(name)
    if special is None:
        return Subresource(name, kind, READ_WRITE)
    return Subresource(name, special[0] or kind, special[1], special[2], special[3])


def _parse(table: str) -> Iterator[ResourceInfo]:
    group = version = ""
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            group, _, version = line.rpartition("/")
            continue
        plural, kind, scope, *rest = line.split()
        short: tuple[str, ...] = ()
        categories: tuple[str, ...] = ()
        verbs: tuple[str, ...] = ALL_VERBS
        parts: dict[str, Subresource] = {}
        for word in rest:
            if word[0] == "+":
                categories = (word[1:],)
            elif word[0] == "=":
                verbs = tuple(word[1:].split(","))
            elif word[0] == "/":
                parts[word[1:]] = _subresource(word[1:], kind)
            else:
                short = tuple(word.split(","))
        yield ResourceInfo(
            group=group,
            version=version,
            kind=kind,
            plural=plural,
            singular=kind.lower(),
            namespaced=scope == "N",
            short_names=short,
            categories=categories,
            verbs=verbs,
            subresource_table=parts,
            storage_group="" if group == "events.k8s.io" else group,
            list_kind=f"{kind}List",
        )


BUILTINS: tuple[ResourceInfo, ...] = tuple(_parse(_TABLE))

GROUP_PRIORITY = tuple(dict.fromkeys(info.group for info in BUILTINS))
"""built-in groups in the order of discovery"""


def resource_for_crd(crd: dict[str, Any], version: str) -> ResourceInfo:
    """The resource that an accepted CRD serves in ``version``. Names come from status.acceptedNames where present."""
    spec = crd["spec"]
    accepted = crd.get("status", {}).get("acceptedNames") or {}
    names = accepted if accepted.get("plural") else spec["names"]
    one = next(v for v in spec["versions"] if v["name"] == version)
    parts: dict[str, Subresource] = {}
    wanted = one.get("subresources") or {}
    if wanted.get("status") is not None:
        parts["status"] = Subresource("status", names["kind"], READ_WRITE)
    if wanted.get("scale") is not None:
        parts["scale"] = Subresource("scale", "Scale", READ_WRITE, "autoscaling", "v1")
    return ResourceInfo(
        group=spec["group"],
        version=version,
        kind=names["kind"],
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=CRD_VERBS,
        subresource_table=parts,
        storage_group=spec["group"],
        list_kind=names.get("listKind") or names["kind"] + "List",
        crd=crd,
    )


_VERSION = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?$")
_STAGE = {"alpha": 1, "beta": 2, None: 3}


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sorts versions, greatest first when reversed: GA before beta before alpha, others last."""
    found = _VERSION.match(version)
    if found is None:
        return (0, 0, 0, "".join(chr(0x10FFFF - ord(c)) for c in version))
    return (_STAGE[found[2]], int(found[1]), int(found[3] or 0), "")
