"""Subresources: status and the like are updates; scale, binding, eviction, token and log have rules of their own."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from raycp.embedded import forms
from raycp.embedded.access import Access
from raycp.embedded.auth import Authenticator
from raycp.embedded.errors import (
    FieldError,
    StatusError,
    bad_request,
    conflict,
    internal,
    invalid_kind,
    method_not_allowed,
    no_such_path,
    not_found,
)
from raycp.embedded.evictions import SUCCESS, Evictions
from raycp.embedded.httpio import Answer, HttpResponse
from raycp.embedded.logparameters import LogParameters, log_parameters
from raycp.embedded.options import first, parse_query, write_options
from raycp.embedded.patches import apply_patch
from raycp.embedded.pipeline import Object
from raycp.embedded.registry import ServedResource
from raycp.embedded.store import StoredObject
from raycp.embedded.strategy import body_decoder
from raycp.embedded.tokenrequests import TokenRequests
from raycp.embedded.verbs import ResourceRequest, Verbs

LogSource = Callable[[Object, str, LogParameters], bytes]
"""the log of a container of a Pod. Raises ``StatusError`` if it has none"""

_REFUSED = frozenset({"exec", "attach", "portforward", "proxy"})
_ANSWERS = frozenset({"binding", "eviction", "token"})
"""subresources whose answer is no object of their resource, and has no Table"""


class Subresources:
    """Handles requests of subresources."""

    def __init__(self, verbs: Verbs, auth: Authenticator, access: Access) -> None:
        self._verbs = verbs
        self._pipeline = verbs.pipeline
        self._tokens = TokenRequests(verbs.pipeline, auth)
        self._evictions = Evictions(verbs)
        self._access = access
        self.logs: LogSource | None = None
        """the source of logs; without it every log is empty"""

    def handle(self, call: ResourceRequest, more: list[str]) -> Answer | Coroutine[Any, Any, Answer]:
        """Raises ``StatusError``."""
        info = call.resource.info
        if call.sub not in info.subresources or (more and call.sub != "proxy"):
            raise no_such_path() if info.crd is None else not_found(info, call.name)
        known = info.subresource(call.sub)
        if known is not None and call.verb not in known.verbs:
            raise method_not_allowed()
        if info.namespaced and not call.ns:
            raise no_such_path()
        if call.sub in _ANSWERS:
            forms.check_plain(call.request.headers.get(b"accept"))
        if call.sub in _REFUSED:
            raise self._unreachable(call)
        match call.sub:
            case "scale":
                return self._scale(call)
            case "binding":
                return self.bind_request(call)
            case "eviction":
                return self._evictions.create(call, self._record(call))
            case "token":
                return self._tokens.create(call, self._record(call))
            case "log":
                return self._log(call)
        return self._verbs.handle(call)

    def _record(self, call: ResourceRequest) -> StoredObject:
        record = call.resource.table.get(call.ns, call.name)
        if record is None:
            raise not_found(call.resource.info, call.name)
        return record

    def _unreachable(self, call: ResourceRequest) -> StatusError:
        """The error of a real server whose kubelets do not answer: of what would need a container's process or network."""
        record = self._record(call)
        kind, node = call.resource.info.plural, call.name
        if kind == "services":
            return StatusError(503, "ServiceUnavailable", f"no endpoints available for service {json.dumps(call.name)}")
        if kind == "pods":
            pod = record.decode()
            if call.sub in ("exec", "attach"):
                container_of(pod, first(parse_query(call.request.query), "container"))
            node = pod["spec"].get("nodeName") or ""
            if not node:
                return bad_request(f"pod {call.name} does not have a host assigned")
        if call.sub == "proxy":
            text = f"error trying to reach service: dial tcp: lookup {node}: no such host"
            return StatusError(503, "ServiceUnavailable", text)
        return internal(f"error dialing backend: dial tcp: lookup {node}: no such host")

    # ---- scale

    def _scale(self, call: ResourceRequest) -> Answer | Coroutine[Any, Any, Answer]:
        record = self._record(call)
        obj = call.resource.read(record)
        paths = _scale_paths(call)
        scale = _scale_of(call, obj, paths)
        if call.verb == "get":
            return _json(200, scale)
        request = call.request
        decoder = body_decoder("autoscaling", "v1", "Scale")
        warnings: list[str] = []
        if call.verb == "update":
            options = write_options(request.query, request.header(b"user-agent"), "UpdateOptions", False)
            wanted, warnings = decoder.decode(request.body, call.media_type(), options.validation)
        else:
            kind = call.media_type().partition(";")[0].strip().lower()
            options = write_options(request.query, request.header(b"user-agent"), "PatchOptions", False)
            wanted = apply_patch(call.resource.info, kind, scale, request.body, options.validation, warnings, into=decoder)
        version = (wanted.get("metadata") or {}).get("resourceVersion")
        if version and version != str(record.rv):
            raise conflict(call.resource.info, call.name)
        replicas = (wanted.get("spec") or {}).get("replicas") or 0
        if type(replicas) is not int or replicas < 0:
            cause = FieldError(
                "FieldValueInvalid", "spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0"
            )
            raise StatusError(
                422,
                "Invalid",
                f'Scale.autoscaling "{call.name}" is invalid: {cause.text()}',
                {
                    "name": call.name,
                    "group": "autoscaling",
                    "kind": "Scale",
                    "causes": [{"reason": cause.type, "message": cause.message, "field": cause.field}],
                },
            )
        _put(obj, paths[0], replicas)
        obj["metadata"].pop("resourceVersion", None)
        if call.resource.info.crd is not None:
            obj["metadata"]["resourceVersion"] = str(record.rv)
        draft = self._pipeline.draft_update(call.resource, call.ns, call.name, obj, options)
        wrote = self._pipeline.finish(self._verbs.guarded(draft, call.user, warnings, "scale"))
        self._verbs.wrote(call, forms.PLAIN, wrote, warnings, options.dry_run)
        return _json(200, _scale_of(call, call.resource.read(wrote.record), paths))

    # ---- pods

    def bind_request(self, call: ResourceRequest) -> Answer:
        """POST of a Binding."""
        request = call.request
        options = write_options(request.query, request.header(b"user-agent"), "CreateOptions", False)
        binding, _ = body_decoder("", "v1", "Binding").decode(request.body, call.media_type(), options.validation)
        self._record(call)
        record = self.bind_pod(call.resource, call.ns, call.name, binding, options.dry_run)
        if not options.dry_run:
            self._verbs.record(call, record)
        return _json(201, {**SUCCESS, "code": 201})

    def bind_collection(self, call: ResourceRequest) -> Answer:
        """POST to ``bindings``: the Pod is named by the Binding."""
        obj, _ = body_decoder("", "v1", "Binding").decode(call.request.body, call.media_type(), "Ignore")
        pods = self._pipeline.registry.find("", "v1", "pods")
        assert pods is not None
        call.resource, call.name, call.sub = pods, (obj.get("metadata") or {}).get("name") or "", "binding"
        return self.bind_request(call)

    def bind_pod(self, pods: ServedResource, ns: str, name: str, binding: Object, dry_run: bool = False) -> StoredObject:
        """Assign a Pod to a node: ``BindingREST``. Raises ``StatusError``."""
        record = pods.table.get(ns, name)
        info = pods.info
        if record is None:
            raise not_found(info, name)
        target = binding.get("target") or {}
        node = target.get("name") or ""
        if not node:
            raise _binding_invalid(name, FieldError("FieldValueRequired", "target.name", "Required value"))
        if target.get("kind") not in (None, "", "Node"):
            cause = FieldError(
                "FieldValueNotSupported",
                "target.kind",
                f'Unsupported value: "{target["kind"]}": supported values: "Node", "<empty>"',
            )
            raise _binding_invalid(name, cause)
        meta = binding.get("metadata") or {}
        if meta.get("uid") and meta["uid"] != record.uid:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {record.uid}"
            raise conflict(info, name, why)
        pod = pods.read(record)
        if "deletionTimestamp" in pod["metadata"]:
            raise _binding_conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
        held = pod["spec"].get("nodeName")
        if held:
            raise _binding_conflict(name, f'pod {name} is already assigned to node "{held}"')
        if pod["spec"].get("schedulingGates"):
            raise _binding_conflict(name, f"pod {name} has non-empty .spec.schedulingGates")
        pod["spec"]["nodeName"] = node
        pod["status"].pop("nominatedNodeName", None)
        for key in ("annotations", "labels"):
            if meta.get(key):
                pod["metadata"][key] = {**(pod["metadata"].get(key) or {}), **meta[key]}
        now = self._pipeline.times.now()
        conditions = [c for c in pod["status"].get("conditions") or () if c.get("type") != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
        if "generation" in pod["metadata"]:
            scheduled["observedGeneration"] = pod["metadata"]["generation"]
        pod["status"]["conditions"] = [*conditions, scheduled]
        return self._pipeline.commit_update(pods, record, pod, dry_run)

    def _log(self, call: ResourceRequest) -> Answer:
        pod = self._record(call).decode()
        query = parse_query(call.request.query)
        parameters = log_parameters(query, call.name, self._pipeline.times.wall())
        spec = pod["spec"]
        container = container_of(pod, first(query, "container"))
        node = spec.get("nodeName")
        if not node and (pod.get("status") or {}).get("phase") in (None, "Pending"):
            return HttpResponse(204, b"")
        if node and self.logs is None:
            nodes = self._pipeline.registry.find("", "v1", "nodes")
            if nodes is not None and nodes.table.get("", node) is None:
                raise not_found(nodes.info, node)
        text = self.logs(pod, container, parameters) if self.logs is not None else b""
        return HttpResponse(200, text, "text/plain")


def container_of(pod: Object, asked: str) -> str:
    """The container that a request means. Raises ``StatusError`` 400 if it names none of the Pod's, or must name one."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    names = [one["name"] for one in spec.get("containers") or ()]
    others = [one["name"] for one in (spec.get("initContainers") or []) + (spec.get("ephemeralContainers") or [])]
    if asked:
        if asked not in names and asked not in others:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    annotated = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if len(names) > 1 and annotated not in names:
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")
    return str(annotated) if annotated in names else str(names[0])


def _json(status: int, body: Object) -> HttpResponse:
    return HttpResponse(status, msgspec.json.encode(body))


def _binding_invalid(name: str, cause: FieldError) -> StatusError:
    return invalid_kind("", "Binding", name, [cause])


def _binding_conflict(name: str, why: str) -> StatusError:
    text = f'Operation cannot be fulfilled on pods/binding "{name}": {why}'
    return StatusError(409, "Conflict", text, {"name": name, "kind": "pods/binding"})


def _scale_paths(call: ResourceRequest) -> tuple[str, str, str]:
    """The paths of replicas, observed replicas and the selector."""
    crd = call.resource.info.crd
    if crd is None:
        return "spec.replicas", "status.replicas", "spec.selector"
    one = next(v for v in crd["spec"]["versions"] if v["name"] == call.resource.info.version)
    scale = one["subresources"]["scale"]
    return (
        scale["specReplicasPath"].lstrip("."),
        scale["statusReplicasPath"].lstrip("."),
        (scale.get("labelSelectorPath") or "").lstrip("."),
    )


def _scale_of(call: ResourceRequest, obj: Object, paths: tuple[str, str, str]) -> Object:
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = _at(obj, paths[2]) if paths[2] else None
    status: Object = {"replicas": _at(obj, paths[1]) or 0}
    if isinstance(selector, dict):
        selector = _selector_text(selector)
    if selector:
        status["selector"] = selector
    replicas = _at(obj, paths[0])
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def _selector_text(selector: Object) -> str:
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        return ",".join(f"{k}={v}" for k, v in sorted(selector.items()))  # a ReplicationController's
    terms = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(sorted(term.get("values") or ()))
        shown = {"In": f"{term['key']} in ({values})", "NotIn": f"{term['key']} notin ({values})"}
        bare = {"Exists": term["key"], "DoesNotExist": f"!{term['key']}"}
        terms.append((shown | bare)[term["operator"]])
    return ",".join(terms)


def _at(obj: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(obj, dict):
            return None
        obj = obj.get(part)
    return obj


def _put(obj: Object, path: str, value: Any) -> None:
    *heads, last = path.split(".")
    for part in heads:
        obj = obj.setdefault(part, {})
    obj[last] = value
