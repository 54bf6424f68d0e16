"""The admission of Pods, of what makes Pods, and of namespaces' labels (``k8s.io/pod-security-admission/admission``)."""

import logging
import re
from typing import Any, NamedTuple

from raycp.embedded.errors import FieldError, forbidden, invalid
from raycp.embedded.podsecurity.checks import LATEST, Finding, findings
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.store import StoreChange, StoredObject

log = logging.getLogger(__name__)

Object = dict[str, Any]
PREFIX = "pod-security.kubernetes.io/"
_LEVELS = ("privileged", "baseline", "restricted")
_VERSION = re.compile(r"v1\.([0-9]|[1-9][0-9]*)")
_MODES = ("enforce", "audit", "warn")
MAX_PODS = 3_000
"""Pods of a namespace that are checked when its level rises"""
_TEMPLATES = {
    ("", "replicationcontrollers"): ("spec", "template"),
    ("", "podtemplates"): ("template",),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
}
_JUDGED = ("", "ephemeralcontainers")
"""subresources through which a Pod's containers are written"""


class Standard(NamedTuple):
    """A level and a version, written ``baseline:latest``."""

    level: str = "privileged"
    version: str = "latest"

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"

    def judge(self, meta: Object, spec: Object) -> list[Finding]:
        minor = LATEST if self.version == "latest" else min(LATEST, int(self.version[3:]))
        return findings(self.level, minor, meta, spec)


def standards(labels: Any) -> tuple[dict[str, Standard], list[FieldError]]:
    """The standard of each mode, and the errors of the labels. An enforced level that is none counts
    as the strictest one."""
    found: dict[str, Standard] = {}
    errors: list[FieldError] = []
    for mode in _MODES:
        level, version = labels.get(PREFIX + mode, "privileged"), labels.get(f"{PREFIX}{mode}-version", "latest")
        if level not in _LEVELS:
            errors.append(_wrong(mode, level, f"must be one of {', '.join(_LEVELS)}"))
            level = "restricted" if mode == "enforce" else "privileged"
        if version != "latest" and not _VERSION.fullmatch(version):
            errors.append(_wrong(f"{mode}-version", version, 'must be "latest" or "v1.x"'))
            version = "latest"
        found[mode] = Standard(level, version)
    if PREFIX + "warn" not in labels and found["enforce"].level != "privileged":
        # warnings follow the enforced level, so that what makes Pods is warned of them
        version = found["warn"].version if f"{PREFIX}warn-version" in labels else found["enforce"].version
        found["warn"] = Standard(found["enforce"].level, version)
    return found, errors


def _wrong(key: str, value: str, text: str) -> FieldError:
    return FieldError("FieldValueInvalid", f"metadata.labels[{PREFIX}{key}]", f'Invalid value: "{value}": {text}')


def _told(found: list[Finding]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


class PodSecurity:
    """Of one cluster. ``any`` is false while no namespace has a label of it, and writes need no look at it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._labelled: dict[str, dict[str, Standard]] = {}
        self.any = False
        found = registry.find("", "v1", "namespaces")
        assert found is not None
        self.namespaces = found
        found.table.subscribe("", self._changed)
        for record in found.table.records(""):
            self._take(record)

    def _changed(self, change: StoreChange) -> None:
        if change.type == "DELETED":
            self._labelled.pop(change.record.name, None)
            self.any = bool(self._labelled)
        else:
            self._take(change.record)

    def _take(self, record: StoredObject) -> None:
        if any(key.startswith(PREFIX) for key in record.labels):
            self._labelled[record.name] = standards(record.labels)[0]
        else:
            self._labelled.pop(record.name, None)
        self.any = bool(self._labelled)

    def concerns(self, resource: ServedResource, obj: Object) -> bool:
        """Whether a write may be judged here: a cheap question for all the others."""
        if resource is self.namespaces:
            return any(key.startswith(PREFIX) for key in obj["metadata"].get("labels") or ())
        return self.any and obj["metadata"].get("namespace") in self._labelled

    def admit(self, resource: ServedResource, obj: Object, old: Object | None, sub: str, warnings: list[str]) -> None:
        """Raises ``StatusError`` 403 for a Pod that violates its namespace's level, 422 for labels that are none."""
        info = resource.info
        if resource is self.namespaces:
            if not sub:
                self._namespace(resource, obj, old, warnings)
            return
        given = self._labelled.get(obj["metadata"].get("namespace") or "")
        if given is None:
            return
        if info.plural == "pods" and not info.group:
            if sub in _JUDGED and (old is None or _significant(obj["spec"], old["spec"])):
                self._judge(resource, obj, obj["metadata"], obj["spec"], given, True, warnings)
            return
        template: Any = obj
        for key in _TEMPLATES.get((info.group, info.plural), ("",)):
            template = template.get(key) or {}
        if not sub and template.get("spec"):
            self._judge(resource, obj, template.get("metadata") or {}, template["spec"], given, False, warnings)

    def _judge(
        self,
        resource: ServedResource,
        obj: Object,
        meta: Object,
        spec: Object,
        given: dict[str, Standard],
        enforced: bool,
        warnings: list[str],
    ) -> None:
        name = obj["metadata"].get("name") or ""
        found = given["enforce"].judge(meta, spec) if enforced else []
        audited = given["audit"].judge(meta, spec)
        if audited:
            log.info('audit of %s %s: would violate PodSecurity "%s": %s', resource.info.name, name, given["audit"], _told(audited))
        if found:
            raise forbidden(resource.info, name, f'violates PodSecurity "{given["enforce"]}": {_told(found)}')
        warned = given["warn"].judge(meta, spec)
        if warned:
            warnings.append(f'would violate PodSecurity "{given["warn"]}": {_told(warned)}')

    def _namespace(self, resource: ServedResource, obj: Object, old: Object | None, warnings: list[str]) -> None:
        now, errors = standards(obj["metadata"].get("labels") or {})
        before, known = standards((old or {}).get("metadata", {}).get("labels") or {})
        name = obj["metadata"].get("name") or ""
        if errors and (old is None or errors != known):
            raise invalid(resource.info, name, errors)
        was, level = before["enforce"], now["enforce"]
        if old is None or was == level or level.level == "privileged":
            return
        if was.version == level.version and _LEVELS.index(level.level) <= _LEVELS.index(was.level):
            return
        warnings += self._violated(name, level)

    def _violated(self, namespace: str, level: Standard) -> list[str]:
        """The warnings about Pods that are there."""
        pods = self._registry.find("", "v1", "pods")
        assert pods is not None
        counts: dict[str, list[str]] = {}
        records = list(pods.table.records(namespace))
        for record in records[:MAX_PODS]:
            pod = record.decode()
            found = level.judge(pod["metadata"], pod["spec"])
            if found:
                counts.setdefault(", ".join(reason for reason, _ in found), []).append(record.name)
        told = []
        if len(records) > MAX_PODS:
            checked = f"new PodSecurity enforce level only checked against the first {MAX_PODS} of {len(records)} existing pods"
            told.append(checked)
        if counts:
            told.append(f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{level}"')
        more = {1: "", 2: " (and 1 other pod)"}
        shown = [
            f"{min(names)}{more.get(len(names), f' (and {len(names) - 1} other pods)')}: {why}" for why, names in counts.items()
        ]
        return told + sorted(shown)


def _significant(spec: Object, old: Object) -> bool:
    """Whether an update of a Pod may change what is judged: containers and their images."""
    return any(
        [(one["name"], one.get("image")) for one in spec.get(key) or ()]
        != [(one["name"], one.get("image")) for one in old.get(key) or ()]
        for key in ("containers", "initContainers", "ephemeralContainers")
    )
