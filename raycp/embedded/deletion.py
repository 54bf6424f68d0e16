"""DELETE of objects and collections: preconditions, grace period, propagation, finalizers, and the answer.

After ``rest.BeforeDelete`` and ``registry.Store.Delete`` of k8s.io/apiserver.
"""

from typing import Any

import msgspec

from raycp.embedded.crdconditions import CLEANUP_FINALIZER, terminating
from raycp.embedded.errors import StatusError, conflict, forbidden, not_found
from raycp.embedded.options import DeleteOptions
from raycp.embedded.pipeline import Object, Pipeline
from raycp.embedded.registry import ServedResource
from raycp.embedded.store import StoredObject

RETURNS_OBJECT = frozenset(
    {
        "pods",
        "namespaces",
        "services",
        "serviceaccounts",
        "persistentvolumes",
        "persistentvolumeclaims",
        "resourcequotas",
        "podtemplates",
    }
)
"""core resources whose DELETE returns the object instead of a Status"""

_ORPHANING = frozenset({("", "replicationcontrollers"), ("batch", "jobs")})
"""resources whose dependents are orphaned unless the request or a finalizer asks for something else
(``DefaultGarbageCollectionPolicy`` of their strategies)"""

_OWNERLESS = frozenset({("", "events"), ("events.k8s.io", "events")})
"""resources without garbage collection (``rest.Unsupported``): no policy gives them a finalizer"""

_PODS_STAY = (
    "child pods are preserved by default when jobs are deleted; "
    "set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"
)

_IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
_BUSY = (
    "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will "
    "automatically be purged by the system."
)


class Deletion:
    """The delete verbs over one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def delete(self, resource: ServedResource, ns: str, name: str, options: DeleteOptions) -> tuple[StoredObject, bool]:
        """Delete; returns the object's last state and whether it was removed. Raises ``StatusError``."""
        record = resource.table.get(ns, name)
        if record is None:
            raise not_found(resource.info, name)
        self.check_preconditions(resource, record, options)
        core = not resource.info.group
        if core and resource.info.plural == "namespaces":
            return self._namespace(resource, record, options)
        if resource is self.pipeline.registry.crds:
            return self._definition(resource, record, options)
        obj = resource.read(record)
        grace = self._grace(resource, obj, options) if core and resource.info.plural == "pods" else 0
        return self._delete(resource, record, obj, options, grace)

    def answer(self, resource: ServedResource, record: StoredObject, removed: bool) -> bytes | None:
        """The Status to answer with, or None to answer with the object."""
        info = resource.info
        if not removed or (not info.group and info.plural in RETURNS_OBJECT):
            return None
        details: dict[str, Any] = {"name": record.name, "group": info.group, "kind": info.plural, "uid": record.uid}
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {k: v for k, v in details.items() if v},
        }
        return msgspec.json.encode(status)

    @staticmethod
    def warnings(resource: ServedResource, options: DeleteOptions) -> list[str]:
        """What the server warns of when it deletes objects of this resource."""
        jobs = resource.info.group == "batch" and resource.info.plural == "jobs"
        return [_PODS_STAY] if jobs and not options.policy else []

    @staticmethod
    def check_preconditions(resource: ServedResource, record: StoredObject, options: DeleteOptions) -> None:
        """Raises ``StatusError`` 409 if the object is not the one, or not in the version, that is to be deleted."""
        if options.uid and options.uid != record.uid:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record ({record.uid}). "
                "The object might have been deleted and then recreated"
            )
            raise conflict(resource.info, record.name, why, by_kind=True)
        version = options.resource_version
        if version and version != str(record.rv):
            why = (
                f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record "
                f"({record.rv}). The object might have been modified"
            )
            raise conflict(resource.info, record.name, why, by_kind=True)

    @staticmethod
    def _grace(resource: ServedResource, obj: Object, options: DeleteOptions) -> int:
        """The grace period of a Pod in seconds: ``podStrategy.CheckGracefulDelete``."""
        spec = obj.get("spec") or {}
        period = spec.get("terminationGracePeriodSeconds")
        period = options.grace if options.grace is not None else (30 if period is None else period)
        phase = (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            period = 0
        return max(int(period), 1) if period < 0 else int(period)

    def _delete(
        self, resource: ServedResource, record: StoredObject, obj: Object, options: DeleteOptions, grace: int
    ) -> tuple[StoredObject, bool]:
        meta = obj["metadata"]
        before = list(meta.get("finalizers") or ())
        wanted = _finalizers(before, _policy(resource, before, options))
        if wanted:
            meta["finalizers"] = wanted
        else:
            meta.pop("finalizers", None)
        deleting = "deletionTimestamp" in meta
        if deleting:
            left = meta.get("deletionGracePeriodSeconds") or 0
            shorter = options.grace is not None and options.grace < left
            if left and not shorter and grace:
                if wanted == before:
                    return record, False
                return self._mark(resource, record, obj, None, options.dry_run), False
            if not wanted and not grace:
                self._stamp(resource, obj, 0, again=left != 0)
                return self.pipeline.remove(resource, record, obj, options.dry_run), True
            if wanted == before and not shorter:
                return record, False
            return self._mark(resource, record, obj, grace if shorter else None, options.dry_run), False
        if not wanted and not grace:
            if not resource.info.group and resource.info.plural == "pods":
                self._stamp(resource, obj, 0)
                return self.pipeline.remove(resource, record, obj, options.dry_run), True
            return self.pipeline.remove(resource, record, None, options.dry_run), True
        return self._mark(resource, record, obj, grace, options.dry_run), False

    def _mark(self, resource: ServedResource, record: StoredObject, obj: Object, grace: int | None, dry_run: bool) -> StoredObject:
        if grace is not None:
            self._stamp(resource, obj, grace)
        return self.pipeline.commit_update(resource, record, obj, dry_run)

    def _stamp(self, resource: ServedResource, obj: Object, grace: int, again: bool = True) -> None:
        """Set ``deletionTimestamp`` and increment the generation."""
        meta = obj["metadata"]
        if "deletionTimestamp" in meta and not again:
            return
        if meta.get("generation") and "deletionTimestamp" not in meta:
            meta["generation"] += 1
        meta["deletionTimestamp"] = self.pipeline.times.after(grace)
        meta["deletionGracePeriodSeconds"] = grace

    def _namespace(self, resource: ServedResource, record: StoredObject, options: DeleteOptions) -> tuple[StoredObject, bool]:
        """Delete a namespace in two steps: mark it as terminating, and remove it once spec.finalizers is empty."""
        if record.name in _IMMORTAL:
            raise forbidden(resource.info, record.name, "this namespace may not be deleted")
        obj = resource.read(record)
        meta = obj["metadata"]
        spec_finalizers = (obj.get("spec") or {}).get("finalizers")
        if "deletionTimestamp" not in meta:
            wanted = _finalizers(list(meta.get("finalizers") or ()), options.policy)
            if wanted:
                meta["finalizers"] = wanted
            if meta.get("generation"):
                meta["generation"] += 1
            meta["deletionTimestamp"] = self.pipeline.times.now()
            obj.setdefault("status", {})["phase"] = "Terminating"
            if not spec_finalizers and not meta.get("finalizers"):
                return self.pipeline.remove(resource, record, obj, options.dry_run), True
            return self.pipeline.commit_update(resource, record, obj, options.dry_run), False
        if spec_finalizers:
            raise conflict(resource.info, record.name, _BUSY)
        if meta.get("finalizers"):
            return record, False
        return self.pipeline.remove(resource, record, obj, options.dry_run), True

    def _definition(self, resource: ServedResource, record: StoredObject, options: DeleteOptions) -> tuple[StoredObject, bool]:
        """Mark a CRD as terminating until ``crdstatus`` has deleted its objects."""
        obj = resource.read(record)
        meta = obj["metadata"]
        if "deletionTimestamp" in meta:
            return self._delete(resource, record, obj, options, 0)
        if CLEANUP_FINALIZER not in (meta.get("finalizers") or ()):
            meta["finalizers"] = [*(meta.get("finalizers") or ()), CLEANUP_FINALIZER]
        meta["finalizers"] = _finalizers(meta["finalizers"], options.policy)
        terminating(obj, self.pipeline.times.now())
        meta["deletionTimestamp"] = self.pipeline.times.now()
        return self._mark(resource, record, obj, None, options.dry_run), False

    def collection(self, resource: ServedResource, records: list[StoredObject], options: DeleteOptions) -> list[StoredObject]:
        """Delete each object, skipping those that no longer exist. Returns the deleted objects."""
        done = []
        for record in records:
            try:
                done.append(self.delete(resource, record.ns, record.name, options)[0])
            except StatusError as error:
                if error.reason != "NotFound":
                    raise
        return done


def _policy(resource: ServedResource, finalizers: list[str], options: DeleteOptions) -> str:
    """The propagation policy: that of the request, of a finalizer (empty), or of the resource (``shouldOrphanDependents``)."""
    kind = (resource.info.group, resource.info.plural)
    if kind in _OWNERLESS:
        return "Background"
    if options.policy or kind not in _ORPHANING or "orphan" in finalizers or "foregroundDeletion" in finalizers:
        return options.policy
    return "Orphan"


def _finalizers(given: list[str], policy: str) -> list[str]:
    """The finalizers after applying a propagation policy (``deletionFinalizersForGarbageCollection``)."""
    if not policy:
        return given
    kept = [f for f in given if f not in ("orphan", "foregroundDeletion")]
    if policy == "Orphan":
        kept.append("orphan")
    elif policy == "Foreground":
        kept.append("foregroundDeletion")
    return kept
