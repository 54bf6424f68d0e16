"""The served resources: the built-in ones, and those of established CRDs."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from raycp.embedded.convert import Converter, converter
from raycp.embedded.resources import BUILTINS, ResourceInfo, resource_for_crd, version_priority
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject, Table
from raycp.embedded.strategy import Strategy, strategy

VIRTUAL = frozenset(
    {
        "bindings",
        "componentstatuses",
        "selfsubjectreviews",
        "tokenreviews",
        "localsubjectaccessreviews",
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "subjectaccessreviews",
    }
)
"""resources that exist only as answers and are never stored"""

_DEPRECATED = {
    ("", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ("", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
}
_STORED_AT = {("autoscaling", "horizontalpodautoscalers"): "v2"}


class ServedResource:
    """One resource in one served version: its description, table and strategy, and the conversion from storage."""

    __slots__ = (
        "_plain",
        "_strategy",
        "deprecated",
        "head",
        "info",
        "list_head",
        "selectable",
        "storage",
        "strip",
        "table",
        "to",
        "virtual",
    )

    def __init__(self, info: ResourceInfo, storage: ResourceInfo, table: Table) -> None:
        self.info = info
        self.storage = storage
        self.table = table
        self.virtual = info.plural in VIRTUAL and info.crd is None
        self.head = b'{"kind":"%s","apiVersion":"%s",' % (info.kind.encode(), info.api_version.encode())
        self.strip = len(self.head) if info.crd is None else 0
        """bytes that a list leaves out of each item: typed lists have kind and version once, custom ones per item"""
        self.list_head = b'{"kind":"%s","apiVersion":"%s","metadata":' % (
            info.list_kind.encode(),
            info.api_version.encode(),
        )
        self.to: Converter | None = converter(storage, info)
        self._plain = self.to is None and not (info.crd and _needs_rereading(info.crd))
        self._strategy: Strategy | None = None
        self.selectable = _selectable(info)
        self.deprecated = _DEPRECATED.get((info.group, info.plural), "")
        """the warning of every answer"""

    @property
    def strategy(self) -> Strategy:
        """Its strategy, compiled at the first use."""
        found = self._strategy
        if found is None:
            found = self._strategy = strategy(self.info)
        return found

    def present(self, record: StoredObject) -> bytes:
        """The object's JSON in this version."""
        raw = record.raw
        if self._plain and raw.startswith(self.head):
            return raw
        obj = self.read(record)
        return encode(obj)

    def read(self, record: StoredObject) -> dict[str, Any]:
        """The object in this version, as a fresh dict."""
        obj = record.decode()
        if self._plain and obj.get("apiVersion") == self.info.api_version:
            return obj
        if self.to is not None:
            obj = self.to(obj)
        obj["apiVersion"] = self.info.api_version
        if self.info.crd is not None:
            self.strategy.prune_and_default_read(obj)
        return obj

    def stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        """``obj``, given in this version, in the storage version."""
        if self.storage is self.info:
            return obj
        back = converter(self.info, self.storage)
        if back is not None:
            obj = back(obj)
        return {**obj, "apiVersion": self.storage.api_version}


def encode(obj: dict[str, Any]) -> bytes:
    """JSON with ``kind``, ``apiVersion``, ``metadata`` first, as the store requires."""
    ordered: dict[str, Any] = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": obj["metadata"]}
    ordered.update(obj)
    return msgspec.json.encode(ordered)


def _needs_rereading(crd: dict[str, Any]) -> bool:
    """Whether stored objects may have been written under another schema or version than the served one."""
    return len(crd["spec"]["versions"]) > 1 or crd["metadata"].get("generation", 1) > 1


def _selectable(info: ResourceInfo) -> tuple[str, ...]:
    if info.crd is None:
        return ()
    one = next(v for v in info.crd["spec"]["versions"] if v["name"] == info.version)
    return tuple(str(each["jsonPath"]).lstrip(".") for each in one.get("selectableFields") or ())


class Registry:
    """Finds resources by path, by kind, by plural. ``generation`` rises whenever the set changes."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.generation = 0
        self.resources: dict[tuple[str, str, str], ServedResource] = {}
        self._by_kind: dict[tuple[str, str, str], ServedResource] = {}
        self._custom: dict[str, list[ServedResource]] = {}
        self._in_storage: dict[str, ServedResource] = {}
        self._named: dict[str, ServedResource | None] = {}
        self.on_removed: Callable[[ServedResource], None] | None = None
        """called when a CRD, or a version of it, is no longer served"""
        by_group_plural: dict[tuple[str, str], list[ResourceInfo]] = {}
        for info in BUILTINS:
            by_group_plural.setdefault((info.group, info.plural), []).append(info)
        for info in BUILTINS:
            siblings = by_group_plural[(info.group, info.plural)]
            at = _STORED_AT.get((info.group, info.plural))
            storage = next((s for s in siblings if s.version == at), siblings[0])
            if info.storage_group != info.group:
                storage = by_group_plural[(info.storage_group, info.plural)][0]
            self._add(ServedResource(info, storage, store.table(info.storage_group, info.plural)))
        self.crds = self.resources[("apiextensions.k8s.io", "v1", "customresourcedefinitions")]
        for record in self.crds.table.records(""):
            self._take(record)
        self.crds.table.subscribe("", self._crd_changed)

    def find(self, group: str, version: str, plural: str) -> ServedResource | None:
        """The resource at a path."""
        return self.resources.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> ServedResource | None:
        """The resource of an object's apiVersion and kind."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))

    def in_storage(self, crd: str) -> ServedResource | None:
        """The resource of an established CRD in the version of its storage, whether it is served or not."""
        return self._in_storage.get(crd)

    def named(self, name: str) -> ServedResource | None:
        """The resource named ``plural``, ``plural.group`` or ``plural.version.group``; by default in its preferred version."""
        if name in self._named:
            return self._named[name]
        found = self._named[name] = self._find_named(name)
        return found

    def _find_named(self, name: str) -> ServedResource | None:
        plural, _, group = name.partition(".")
        version, _, rest = group.partition(".")
        exact = self.resources.get((rest, version, plural))
        if exact is not None:
            return exact
        found = [r for (g, _, p), r in self.resources.items() if p == plural and g == group]
        if not found and not group:
            found = [r for (_, _, p), r in self.resources.items() if p == plural]
        return max(found, key=lambda r: version_priority(r.info.version), default=None)

    def versions(self) -> dict[str, list[str]]:
        """Groups and their versions, preferred first, in the order of discovery."""
        groups: dict[str, list[str]] = {}
        for group, version, _ in self.resources:
            known = groups.setdefault(group, [])
            if version not in known:
                known.append(version)
        for known in groups.values():
            known.sort(key=version_priority, reverse=True)
        return groups

    def of(self, group: str, version: str) -> Iterable[ServedResource]:
        """All resources of a group version."""
        return [r for (g, v, _), r in self.resources.items() if g == group and v == version]

    def preferred(self) -> list[ServedResource]:
        """Each stored resource once, in its preferred version, for garbage collection and namespace deletion."""
        best: dict[tuple[str, str], ServedResource] = {}
        for resource in self.resources.values():
            if resource.virtual or resource.info.storage_group != resource.info.group:
                continue
            key = (resource.info.group, resource.info.plural)
            old = best.get(key)
            if old is None or version_priority(resource.info.version) > version_priority(old.info.version):
                best[key] = resource
        return list(best.values())

    def _add(self, resource: ServedResource) -> None:
        info = resource.info
        self.resources[(info.group, info.version, info.plural)] = resource
        self._named.clear()
        self._by_kind[(info.group, info.version, info.kind)] = resource

    def _remove(self, resource: ServedResource) -> None:
        info = resource.info
        self.resources.pop((info.group, info.version, info.plural), None)
        self._named.clear()
        self._by_kind.pop((info.group, info.version, info.kind), None)

    def _crd_changed(self, change: StoreChange) -> None:
        record = change.record
        old = self._custom.pop(record.name, [])
        for resource in old:
            self._remove(resource)
        stored = self._in_storage.pop(record.name, None)
        if change.type == "DELETED":
            if stored is not None:
                self.store.drop_table(stored.info.group, stored.info.plural)
        else:
            self._take(record)
        if self.on_removed is not None:
            for resource in old:
                if self.find(resource.info.group, resource.info.version, resource.info.plural) is None:
                    self.on_removed(resource)
        self.generation += 1

    def _take(self, record: StoredObject) -> None:
        crd = record.decode()
        conditions = {c["type"]: c["status"] for c in crd.get("status", {}).get("conditions") or ()}
        if conditions.get("Established") != "True":
            return
        spec = crd["spec"]
        storage_version = next(v["name"] for v in spec["versions"] if v.get("storage"))
        storage = resource_for_crd(crd, storage_version)
        table = self.store.table(storage.group, storage.plural)
        added = []
        for version in spec["versions"]:
            if version.get("served"):
                info = storage if version["name"] == storage_version else resource_for_crd(crd, version["name"])
                added.append(ServedResource(info, storage, table))
        self._custom[record.name] = added
        stored = next((resource for resource in added if resource.info is storage), None)
        self._in_storage[record.name] = stored or ServedResource(storage, storage, table)
        for resource in added:
            self._add(resource)
