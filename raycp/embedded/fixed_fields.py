"""What mutating admission can't change of an object: where it is, and what the server itself sets.

A real server sets the latter after admission, and checks the namespace again (``rest.BeforeCreate``,
``EnsureObjectNamespaceMatchesRequestNamespace``); here a draft has it before.
"""

from typing import Any

from raycp.embedded.errors import bad_request
from raycp.embedded.pipeline import Draft

_OF_CREATES = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")
_OF_UPDATES = ("generation",)


def keep_fixed(draft: Draft, obj: dict[str, Any]) -> dict[str, Any]:
    """The object that admission made of a draft, with the draft's own fixed fields. Raises ``StatusError`` 400 if it is to be in
    another namespace."""
    info, before = draft.resource.info, draft.obj["metadata"]
    meta = obj.get("metadata")
    if not isinstance(meta, dict):
        meta = obj["metadata"] = {}
    obj["apiVersion"], obj["kind"] = info.api_version, info.kind
    if draft.old is None and (meta.get("namespace") or "") != (before.get("namespace") or ""):
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    for key in _OF_CREATES if draft.old is None else _OF_UPDATES:
        if key in before:
            meta[key] = before[key]
        else:
            meta.pop(key, None)
    return obj
