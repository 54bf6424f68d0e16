"""The checks of the Pod Security Standards with their messages (``k8s.io/pod-security-admission/policy``, 1.36). Pure."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Object = dict[str, Any]
Finding = tuple[str, str]
"""why a Pod is forbidden, and the detail of it"""
Check = Callable[[Object, Object], Finding | None]
"""of metadata and spec"""
LATEST = 36
"""the minor version of the newest standard"""


def _containers(spec: Object) -> Iterator[Object]:
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key) or ()


def _context(one: Object) -> Object:
    return one.get("securityContext") or {}


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{one}"' for one in items)


def _count(singular: str, items: Any, plural: str = "") -> str:
    return singular if len(items) == 1 else plural or singular + "s"


def _named(names: list[str]) -> str:
    return f"{_count('container', names)} {_quoted(names)}"


def _setters(spec: Object, bad: Callable[[Object], Any]) -> tuple[str, set[str]]:
    """Who sets something bad in its security context, in words, and what. ``bad`` gives the bad value, or None."""
    who: list[str] = []
    values: set[str] = set()
    found = bad(_context(spec))
    if found is not None:
        who.append("pod")
        values.add(str(found))
    names = []
    for one in _containers(spec):
        found = bad(_context(one))
        if found is not None:
            names.append(one["name"])
            values.add(str(found))
    if names:
        who.append(_named(names))
    return " and ".join(who), values


def _relaxed(check: Check) -> Check:
    """Not for Pods in a user namespace of their own."""
    return lambda meta, spec: None if spec.get("hostUsers") is False else check(meta, spec)


def _not_on_windows(check: Check) -> Check:
    return lambda meta, spec: None if (spec.get("os") or {}).get("name") == "windows" else check(meta, spec)


def _app_armor(meta: Object, spec: Object) -> Finding | None:
    def bad(context: Object) -> Any:
        kind = (context.get("appArmorProfile") or {}).get("type")
        return kind if kind not in (None, "", "RuntimeDefault", "Localhost") else None

    who, values = _setters(spec, bad)
    shown = sorted(values)
    annotated = []
    for key, value in sorted((meta.get("annotations") or {}).items()):
        allowed = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith("container.apparmor.security.beta.kubernetes.io/") and not allowed:
            annotated.append(f"{key}={json.dumps(value)}")
    if annotated:
        who = " and ".join(filter(None, (who, _count("annotation", annotated))))
        shown += annotated
    if not who:
        return None
    return _count("forbidden AppArmor profile", shown), f"{who} must not set AppArmor profile type to {_quoted(shown)}"


_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
        "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip


def _added(spec: Object, allowed: frozenset[str]) -> tuple[list[str], set[str]]:
    names, values = [], set()
    for one in _containers(spec):
        more = set((_context(one).get("capabilities") or {}).get("add") or ()) - allowed
        if more:
            names.append(one["name"])
            values |= more
    return names, values


def _capabilities(meta: Object, spec: Object) -> Finding | None:
    names, values = _added(spec, _CAPABILITIES)
    if not names:
        return None
    text = f"{_named(names)} must not include {_quoted(sorted(values))} in securityContext.capabilities.add"
    return "non-default capabilities", text


def _few_capabilities(meta: Object, spec: Object) -> Finding | None:
    keeping = [
        one["name"] for one in _containers(spec) if "ALL" not in ((_context(one).get("capabilities") or {}).get("drop") or ())
    ]
    names, values = _added(spec, frozenset({"NET_BIND_SERVICE"}))
    texts = [f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]'] if keeping else []
    if names:
        texts.append(f"{_named(names)} must not include {_quoted(sorted(values))} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(texts)) if texts else None


def _host_namespaces(meta: Object, spec: Object) -> Finding | None:
    found = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return ("host namespaces", ", ".join(found)) if found else None


def _host_paths(meta: Object, spec: Object) -> Finding | None:
    found = [one["name"] for one in spec.get("volumes") or () if one.get("hostPath") is not None]
    return ("hostPath volumes", f"{_count('volume', found)} {_quoted(found)}") if found else None


def _host_ports(meta: Object, spec: Object) -> Finding | None:
    names, ports = [], set()
    for one in _containers(spec):
        found = {str(port["hostPort"]) for port in one.get("ports") or () if port.get("hostPort")}
        if found:
            names.append(one["name"])
            ports |= found
    if not names:
        return None
    uses = _count("uses", names, "use")
    return "hostPort", f"{_named(names)} {uses} {_count('hostPort', ports)} {', '.join(sorted(ports))}"


def _handler_hosts(container: Object) -> set[str]:
    cycle = container.get("lifecycle") or {}
    handlers = [container.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += [cycle.get("postStart"), cycle.get("preStop")]
    found = {(handler.get(key) or {}).get("host") for handler in handlers if handler for key in ("httpGet", "tcpSocket")}
    return {host for host in found if host}


def _host_probes(meta: Object, spec: Object) -> Finding | None:
    names, hosts = set(), set()
    for one in _containers(spec):
        found = _handler_hosts(one)
        if found:
            names.add(one["name"])
            hosts |= found
    if not names:
        return None
    what = "probe or lifecycle host"
    return what, f"{_named(sorted(names))} {_count('uses', names, 'use')} {_count(what, hosts)} {_quoted(sorted(hosts))}"


def _privileged(meta: Object, spec: Object) -> Finding | None:
    names = [one["name"] for one in _containers(spec) if _context(one).get("privileged")]
    return ("privileged", f"{_named(names)} must not set securityContext.privileged=true") if names else None


def _proc_mount(meta: Object, spec: Object) -> Finding | None:
    found = [(one["name"], _context(one)["procMount"]) for one in _containers(spec) if _context(one).get("procMount")]
    found = [(name, value) for name, value in found if value != "Default"]
    values = sorted({value for _, value in found})
    names = [name for name, _ in found]
    return ("procMount", f"{_named(names)} must not set securityContext.procMount to {_quoted(values)}") if names else None


def _se_linux(types: frozenset[str]) -> Check:
    def check(meta: Object, spec: Object) -> Finding | None:
        contexts = [("pod", _context(spec)), *((one["name"], _context(one)) for one in _containers(spec))]
        pod = ""
        names: list[str] = []
        kinds: set[str] = set()
        users = roles = False
        for index, (name, context) in enumerate(contexts):
            options = context.get("seLinuxOptions") or {}
            bad_type = options.get("type", "") not in types
            if bad_type:
                kinds.add(options["type"])
            users, roles = users or bool(options.get("user")), roles or bool(options.get("role"))
            if bad_type or options.get("user") or options.get("role"):
                if index:
                    names.append(name)
                else:
                    pod = "pod"
        if not pod and not names:
            return None
        who = " and ".join(filter(None, (pod, _named(names) if names else "")))
        told = [f"{_count('type', kinds)} {_quoted(sorted(kinds))}"] if kinds else []
        told += ["user may not be set"] if users else []
        told += ["role may not be set"] if roles else []
        return "seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(told)}"

    return check


def _bad_seccomp(context: Object) -> Any:
    profile = context.get("seccompProfile")
    kind = (profile or {}).get("type")
    return kind if profile is not None and kind not in ("Localhost", "RuntimeDefault") else None


def _seccomp(meta: Object, spec: Object) -> Finding | None:
    who, values = _setters(spec, _bad_seccomp)
    if not who:
        return None
    return "seccompProfile", f"{who} must not set securityContext.seccompProfile.type to {_quoted(sorted(values))}"


def _seccomp_annotations(meta: Object, spec: Object) -> Finding | None:
    keys = ["seccomp.security.alpha.kubernetes.io/pod"]
    keys += [f"container.seccomp.security.alpha.kubernetes.io/{one['name']}" for one in _containers(spec)]
    given = meta.get("annotations") or {}
    good = re.compile(r"runtime/default|docker/default|localhost/.*", re.DOTALL)
    found = sorted({f"{key}={json.dumps(given[key])}" for key in keys if key in given and not good.fullmatch(given[key])})
    return ("seccompProfile", f"forbidden {_count('annotation', found)} {', '.join(found)}") if found else None


def _some_seccomp(meta: Object, spec: Object) -> Finding | None:
    found = _seccomp(meta, spec)
    if found is not None:
        return found
    if _context(spec).get("seccompProfile") is not None:
        return None
    names = [one["name"] for one in _containers(spec) if _context(one).get("seccompProfile") is None]
    text = f'pod or {_named(names)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return ("seccompProfile", text) if names else None


_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
    }
)
_SYSCTLS_27 = _SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_29 = _SYSCTLS_27 | {
    f"net.ipv4.tcp_{name}" for name in ("keepalive_time", "fin_timeout", "keepalive_intvl", "keepalive_probes")
}
_SYSCTLS_32 = _SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}


def _sysctls(allowed: frozenset[str]) -> Check:
    def check(meta: Object, spec: Object) -> Finding | None:
        found = [one["name"] for one in _context(spec).get("sysctls") or () if one["name"] not in allowed]
        return ("forbidden sysctls", ", ".join(found)) if found else None

    return check


def _host_process(meta: Object, spec: Object) -> Finding | None:
    who, _ = _setters(spec, lambda context: (context.get("windowsOptions") or {}).get("hostProcess") or None)
    return ("hostProcess", f"{who} must not set securityContext.windowsOptions.hostProcess=true") if who else None


def _escalation(meta: Object, spec: Object) -> Finding | None:
    names = [one["name"] for one in _containers(spec) if _context(one).get("allowPrivilegeEscalation") is not False]
    text = f"{_named(names)} must set securityContext.allowPrivilegeEscalation=false"
    return ("allowPrivilegeEscalation != false", text) if names else None


_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
)


def _volumes(meta: Object, spec: Object) -> Finding | None:
    names, kinds = [], set()
    for one in spec.get("volumes") or ():
        given = [key for key, value in one.items() if key != "name" and value is not None]
        if not _VOLUMES.intersection(given):
            names.append(one["name"])
            kinds.add(given[0] if given else "unknown")
    if not names:
        return None
    uses, what = _count("uses", names, "use"), _count("restricted volume type", kinds)
    return "restricted volume types", f"{_count('volume', names)} {_quoted(names)} {uses} {what} {_quoted(sorted(kinds))}"


def _non_root(meta: Object, spec: Object) -> Finding | None:
    who, _ = _setters(spec, lambda context: True if context.get("runAsNonRoot") is False else None)
    if who:
        return "runAsNonRoot != true", f"{who} must not set securityContext.runAsNonRoot=false"
    if _context(spec).get("runAsNonRoot"):
        return None
    names = [one["name"] for one in _containers(spec) if _context(one).get("runAsNonRoot") is None]
    return ("runAsNonRoot != true", f"pod or {_named(names)} must set securityContext.runAsNonRoot=true") if names else None


def _root_user(meta: Object, spec: Object) -> Finding | None:
    who, _ = _setters(spec, lambda context: 0 if context.get("runAsUser") == 0 else None)
    return ("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


_SE_LINUX = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
Versions = tuple[tuple[int, Check], ...]
"""checks, each from a minor version on"""
_BASELINE: dict[str, Versions] = {
    "appArmorProfile": ((0, _app_armor),),
    "capabilities_baseline": ((0, _capabilities),),
    "hostNamespaces": ((0, _host_namespaces),),
    "hostPathVolumes": ((0, _host_paths),),
    "hostPorts": ((0, _host_ports),),
    "hostProbesAndHostLifecycle": ((34, _host_probes),),
    "privileged": ((0, _privileged),),
    "procMount": ((0, _proc_mount), (35, _relaxed(_proc_mount))),
    "seLinuxOptions": ((0, _se_linux(_SE_LINUX)), (31, _se_linux(_SE_LINUX | {"container_engine_t"}))),
    "seccompProfile_baseline": ((0, _seccomp_annotations), (19, _seccomp)),
    "sysctls": ((0, _sysctls(_SYSCTLS)), (27, _sysctls(_SYSCTLS_27)), (29, _sysctls(_SYSCTLS_29)), (32, _sysctls(_SYSCTLS_32))),
    "windowsHostProcess": ((0, _host_process),),
}
_RESTRICTED: dict[str, Versions] = {
    "allowPrivilegeEscalation": ((8, _escalation), (25, _not_on_windows(_escalation))),
    "capabilities_restricted": ((22, _few_capabilities), (25, _not_on_windows(_few_capabilities))),
    "procMount_restricted": ((35, _proc_mount),),
    "restrictedVolumes": ((0, _volumes),),
    "runAsNonRoot": ((0, _non_root), (35, _relaxed(_non_root))),
    "runAsUser": ((23, _root_user), (35, _relaxed(_root_user))),
    "seccompProfile_restricted": ((19, _some_seccomp), (25, _not_on_windows(_some_seccomp))),
}
_INSTEAD = {
    "capabilities_restricted": "capabilities_baseline",
    "procMount_restricted": "procMount",
    "restrictedVolumes": "hostPathVolumes",
    "seccompProfile_restricted": "seccompProfile_baseline",
}
"""checks of the baseline that stricter ones stand for"""


def _at(versions: Versions, minor: int) -> Check | None:
    return next((check for since, check in reversed(versions) if since <= minor), None)


def findings(level: str, minor: int, meta: Object, spec: Object) -> list[Finding]:
    """What forbids a Pod at a level ("privileged", "baseline" or "restricted"), in the order in which it is told."""
    if level == "privileged":
        return []
    strict = {name: check for name, one in _RESTRICTED.items() if (check := _at(one, minor)) is not None}
    chosen = {name: check for name, one in _BASELINE.items() if (check := _at(one, minor)) is not None}
    if level == "restricted":
        instead = {_INSTEAD[name] for name in strict if name in _INSTEAD}
        chosen = {name: check for name, check in chosen.items() if name not in instead} | strict
    return [found for check in chosen.values() if (found := check(meta, spec)) is not None]
