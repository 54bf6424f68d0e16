"""What the expressions of admission policies may use: variables and types (``apiserver/pkg/admission/plugin/cel/compile.go``)."""

from collections.abc import Mapping

from raycp.embedded.strategy.cel.checker import Environment
from raycp.embedded.strategy.cel.declared import Declared
from raycp.embedded.strategy.cel.patches import PatchTypes
from raycp.embedded.strategy.cel.types import BOOL, DYN, INT, STRING, TIMESTAMP, Type, list_of, map_of

VARIABLES = Type("kubernetes.variables")
AUTHORIZER = Type("kubernetes.authorization.Authorizer")
RESOURCE_CHECK = Type("kubernetes.authorization.ResourceCheck")
_KIND, _RESOURCE = Type("kubernetes.GroupVersionKind"), Type("kubernetes.GroupVersionResource")
_USER, _REQUEST, _NAMESPACE = Type("kubernetes.UserInfo"), Type("kubernetes.AdmissionRequest"), Type("kubernetes.Namespace")
_TEXTS = map_of(STRING, STRING)
_OBJECTS: dict[str, dict[str, Type]] = {
    _KIND.name: {"group": STRING, "version": STRING, "kind": STRING},
    _RESOURCE.name: {"group": STRING, "version": STRING, "resource": STRING},
    _USER.name: {
        "username": STRING,
        "uid": STRING,
        "groups": list_of(STRING),
        "extra": map_of(STRING, list_of(STRING)),
    },
    _REQUEST.name: {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": _USER,
        "dryRun": BOOL,
        "options": DYN,
    },
    _NAMESPACE.name: {
        "metadata": Type("kubernetes.NamespaceMetadata"),
        "spec": Type("kubernetes.NamespaceSpec"),
        "status": Type("kubernetes.NamespaceStatus"),
    },
    "kubernetes.NamespaceMetadata": {
        "name": STRING,
        "generateName": STRING,
        "namespace": STRING,
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "UID": STRING,
        "creationTimestamp": TIMESTAMP,
        "deletionGracePeriodSeconds": INT,
        "deletionTimestamp": TIMESTAMP,
        "generation": INT,
        "resourceVersion": STRING,
        "finalizers": list_of(STRING),
    },
    "kubernetes.NamespaceSpec": {"finalizers": list_of(STRING)},
    "kubernetes.NamespaceStatus": {"conditions": list_of(Type("kubernetes.NamespaceCondition")), "phase": STRING},
    "kubernetes.NamespaceCondition": {
        "status": STRING,
        "type": STRING,
        "lastTransitionTime": TIMESTAMP,
        "message": STRING,
        "reason": STRING,
    },
}


def admission_environment(
    *,
    params: bool,
    authorizer: bool,
    variables: Mapping[str, Type] | None = None,
    kind: Declared | None = None,
    params_kind: Declared | None = None,
    patches: bool = False,
) -> Environment:
    """``variables``: those that the policy defines. ``kind`` and ``params_kind``: what is known of the objects, for type checks.
    ``patches``: the types that mutations make are there."""
    objects = PatchTypes(_OBJECTS) if patches else dict(_OBJECTS)
    for declared in (kind, params_kind):
        if declared is not None:
            objects.update(declared.objects())
    known = DYN if kind is None else kind.type
    names = {"object": known, "oldObject": known, "request": _REQUEST, "namespaceObject": _NAMESPACE}
    if params:
        names["params"] = DYN if params_kind is None else params_kind.type
    if authorizer:
        names |= {"authorizer": AUTHORIZER, "authorizer.requestResource": RESOURCE_CHECK}
    if variables is not None:
        names["variables"] = VARIABLES
        objects[VARIABLES.name] = dict(variables)
    return Environment(names, objects)
