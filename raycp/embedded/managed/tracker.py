"""``track``: updates managedFields for creates, updates and patches other than server-side apply."""

from typing import Any

from raycp.embedded.managed.fieldset import Fields, difference, intersection, ordered, recursive_difference, union
from raycp.embedded.managed.walk import compare, created_set
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy import strategy
from raycp.embedded.strategy.shapes import Shape

UPDATE_LIMIT = 10
"""Update entries beyond this number are merged into ``ancient-changes``"""
_STRIPPED_META = frozenset(
    f"f:{name}"
    for name in (
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    )
)
Key = tuple[str, str, str, str]


class ManagedEntry:
    """One entry of ``managedFields``."""

    __slots__ = ("api_version", "fields", "key", "manager", "operation", "subresource", "time")

    def __init__(self, manager: str, operation: str, api_version: str, fields: Fields, time: str | None, subresource: str) -> None:
        self.manager, self.operation, self.api_version = manager, operation, api_version
        self.fields, self.time, self.subresource = fields, time, subresource
        self.key: Key = (manager, operation, "" if operation == "Apply" else api_version, subresource)
        """entries with equal keys belong to one manager; Apply entries are equal across versions"""

    def encode(self) -> dict[str, Any]:
        made: dict[str, Any] = {"manager": self.manager, "operation": self.operation, "apiVersion": self.api_version}
        if self.time:
            made["time"] = self.time
        made["fieldsType"] = "FieldsV1"
        made["fieldsV1"] = ordered(self.fields)
        if self.subresource:
            made["subresource"] = self.subresource
        return made


def decode_entries(managed: list[dict[str, Any]] | None) -> dict[Key, ManagedEntry]:
    """The entries of an object, without those that can't be decoded."""
    found: dict[Key, ManagedEntry] = {}
    for raw in managed or ():
        if type(raw) is not dict or raw.get("operation") not in ("Apply", "Update"):
            continue
        entry = ManagedEntry(
            raw.get("manager", ""),
            raw["operation"],
            raw.get("apiVersion", ""),
            raw.get("fieldsV1") or {},
            raw.get("time"),
            raw.get("subresource", ""),
        )
        same = found.get(entry.key)
        if same is not None:
            same.fields = union(same.fields, entry.fields)
        else:
            found[entry.key] = entry
    return found


def encode_entries(entries: dict[Key, ManagedEntry]) -> list[dict[str, Any]]:
    """Sort in the server's order: Apply before Update, then by time, then by manager."""
    kept = [entry for entry in entries.values() if entry.fields]
    kept.sort(key=lambda e: (e.operation, e.time or "", e.manager, e.api_version, e.subresource))
    return [entry.encode() for entry in kept]


def strip(fields: Fields, reset: Fields) -> Fields:
    """Remove fields that no manager owns: identity, system fields, and those that the (sub)resource resets."""
    made = {key: one for key, one in fields.items() if key not in ("f:apiVersion", "f:kind")}
    meta = made.get("f:metadata")
    if meta is not None:
        kept = {key: one for key, one in meta.items() if key not in _STRIPPED_META and key != "."}
        if kept:
            made["f:metadata"] = kept
        else:
            del made["f:metadata"]
    return recursive_difference(made, reset) if reset else made


_STATUS: Fields = {"f:status": {}}
_NOT_STATUS: Fields = {"f:spec": {}, "f:data": {}}


def reset_fields(info: ResourceInfo, subresource: str | None) -> Fields:
    """The fields that a write of this (sub)resource never changes."""
    if subresource == "status":
        return {"f:metadata": {}, "f:spec": {}} if info.crd is not None else _NOT_STATUS
    if not subresource and "status" in info.subresource_table:
        return _STATUS
    return {}


def is_reset(managed: list[dict[str, Any]] | None) -> bool:
    """Whether the body resets managedFields with ``[{}]``."""
    return managed is not None and len(managed) == 1 and not any(managed[0].values())


def without_managed(obj: dict[str, Any]) -> dict[str, Any]:
    """A copy as deep as needed, without ``managedFields``."""
    meta = obj.get("metadata")
    if type(meta) is dict and "managedFields" in meta:
        return {**obj, "metadata": {key: one for key, one in meta.items() if key != "managedFields"}}
    return obj


def track(
    info: ResourceInfo,
    old: dict[str, Any] | None,
    new: dict[str, Any],
    manager: str,
    operation: str,
    time_iso: str,
    subresource: str | None = None,
    shape: Shape | None = None,
) -> None:
    """Write ``new``'s ``metadata.managedFields`` for a create (``old`` None), update or patch by ``manager``.

    An update without any change leaves them as they were. ``operation`` is "Update" ("Apply" has its own function).
    """
    if shape is None:
        shape = strategy(info).shape
    meta = new["metadata"]
    given = meta.pop("managedFields", None)
    if old is None:
        if given:
            _track_update(info, {}, new, decode_entries(given), meta, manager, operation, time_iso, subresource, shape)
            return
        fields = strip(created_set(shape, new), reset_fields(info, subresource))
        if fields:
            meta["managedFields"] = [
                ManagedEntry(manager, operation, info.api_version, fields, time_iso, subresource or "").encode()
            ]
        return
    before = old["metadata"].get("managedFields")
    if is_reset(given) and not subresource:
        return
    entries = decode_entries(given) if given and not subresource else {}
    if not entries:
        entries = decode_entries(before)
    if not entries:
        return  # an object without managedFields stays without
    _track_update(info, old, new, entries, meta, manager, operation, time_iso, subresource, shape)


def _track_update(
    info: ResourceInfo,
    old: dict[str, Any],
    new: dict[str, Any],
    entries: dict[Key, ManagedEntry],
    meta: dict[str, Any],
    manager: str,
    operation: str,
    time_iso: str,
    subresource: str | None,
    shape: Shape,
) -> None:
    changed, removed = compare(shape, without_managed(old), new)
    reset = reset_fields(info, subresource)
    changed = strip(changed, reset)
    removed = strip(removed, reset)
    drop_changes(entries, changed, removed)
    if changed:
        mine = ManagedEntry(manager, operation, info.api_version, changed, time_iso, subresource or "")
        same = entries.get(mine.key)
        if same is not None:
            mine.fields = union(changed, same.fields)
        entries[mine.key] = mine
        cap_updates(entries)
    encoded = encode_entries(entries)
    if encoded:
        meta["managedFields"] = encoded


def drop_changes(entries: dict[Key, ManagedEntry], changed: Fields, removed: Fields, but: Key | None = None) -> None:
    """Remove changed and removed paths from all entries; ``but`` keeps the changed ones."""
    for key in list(entries):
        entry = entries[key]
        if key == but:
            continue
        if changed:
            taken = intersection(entry.fields, changed)
            if taken:
                entry.fields = difference(entry.fields, taken)
        if removed:
            entry.fields = difference(entry.fields, removed)
        if not entry.fields:
            del entries[key]


def cap_updates(entries: dict[Key, ManagedEntry]) -> None:
    """Merge the oldest Update entries of each version into one when there are more than ``UPDATE_LIMIT``."""
    updates = sorted((e for e in entries.values() if e.operation == "Update"), key=lambda e: e.time or "")
    surplus = len(updates) - UPDATE_LIMIT
    if surplus <= 0:
        return
    for entry in updates[: surplus + 1]:
        ancient = ManagedEntry("ancient-changes", "Update", entry.api_version, entry.fields, entry.time, "")
        if entry.key != ancient.key:
            del entries[entry.key]
        same = entries.get(ancient.key)
        if same is not None and same is not entry:
            ancient.fields = union(same.fields, ancient.fields)
        entries[ancient.key] = ancient
