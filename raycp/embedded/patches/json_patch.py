"""RFC 6902, as evanphx/json-patch applies it for kube-apiserver (negative indices count from the end).

Bounded as there: the operations of one patch, and the bytes that ``copy`` adds. What an operation costs is bounded by the patch,
not by the document: a list or map of the document is copied at most once per patch, and what moves is not copied.
"""

from typing import Any

import msgspec

from raycp.embedded.strategy.structural import deep_copy

LIMIT = 10_000
"""the most operations in one patch (``maxJSONPatchOperations``)"""
COPY_LIMIT = 3 * 1024 * 1024
"""the most bytes that the ``copy`` operations of one patch may add (``JSONPatchMaxCopyBytes``)"""


class JsonPatchFailed(Exception):
    """An operation can't be applied: 422."""


class TestFailed(JsonPatchFailed):
    """An operation "test" of the patch does not hold."""

    __test__ = False


class MalformedJsonPatch(Exception):
    """The patch can't be read: 400."""


def apply(document: Any, patch: Any) -> Any:
    """A new document; the old one is not changed. Raises ``MalformedJsonPatch``, ``JsonPatchFailed``."""
    if type(patch) is not list or not all(type(op) is dict for op in patch):
        raise MalformedJsonPatch("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    patched = _Patched(document)
    for operation in patch:
        patched.apply(operation)
    return patched.root[""]


def same(a: Any, b: Any) -> bool:
    """JSON equality: ``true`` is not 1."""
    if type(a) is dict and type(b) is dict:
        return a.keys() == b.keys() and all(same(one, b[key]) for key, one in a.items())
    if type(a) is list and type(b) is list:
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def _parts(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise JsonPatchFailed(f"path {path} does not start with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _index(items: list[Any], part: str, *, end: bool = False) -> int:
    if end and part == "-":
        return len(items)
    digits = part[1:] if part.startswith("-") else part
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise JsonPatchFailed(f'strconv.Atoi: parsing "{part}": invalid syntax')
    index = int(part)
    limit = len(items) + (1 if end else 0)
    if index < 0:
        index += limit
    if not 0 <= index < limit:
        raise JsonPatchFailed(f"Unable to access invalid index: {part}")
    return index


_REFUSE = object()


class _Patched:
    """A document while a patch is applied. ``root`` holds it under the empty key."""

    def __init__(self, document: Any) -> None:
        self.root: dict[str, Any] = {"": document}
        self._own: dict[int, Any] = {}
        """lists and maps that this patch made, by id; keeping them keeps the ids theirs"""
        self._copied = 0

    def apply(self, operation: dict[str, Any]) -> None:
        kind, path = operation.get("op"), operation.get("path")
        if kind not in ("add", "remove", "replace", "move", "copy", "test"):
            raise JsonPatchFailed(f"Unexpected kind: {kind or 'unknown'}")
        if type(path) is not str:
            raise JsonPatchFailed(f"{kind} operation failed to decode path: missing path")
        if kind in ("add", "replace") and "value" not in operation:
            raise JsonPatchFailed(f"{kind} operation failed: missing value")
        if kind == "add":
            self._add(path, operation["value"])
        elif kind == "replace":
            self._replace(path, operation["value"])
        elif kind == "remove":
            self._remove(path)
        elif kind == "test":
            if not same(self._get(path, missing=None), operation.get("value")):
                raise TestFailed(f"testing value {path} failed")
        else:
            source = operation.get("from")
            if type(source) is not str:
                raise JsonPatchFailed(f"{kind} operation failed: missing from")
            value = self._get(source)
            if kind == "move":
                self._remove(source)
                self._add(path, value)
            else:
                self._add(path, self._copy(value))

    def _copy(self, value: Any) -> Any:
        try:
            self._copied += len(msgspec.json.encode(value))
            if self._copied <= COPY_LIMIT:
                return deep_copy(value)
        except RecursionError:
            raise JsonPatchFailed("Unable to complete the copy: it is nested too deeply") from None
        raise JsonPatchFailed(
            f"Unable to complete the copy, the accumulated size increase of copy is {self._copied}, "
            f"exceeding the limit {COPY_LIMIT}"
        )

    def _owned(self, parent: Any, key: Any) -> Any:
        """The child of ``parent``, replaced by a shallow copy that may be changed, unless this patch made it."""
        child = parent[key]
        if type(child) in (dict, list) and id(child) not in self._own:
            child = parent[key] = child.copy()
            self._own[id(child)] = child
        return child

    def _parent(self, path: str, kind: str) -> tuple[Any, str]:
        """The container at the parent of ``path``, copied along the path so that it may be changed, and the last part."""
        parts = ["", *_parts(path)]
        at: Any = self.root
        for part in parts[:-1]:
            try:
                at = self._owned(at, part if type(at) is dict else _index(at, part))
            except KeyError:
                raise JsonPatchFailed(f"{kind} operation does not apply: doc is missing path: {path}: missing value") from None
            if type(at) not in (dict, list):
                raise JsonPatchFailed(f"{kind} operation does not apply: doc is missing path: {path}: missing value")
        return at, parts[-1]

    def _add(self, path: str, value: Any) -> None:
        at, last = self._parent(path, "add")
        if type(at) is dict:
            at[last] = value
        else:
            at.insert(_index(at, last, end=True), value)

    def _replace(self, path: str, value: Any) -> None:
        at, last = self._parent(path, "replace")
        if type(at) is dict:
            if last not in at:
                raise JsonPatchFailed(f"replace operation does not apply: doc is missing key: {path}: missing value")
            at[last] = value
        else:
            at[_index(at, last)] = value

    def _remove(self, path: str) -> None:
        at, last = self._parent(path, "remove")
        if type(at) is dict:
            if last not in at:
                raise JsonPatchFailed(f"remove operation does not apply: doc is missing path: {path}: missing value")
            del at[last]
        else:
            del at[_index(at, last)]

    def _get(self, path: str, missing: Any = _REFUSE) -> Any:
        at: Any = self.root
        for part in ["", *_parts(path)]:
            if type(at) is dict and part in at:
                at = at[part]
            elif type(at) is list:
                try:
                    at = at[_index(at, part)]
                except JsonPatchFailed:
                    if missing is _REFUSE:
                        raise
                    return missing
            elif missing is _REFUSE:
                raise JsonPatchFailed(f"operation does not apply: doc is missing from path: {path}: missing value")
            else:
                return missing
        return at
