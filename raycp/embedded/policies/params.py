"""The parameters of a binding (``CollectParams`` of ``apiserver/pkg/admission/plugin/policy/generic``)."""

from typing import Any

from raycp.embedded.registry import Registry
from raycp.embedded.selectors import parse_label_dict

Object = dict[str, Any]


class Misconfigured(Exception):
    """A policy or binding cannot be evaluated as it is configured. The message is kube-apiserver's."""


def params_of(registry: Registry, kind: Object | None, ref: Object | None, namespace: str) -> list[Object | None]:
    """The objects with which to evaluate, each once; ``None`` for a policy without parameters. Raises ``Misconfigured``."""
    if not kind or not ref:
        return [None]
    resource = registry.by_kind(kind["apiVersion"], kind["kind"])
    if resource is None:
        shown = f"&ParamKind{{APIVersion:{kind['apiVersion']},Kind:{kind['kind']},}}"
        raise Misconfigured(f"paramKind kind `{shown}` not known")
    home = ref.get("namespace") or ""
    if resource.info.namespaced:
        home = home or namespace
        if not home:
            raise Misconfigured("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
    elif home:
        raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    found: list[Object | None] = []
    if ref.get("name"):
        record = resource.table.get(home, ref["name"])
        found = [resource.read(record)] if record is not None else []
    else:
        wanted = parse_label_dict(ref.get("selector") or {})
        found = [resource.read(record) for record in resource.table.records(home) if wanted(record.labels)]
    if not found and ref.get("parameterNotFoundAction") == "Deny":
        raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
    return found
