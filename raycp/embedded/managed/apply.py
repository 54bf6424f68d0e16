"""Server-side apply: merge a manager's configuration into the live object, and detect conflicts."""

from typing import Any

from raycp.embedded.errors import FieldError, StatusError, bad_request, manager_conflict
from raycp.embedded.managed.fieldset import (
    Fields,
    difference,
    intersection,
    paths,
    union,
    with_parents,
)
from raycp.embedded.managed.tracker import (
    ManagedEntry,
    decode_entries,
    drop_changes,
    encode_entries,
    reset_fields,
    strip,
    without_managed,
)
from raycp.embedded.managed.walk import compare, deduced, element, field_set, is_leaf_list
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy import shapes, strategy
from raycp.embedded.strategy.convert import zero
from raycp.embedded.strategy.shapes import Shape
from raycp.embedded.strategy.structural import deep_copy

MOST_PROBLEMS = 20
"""problems of an applied configuration that are told: each repeats the keys on its path, which may be long"""


def server_side_apply(
    info: ResourceInfo,
    live: dict[str, Any] | None,
    patch: dict[str, Any],
    manager: str,
    force: bool = False,
    time_iso: str = "",
    subresource: str | None = None,
    field_validation: str = "Warn",
    warnings: list[str] | None = None,
    shape: Shape | None = None,
) -> dict[str, Any]:
    """The live object (or an empty one) with the applied configuration merged in, typed and tracked; not yet prepared.

    Fields that this manager applied before, does not apply now, and no other manager owns are removed. ``patch`` is the
    parsed body. Raises 400 (managedFields given, no kind), 409 (fields of others, unless ``force``),
    and 500 where the real server does: undeclared fields, wrong types.
    """
    rules = strategy(info)
    if shape is None:
        shape = rules.shape
    given = patch.get("metadata")
    if type(given) is dict and given.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    for key in ("apiVersion", "kind"):
        if not patch.get(key):
            raise bad_request(f"Object '{key}' is missing")
    if shape is rules.shape:
        rules.check_kind(patch)
    problems: list[str] = []
    _check_typed(shape, patch, "", problems)
    if problems:
        raise _untyped(info, patch, problems)
    base = without_managed(live) if live is not None else _empty(info, shape)
    entries = decode_entries(live["metadata"].get("managedFields")) if live is not None else {}
    if live is not None and not entries:
        # fields of an object without managedFields belong to "before-first-apply"
        all_fields = strip(compare(shape, _empty(info, shape), base)[0], reset_fields(info, subresource))
        if all_fields:
            created = live["metadata"].get("creationTimestamp")
            before = ManagedEntry("before-first-apply", "Update", info.api_version, all_fields, created, "")
            entries[before.key] = before
    reset = reset_fields(info, subresource)
    wanted = strip(field_set(shape, patch), reset)
    mine = ManagedEntry(manager, "Apply", info.api_version, wanted, None, subresource or "")
    last = entries.get(mine.key)
    entries[mine.key] = mine
    if last is not None:
        mine.time = last.time
    merged = merge(shape, base, patch)
    if last is not None and last.fields:
        owned: Fields = {}
        for entry in entries.values():
            owned = union(owned, entry.fields)
        # what stands on the way to a withdrawn field is not withdrawn with it: others' fields may be there that nobody owns
        withdrawn = intersection(difference(with_parents(last.fields), with_parents(owned)), last.fields)
        if withdrawn:
            merged = _remove(shape, merged, withdrawn)
    made = rules.convert(deep_copy(merged), field_validation, warnings)
    changed, removed = compare(shape, base, without_managed(made))
    changed, removed = strip(changed, reset), strip(removed, reset)
    # fields that defaulting added have no manager
    named = intersection(changed, strip(compare(shape, base, merged)[0], reset))
    others = {key: intersection(e.fields, named) for key, e in entries.items() if key != mine.key}
    conflicts = {key: fields for key, fields in others.items() if fields}
    if conflicts and not force:
        raise _conflict([(entries[key], fields) for key, fields in conflicts.items()])
    drop_changes(entries, named, removed, but=mine.key)
    if changed or removed or live is None:
        mine.time = time_iso
    encoded = encode_entries(entries)
    meta = made["metadata"]
    meta.pop("managedFields", None)
    if encoded:
        meta["managedFields"] = encoded
    return made


def _empty(info: ResourceInfo, shape: Shape) -> dict[str, Any]:
    made = zero(shape)
    made = made if type(made) is dict else {}
    made.update(apiVersion=info.api_version, kind=info.kind)
    made.setdefault("metadata", {})
    return made


def _conflict(found: list[tuple[ManagedEntry, Fields]]) -> Exception:
    causes: list[FieldError] = []
    conflicts: list[str] = []
    for entry, fields in sorted(found, key=lambda f: f[0].manager):
        name = f'"{entry.manager}"'
        if entry.subresource:
            name += f' with subresource "{entry.subresource}"'
        if entry.operation == "Update":
            name += f" using {entry.api_version}" + (f" at {entry.time}" if entry.time else "")
        here = sorted(paths(fields))
        causes += [FieldError("FieldManagerConflict", path, f"conflict with {name}") for path in here]
        conflicts.append(
            f"conflict with {name}: {here[0]}"
            if len(here) == 1
            else f"conflicts with {name}:\n" + "\n".join(f"- {path}" for path in here)
        )
    count = f"{len(causes)} conflict" + ("s" if len(causes) != 1 else "")
    return manager_conflict(causes, f"Apply failed with {count}: " + "\n".join(conflicts))


def merge(shape: Shape, live: Any, wanted: Any) -> Any:
    """``wanted`` merged over ``live``; atomic parts are replaced whole. The result shares parts of both."""
    shape = deduced(shape, wanted)
    if type(wanted) is dict and type(live) is dict and shape.kind in (shapes.OBJECT, shapes.MAP) and not shape.atomic:
        made = dict(live)
        for key, one in wanted.items():
            inner = shape.fields.get(key, shape.item)
            made[key] = merge(inner, made[key], one) if inner is not None and key in made else one
        return made
    if type(wanted) is list and type(live) is list and shape.kind == shapes.LIST and not is_leaf_list(shape):
        return _merge_lists(shape, live, wanted)
    return wanted


def _merge_lists(shape: Shape, live: list[Any], wanted: list[Any]) -> list[Any]:
    assert shape.item is not None
    there = {element(shape, one): one for one in live}
    asked = [(element(shape, one), one) for one in wanted]
    names = {name for name, _ in asked}
    order = [(element(shape, one), one) for one in live]
    made: list[Any] = []
    done: set[str | None] = set()
    left = 0
    right = 0
    while left < len(order) or right < len(asked):
        if left < len(order):
            name, one = order[left]
            if name not in names:
                made.append(one)
                left += 1
                continue
            if name in done:
                left += 1
                continue
        name, one = asked[right]
        right += 1
        if name in done:
            continue
        done.add(name)
        made.append(merge(shape.item, there[name], one) if name in there else one)
    return made


def _remove(shape: Shape, value: Any, removed: Fields) -> Any:
    """``value`` without the paths in ``removed`` and everything below them; null if nothing is left."""
    shape = deduced(shape, value)
    if type(value) is dict:
        made: dict[str, Any] = {}
        for key, one in value.items():
            below = removed.get(f"f:{key}")
            if below is None:
                made[key] = one
            elif below and "." not in below:
                inner = shape.fields.get(key, shape.item)
                made[key] = _remove(inner, one, below) if inner is not None else one
        return made or None
    if type(value) is list and shape.kind == shapes.LIST and shape.item is not None:
        kept = []
        for one in value:
            name = element(shape, one)
            below = removed.get(name) if name is not None else None
            if below is None:
                kept.append(one)
            elif below and "." not in below:
                kept.append(_remove(shape.item, one, below))
        return kept or None
    return value


def _check_typed(shape: Shape, value: Any, path: str, problems: list[str]) -> None:
    """Validate an applied configuration as structured-merge-diff does: declared fields, types, unique keys."""
    shape = deduced(shape, value)
    if value is None or shape.kind == shapes.ANY or len(problems) >= MOST_PROBLEMS:
        return
    wanted = _TYPES.get(shape.kind)
    if wanted is not None and type(value) not in wanted[1]:
        problems.append(f"{path}: expected {wanted[0]}, got &value.valueUnstructured{{Value:{value!r}}}")
    elif type(value) is dict:
        for key, one in value.items():
            inner = shape.fields.get(key, shape.item)
            if inner is not None:
                _check_typed(inner, one, f"{path}.{key}", problems)
            elif shape.kind == shapes.OBJECT and not shape.open and len(problems) < MOST_PROBLEMS:
                problems.append(f"{path}.{key}: field not declared in schema")
    elif type(value) is list and shape.kind == shapes.LIST and shape.item is not None:
        seen: set[str] = set()
        for index, one in enumerate(value):
            if len(problems) >= MOST_PROBLEMS:
                return
            if not is_leaf_list(shape):
                name = element(shape, one)
                if name is None:
                    problems.append(f"{path}: element {index}: associative list with keys has an element that omits key field")
                    continue
                if name in seen:
                    problems.append(f"{path}: duplicate entries for key [{name[2:]}]")
                seen.add(name)
            _check_typed(shape.item, one, f"{path}[{index}]", problems)


_SCALAR = (str, int, float, bool)
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    shapes.OBJECT: ("map", (dict,)),
    shapes.MAP: ("map", (dict,)),
    shapes.LIST: ("list", (list,)),
    shapes.STRING: ("string", (str,)),
    shapes.BYTES: ("string", (str,)),
    shapes.BOOL: ("boolean", (bool,)),
    shapes.INT32: ("numeric", (int, float)),
    shapes.INT64: ("numeric", (int, float)),
    shapes.NUMBER: ("numeric", (int, float)),
    shapes.TIME: ("scalar", _SCALAR),
    shapes.MICROTIME: ("scalar", _SCALAR),
    shapes.QUANTITY: ("scalar", _SCALAR),
    shapes.INTSTR: ("scalar", _SCALAR),
}


def _untyped(info: ResourceInfo, patch: dict[str, Any], problems: list[str]) -> StatusError:
    """500 without a reason: the real server returns this error unchanged."""
    meta = patch.get("metadata")
    meta = meta if type(meta) is dict else {}
    whose = f"{meta.get('namespace') or ''}/{meta.get('name') or ''}; {info.group}/{info.version}, Kind={info.kind}"
    why = problems[0] if len(problems) == 1 else "\n  ".join(["errors:", *problems])
    return StatusError(500, "", f"failed to create typed patch object ({whose}): {why}")
