"""``written_by``: what the answer of a write says was written, for the acknowledgement (law 8)."""

import msgspec

from raycp.base.objects import LONGEST_NAME, version_number
from raycp.base.tasks import Written
from raycp.sdk.backend import ApiRequest


class _WrittenMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] | None = None


class _WrittenObject(msgspec.Struct):
    kind: str = ""
    metadata: _WrittenMeta | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_WrittenObject)


def written_by(call: ApiRequest, body: bytes, *, read: bool = False) -> tuple[Written, str]:
    """The write and the resourceVersion that it left. An object that a delete leaves behind (grace period, finalizers) counts as
    changed, not as deleted.

    ``read``: ``body`` is not the answer of the write but the object found in its place. Others may have changed it since, so
    the cache takes it from its own watch, which reports it, and the key waits until it has. So it is with an answer that is no
    object.
    """
    try:
        found = _decoder.decode(body)
    except Exception:  # whatever is wrong with it, whoever decodes it as an object says so
        found, read = _WrittenObject(), True
    meta = found.metadata
    if isinstance(meta, msgspec.UnsetType):
        meta, read = _WrittenMeta(), True
    if max(len(meta.namespace), len(meta.name), len(meta.uid)) > LONGEST_NAME:
        meta, read = _WrittenMeta(), True
    namespace, name = meta.namespace or call.namespace, meta.name or call.name
    deleted = call.verb == "delete" and (
        found.kind == "Status" or not (meta.finalizers or (meta.deletion_timestamp and meta.deletion_grace_period_seconds))
    )
    version = version_number(meta.resource_version)
    raw = None if deleted or read or found.kind == "Status" else body
    written = Written(call.cluster, str(call.kind), namespace, name, meta.uid, version, raw, deleted=deleted)
    return written, meta.resource_version
