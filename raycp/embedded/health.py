"""``/healthz``, ``/livez`` and ``/readyz`` with the checks of kube-apiserver 1.36. A server that answers passes all of them."""

from raycp.embedded.httpio import HttpResponse
from raycp.embedded.options import parse_query

_HOOKS = (
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "aggregator-reload-proxy-client-cert",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
)
_ALIVE = ("ping", "log", "etcd")
_LATER = (
    *(f"poststarthook/{hook}" for hook in _HOOKS),
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
)
CHECKS = {
    "healthz": (*_ALIVE, *_LATER),
    "livez": (*_ALIVE, *_LATER),
    "readyz": (*_ALIVE, "etcd-readiness", "informer-sync", *_LATER, "shutdown"),
}
"""the checks of each path, in the order of the answer"""

_TEXT = "text/plain; charset=utf-8"


def health(path: str, query: str) -> HttpResponse | None:
    """The answer on a path, or None if no check has that path. ``verbose`` lists the checks, ``exclude`` leaves some out."""
    kind, _, check = path.lstrip("/").partition("/")
    checks = CHECKS.get(kind, ())
    if not checks or (check and check not in checks):
        return None
    given = parse_query(query)
    if check or "verbose" not in given:
        return HttpResponse(200, b"ok", _TEXT)
    excluded = set(given.get("exclude", ()))
    lines = [f"[+]{each} excluded: ok" if each in excluded else f"[+]{each} ok" for each in checks]
    unknown = sorted(excluded.difference(checks))
    if unknown:
        named = ", ".join(f'"{each}"' for each in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {named}")
    return HttpResponse(200, "\n".join([*lines, f"{kind} check passed", ""]).encode(), _TEXT)
