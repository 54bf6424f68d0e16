"""The write verbs: create, update, patch and apply, from a decoded body to a commit.

The path of a write: *draft* (checks, defaults, the new state) → admission webhooks, if any match → *finish* (validation,
no-op check, commit). Drafts and finishes are plain functions; only webhooks make a write wait. Deletion is in
``deletion``, subresources with rules of their own in ``subresources``.
"""

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from raycp.base.clock import Clock
from raycp.embedded.errors import (
    FieldError,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    generate_name_conflict,
    invalid,
    invalid_kind,
    not_found,
)
from raycp.embedded.managed import server_side_apply, track
from raycp.embedded.options import WriteOptions, revision
from raycp.embedded.patches import apply_patch
from raycp.embedded.priority import Priorities
from raycp.embedded.quota.limitranges import LimitRanges
from raycp.embedded.quota.quotas import Quotas
from raycp.embedded.registry import Registry, ServedResource, encode
from raycp.embedded.store import ObjectStore, StoredObject
from raycp.embedded.strategy import metadata
from raycp.embedded.strategy.depth import TOO_DEEP, json_too_deep

log = logging.getLogger(__name__)

Object = dict[str, Any]

APPLY = frozenset({"application/apply-patch+yaml", "application/apply-patch+json", "application/apply-patch+cbor"})
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_MAX_PREFIX = 58
MAX_OBJECT = 3 * 512 * 1024
"""the most bytes of a stored object (etcd's ``--max-request-bytes``)"""
_TRIES = 8

_CREATE_ON_UPDATE = frozenset(
    {
        ("", "endpoints"),
        ("", "events"),
        ("", "limitranges"),
        ("", "services"),
        ("coordination.k8s.io", "leases"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
    }
)
"""resources whose strategy says AllowCreateOnUpdate"""


class Wrote(NamedTuple):
    """The result of a write. ``deleted``: it removed the last finalizer of a terminating object."""

    record: StoredObject
    created: bool = False
    deleted: bool = False


class Draft(NamedTuple):
    """A write between draft and finish. ``old`` is None for a create. ``guard`` may refuse it: it raises ``StatusError``."""

    resource: ServedResource
    obj: Object
    old: Object | None
    record: StoredObject | None
    options: WriteOptions
    subresource: str = ""
    guard: Callable[["Draft"], None] | None = None


def _metadata_of(obj: Object, name: str) -> Object:
    """The metadata of ``obj``, made where it is missing, with the name on the URL. Raises ``StatusError`` for another name."""
    meta = obj.get("metadata")
    if not isinstance(meta, dict):
        meta = obj["metadata"] = {}
    given = meta.setdefault("name", name)
    if given != name:
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
    return meta


class Times:
    """The server's wall clock as Kubernetes writes it, ``skew`` seconds off because of a fault."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.skew = 0.0
        self._second = -1
        self._text = ""

    def wall(self) -> float:
        return self.clock.wall() + self.skew

    def now(self) -> str:
        """``metav1.Time``."""
        second = int(self.wall())
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._text

    def after(self, seconds: int) -> str:
        """``metav1.Time`` of ``seconds`` from now."""
        return datetime.fromtimestamp(int(self.wall()) + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Pipeline:
    """The write verbs over one store."""

    def __init__(self, store: ObjectStore, registry: Registry, clock: Clock, seed: int = 0) -> None:
        self.store = store
        self.registry = registry
        self.times = Times(clock)
        self.rng = random.Random()
        found = registry.find("", "v1", "namespaces")
        assert found is not None
        self._namespaces = found
        self._settling = False
        self._limits = LimitRanges(registry)
        self._priorities = Priorities(registry)
        self.quotas: Quotas | None = None
        """the quotas to keep; without them none is counted or enforced"""
        self.on_finish: Callable[[ServedResource, Object], None] | None = None

    # ---- create

    def draft_create(
        self, resource: ServedResource, ns: str, obj: Object, options: WriteOptions, operation: str = "Update"
    ) -> Draft:
        """Draft a create. Raises ``StatusError``."""
        meta = obj.get("metadata")
        if not isinstance(meta, dict):
            meta = obj["metadata"] = {}
        self.match_namespace(resource, ns, meta)
        if resource.info.namespaced and ns:
            self.check_namespace(resource, ns, meta.get("name") or meta.get("generateName") or "")
        if meta.get("resourceVersion"):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        meta.pop("resourceVersion", None)
        if meta.get("generateName") and not meta.get("name"):
            meta["name"] = self._generated(resource, ns, meta["generateName"])
        now = self.times.now()
        if operation == "Update":
            track(resource.info, None, obj, options.manager, "Update", now, None, resource.strategy.shape)
        meta["uid"] = metadata.new_uid(self.rng)
        self._limits.default(resource, ns, obj)
        obj = resource.strategy.prepare_create(obj, now, ns)
        self._priorities.admit(resource, obj)
        return Draft(resource, obj, None, None, options)

    def finish_create(self, draft: Draft) -> Wrote:
        """Validate and commit a create. Raises ``StatusError``."""
        resource, obj, options = draft.resource, draft.obj, draft.options
        meta = obj["metadata"]
        name = meta.get("name", "")
        causes = resource.strategy.validate(obj, None, None)
        if causes:
            raise invalid(resource.info, name or meta.get("generateName", ""), causes)
        self._admit(draft)
        ns = meta.get("namespace", "")
        if resource.table.get(ns, name) is not None:
            if meta.get("generateName"):
                raise generate_name_conflict(resource.info, name)
            raise already_exists(resource.info, name)
        if self.on_finish is not None:
            self.on_finish(resource, obj)
        return Wrote(self._commit(resource, obj, None, options.dry_run), created=True)

    def match_namespace(self, resource: ServedResource, ns: str, meta: Object) -> None:
        """``EnsureObjectNamespaceMatchesRequestNamespace``. Raises 400."""
        given = meta.get("namespace") or ""
        if not resource.info.namespaced:
            meta.pop("namespace", None)
        elif given != ns:
            if given:
                raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
            meta["namespace"] = ns

    def check_namespace(self, resource: ServedResource, ns: str, name: str) -> None:
        """Admission ``NamespaceLifecycle`` of a create. Raises 403, 404."""
        record = self._namespaces.table.get("", ns)
        if record is None:
            raise not_found(self._namespaces.info, ns)
        if b'"deletionTimestamp"' in record.raw and record.decode()["metadata"].get("deletionTimestamp"):
            cause = FieldError("NamespaceTerminating", "metadata.namespace", f"namespace {ns} is being terminated")
            raise forbidden(
                resource.info,
                name,
                f"unable to create new content in namespace {ns} because it is being terminated",
                causes=[cause],
            )

    def _generated(self, resource: ServedResource, ns: str, prefix: str) -> str:
        for _ in range(_TRIES):
            name = prefix[:_MAX_PREFIX] + "".join(self.rng.choices(_ALPHABET, k=5))
            if resource.table.get(ns, name) is None:
                break
        return name

    # ---- update

    def draft_update(
        self, resource: ServedResource, ns: str, name: str, obj: Object, options: WriteOptions, subresource: str = ""
    ) -> Draft:
        """Draft a PUT. Raises ``StatusError``."""
        meta = obj.get("metadata")
        if not isinstance(meta, dict):
            meta = obj["metadata"] = {}
        self.match_namespace(resource, ns, meta)
        given = meta.get("name")
        if not given:
            raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
        if given != name:
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        record = resource.table.get(ns, name)
        if record is None:
            key = (resource.info.group, resource.info.plural)
            if not subresource and key in _CREATE_ON_UPDATE:
                return self.draft_create(resource, ns, obj, options)
            raise not_found(resource.info, name)
        self._check_version(resource, record, meta)
        return self._updated(resource, record, resource.read(record), obj, options, subresource)

    def draft_patch(
        self,
        resource: ServedResource,
        ns: str,
        name: str,
        content_type: str,
        patch: bytes,
        options: WriteOptions,
        subresource: str = "",
        warnings: list[str] | None = None,
    ) -> Draft:
        """Draft a PATCH other than apply. Raises ``StatusError``."""
        record = resource.table.get(ns, name)
        if record is None:
            raise not_found(resource.info, name)
        old = resource.read(record)
        obj = apply_patch(resource.info, content_type, resource.read(record), patch, options.validation, warnings)
        meta = _metadata_of(obj, name)
        self.match_namespace(resource, ns, meta)
        self._check_version(resource, record, meta)
        return self._updated(resource, record, old, obj, options, subresource)

    def draft_apply(
        self,
        resource: ServedResource,
        ns: str,
        name: str,
        patch: Object,
        options: WriteOptions,
        subresource: str = "",
        warnings: list[str] | None = None,
    ) -> Draft:
        """Draft a server-side apply, a create if the object does not exist. Raises ``StatusError``."""
        meta = _metadata_of(patch, name)
        self.match_namespace(resource, ns, meta)
        record = resource.table.get(ns, name)
        if record is None and subresource:
            raise not_found(resource.info, name)
        live = resource.read(record) if record is not None else None
        if record is not None:
            if meta.get("resourceVersion") or meta.get("uid"):
                self._check_version(resource, record, {"resourceVersion": str(record.rv), **meta})
        elif meta.get("uid"):
            raise conflict(
                resource.info,
                name,
                f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found",
            )
        now = self.times.now()
        merged = server_side_apply(
            resource.info,
            live,
            patch,
            options.manager,
            bool(options.force),
            now,
            subresource or None,
            options.validation,
            warnings,
        )
        if record is None or live is None:
            merged["metadata"].pop("resourceVersion", None)
            return self.draft_create(resource, ns, merged, options, "Apply")
        return self._updated(resource, record, resource.read(record), merged, options, subresource, "Apply")

    def _updated(
        self,
        resource: ServedResource,
        record: StoredObject,
        old: Object,
        obj: Object,
        options: WriteOptions,
        subresource: str,
        operation: str = "Update",
    ) -> Draft:
        if operation == "Update":
            track(resource.info, old, obj, options.manager, "Update", self.times.now(), subresource, resource.strategy.shape)
        if subresource == "finalize":  # finalize of a namespace writes spec.finalizers and nothing else
            finalizers = (obj.get("spec") or {}).get("finalizers")
            kept = {k: v for k, v in (old.get("spec") or {}).items() if k != "finalizers"}
            obj = {
                **old,
                "metadata": obj["metadata"],
                "spec": {**kept, **({"finalizers": finalizers} if finalizers else {})},
            }
            metadata.carry_over(obj["metadata"], old["metadata"])
        else:
            obj = resource.strategy.prepare_update(obj, old, subresource or None)
        return Draft(resource, obj, old, record, options, subresource)

    def finish(self, draft: Draft) -> Wrote:
        """Validate and commit a draft. Raises ``StatusError``, 409 if the object changed since the draft."""
        resource, obj, old, record, options, subresource, _ = draft
        if record is None or old is None:
            return self.finish_create(draft)
        if resource.table.get(record.ns, record.name) is not record:
            raise conflict(resource.info, record.name)
        causes = resource.strategy.validate(obj, old, subresource or None)
        if causes:
            raise invalid(resource.info, record.name, causes)
        self._admit(draft)
        meta = obj["metadata"]
        meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        if obj == old:
            return Wrote(record)
        if self._finalized(resource, obj):
            return self._delete_finalized(resource, record, obj, options.dry_run)
        if self.on_finish is not None:
            self.on_finish(resource, obj)
        return Wrote(self._commit(resource, obj, record, options.dry_run))

    def _admit(self, draft: Draft) -> None:
        """What may refuse a valid object, then limits and quotas of its namespace. Raises ``StatusError``."""
        if draft.guard is not None:
            draft.guard(draft)
        self._limits.admit(draft.resource, draft.obj, draft.old, draft.subresource)
        if self.quotas is not None:
            self.quotas.admit(draft.resource, draft.obj, draft.old, draft.subresource)

    def _check_version(self, resource: ServedResource, record: StoredObject, meta: Object) -> None:
        """Check the optimistic lock and the uid of a write. An empty version is no lock. Raises 409."""
        uid = meta.get("uid")
        if uid and uid != record.uid:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {record.uid}"
            raise conflict(resource.info, record.name, why)
        version = meta.get("resourceVersion")
        if version and version != "0":
            if version != str(record.rv):
                try:
                    revision(version)
                except StatusError as error:
                    raise StatusError(500, "", error.message) from None
                raise conflict(resource.info, record.name)
        elif resource.info.crd is not None and not version:
            # the storage reports this one, with the resource instead of the kind
            raise invalid_kind(
                resource.info.group,
                resource.info.plural,
                record.name,
                [
                    FieldError(
                        "FieldValueInvalid",
                        "metadata.resourceVersion",
                        "Invalid value: 0x0: must be specified for an update",
                    )
                ],
            )

    # ---- commit

    @staticmethod
    def _finalized(resource: ServedResource, obj: Object) -> bool:
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
            return False
        if resource.info.plural == "namespaces" and not resource.info.group:
            return not (obj.get("spec") or {}).get("finalizers")
        return True

    def _delete_finalized(self, resource: ServedResource, record: StoredObject, obj: Object, dry_run: bool) -> Wrote:
        raw = self._encoded(resource, obj, dry_run)
        if dry_run:
            return Wrote(StoredObject(record.ns, record.name, record.uid, record.rv, raw), deleted=True)
        return Wrote(self._drop(resource, record, raw), deleted=True)

    def _encoded(self, resource: ServedResource, obj: Object, dry_run: bool) -> bytes:
        if not dry_run:
            obj["metadata"]["resourceVersion"] = str(self.store.revision + 1)
        raw = encode(resource.stored(obj))
        if len(raw) > MAX_OBJECT:
            raise StatusError(500, "", "etcdserver: request is too large")
        if json_too_deep(raw, obj):
            raise bad_request(f"{resource.info.kind} cannot be stored: {TOO_DEEP}")
        return raw

    def _commit(self, resource: ServedResource, obj: Object, old: StoredObject | None, dry_run: bool) -> StoredObject:
        meta = obj["metadata"]
        raw = self._encoded(resource, obj, dry_run)
        ns, name, uid = meta.get("namespace", ""), meta["name"], meta["uid"]
        if dry_run:
            return StoredObject(ns, name, uid, old.rv if old is not None else 0, raw)
        made = self.store.put(resource.table, ns, name, uid, raw).record
        self.settle_quotas()
        return made

    def _drop(self, resource: ServedResource, record: StoredObject, raw: bytes | None) -> StoredObject:
        last = self.store.delete(resource.table, record, raw).record
        self.settle_quotas()
        return last

    def settle_quotas(self) -> None:
        """Bring the status of quotas up to date before a commit is answered; if it can't be written, the next commit tries."""
        quotas = self.quotas
        if quotas is None or not quotas.stale or self._settling:
            return
        self._settling = True
        try:
            quotas.settle(self.commit_update)
        except StatusError as error:
            log.warning("the status of a quota could not be written: %s", error.message)
        finally:
            self._settling = False

    def commit_update(self, resource: ServedResource, record: StoredObject, obj: Object, dry_run: bool = False) -> StoredObject:
        """Commit a state that needs no checks because the server itself made it (deletion, binding)."""
        return self._commit(resource, obj, record, dry_run)

    def remove(self, resource: ServedResource, record: StoredObject, obj: Object | None, dry_run: bool) -> StoredObject:
        """Remove the object; ``obj`` is its last state if that differs from the stored one."""
        raw = None if obj is None else self._encoded(resource, obj, dry_run)
        if dry_run:
            return record if raw is None else StoredObject(record.ns, record.name, record.uid, record.rv, raw)
        return self._drop(resource, record, raw)
