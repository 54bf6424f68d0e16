"""The writes of a ``Context``: fenced (law 6e) and bound to the resourceVersion last seen."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from raycp.base.keys import GVK
from raycp.kube.errors import ApiError
from raycp.sdk.backend import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, ApiRequest, CacheRead
from raycp.sdk.owner import OWNER_UID, Ownership, mark, ownership
from raycp.sdk.patches import expect, merge_diff, same_spec
from raycp.sdk.session import ObjectId, Session, decode

_PATCH_TYPES = {"merge": MERGE_PATCH, "json": JSON_PATCH, "strategic": STRATEGIC_PATCH}
_APPLY_TRIES = 3


class Writes:
    """The writing half of ``Context``, which sets ``_session``."""

    _session: Session

    def own(self, child: dict[str, Any], *, cluster: str | None = None) -> dict[str, Any]:
        """Mark ``child`` (in place) as ours: an owner reference, or label and annotations where that can't be. The mark is made for
        its name and namespace in that cluster; ``create`` and ``apply`` make it anew where they fill in the namespace."""
        session = self._session
        return mark(child, session.own(), session.task.key.cluster, session.cluster_or_own(cluster), session.backend.marks)

    def ownership(self, child: dict[str, Any], *, cluster: str | None = None) -> Ownership:
        """How ``child``, an object of that cluster, belongs to the reconciled object: what its labels and references claim, as far
        as it is proven."""
        return self._ownership(child, GVK.parse(f"{child['apiVersion']}/{child['kind']}"), self._session.cluster_or_own(cluster))

    async def create(self, obj: dict[str, Any], *, own: bool | None = None, cluster: str | None = None) -> dict[str, Any]:
        """Create ``obj`` and return it as the server keeps it.

        Use deterministic names: where an object of that name exists and is proven to be ours (``ownership``), that is success, and
        it is returned as it is. ``own=None`` marks kinds in ``owns=[...]``. Raises ``ApiError``: AlreadyExists for another's
        object, which is left alone.
        """
        call, body = await self._prepare("create", obj, own, cluster)
        try:
            answer = await self._session.request(_with_body(call, body, {"fieldManager": self._session.controller.field_manager}))
        except ApiError as error:
            if not error.already_exists or "name" not in body["metadata"]:
                raise
            existing = await self._session.live_get(call.cluster, call.kind, call.namespace, body["metadata"]["name"])
            if existing is None:  # deleted since: the next reconcile creates it
                raise
            found = decode(existing.body)
            if self._ownership(found, call.kind, call.cluster) is Ownership.NONE:
                raise
            self._session.wrote(call, existing.body, read=True)
            return found
        return decode(answer.body)

    async def apply(
        self, obj: dict[str, Any], *, own: bool | None = None, force: bool = True, cluster: str | None = None
    ) -> dict[str, Any]:
        """Server-side apply of the fields in ``obj`` as field manager ``raycp-<controller>``: creates or changes, and removes
        fields that an earlier apply set and this one leaves out. ``force`` takes fields over from other managers. Raises
        ``ApiError``."""
        call, body = await self._prepare("patch", obj, own, cluster)
        of = _object_id(call)
        version = self._session.version(of)
        if not version and self._session.controller.owned(call.kind) is not None:
            found = await self._session.read(CacheRead("get", call.cluster, call.kind, call.namespace, call.name))
            version = self._session.version(of) if found and self._session.seen(call.cluster, call.kind, found[0].raw) else ""
        query = {"fieldManager": self._session.controller.field_manager, "force": "true" if force else "false"}
        for last in (False,) * (_APPLY_TRIES - 1) + (True,):
            body["metadata"].pop("resourceVersion", None)
            if version:
                body["metadata"]["resourceVersion"] = version
            try:
                return decode((await self._session.request(_with_body(call, body, query, APPLY_PATCH))).body)
            except ApiError as error:
                if last or not version or not (error.conflict or error.not_found) or error.details.get("causes"):
                    raise
            current = await self._session.live_get(call.cluster, call.kind, call.namespace, call.name)
            version = self._session.version(of) if current is not None else ""
        raise AssertionError("unreachable")

    async def patch(
        self,
        obj: dict[str, Any],
        patch: dict[str, Any] | Sequence[dict[str, Any]],
        *,
        type: str = "merge",
        subresource: str = "",
        cluster: str | None = None,
        bound: bool = True,
    ) -> dict[str, Any]:
        """Patch the object that ``obj`` names (apiVersion, kind, metadata). ``type``: merge, json or strategic.

        Where ``obj`` has a resourceVersion the patch is bound to it; with ``bound=False`` only to the ``test`` operations of a json
        patch. Raises ``ApiError``, 409 Conflict for a changed object.
        """
        if type not in _PATCH_TYPES:
            raise ValueError(f"type={type!r} is none of merge, json, strategic")
        call = await self._name("patch", obj, cluster, subresource)
        version = self._session.version(_object_id(call), obj["metadata"].get("resourceVersion", "")) if bound else ""
        body: Any
        if type == "json":
            guard = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}] if version else []
            body = [*guard, *patch]
        else:
            assert isinstance(patch, Mapping), f"a {type} patch is a dict"
            metadata = dict(patch.get("metadata") or {})
            if version:
                metadata["resourceVersion"] = version
            body = {**patch, "metadata": metadata} if metadata else dict(patch)
        query = {"fieldManager": self._session.controller.field_manager}
        try:
            return decode((await self._session.request(_with_body(call, body, query, _PATCH_TYPES[type]))).body)
        except ApiError as error:
            if type == "json" and _untrue(body, error):
                raise ApiError(409, "Conflict", f"a test of the patch does not hold: {error.message}") from error
            raise

    async def delete(
        self,
        obj: dict[str, Any],
        *,
        grace: int | None = None,
        propagation: str | None = None,
        cluster: str | None = None,
    ) -> bool:
        """Delete exactly ``obj``: preconditions on its uid and resourceVersion. False if it is deleted already, or another object
        has its name. ``grace`` in seconds; ``propagation``: Background, Foreground or Orphan. Raises ``ApiError``."""
        call = await self._name("delete", obj, cluster)
        metadata = obj["metadata"]
        version = self._session.version(_object_id(call), metadata.get("resourceVersion", ""))
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {}}
        if metadata.get("uid"):
            options["preconditions"]["uid"] = metadata["uid"]
        if version:
            options["preconditions"]["resourceVersion"] = version
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if propagation is not None:
            options["propagationPolicy"] = propagation
        try:
            await self._session.request(_with_body(call, options, {}))
        except ApiError as error:
            if error.not_found:
                return False
            if not error.conflict or not metadata.get("uid"):
                raise
            current = await self._session.live_get(call.cluster, call.kind, call.namespace, call.name)
            if current is None or decode(current.body)["metadata"].get("uid") != metadata["uid"]:
                return False
            raise
        return True

    async def status(
        self,
        status: Mapping[str, Any],
        *,
        obj: dict[str, Any] | None = None,
        replace: bool = False,
        cluster: str | None = None,
    ) -> bool:
        """Update the status subresource to ``status``, by one merge patch of the differences; no request where there are none.

        Keys left out stay as they are (``replace=True``: are removed); None removes a key. Default: the reconciled object.
        Returns whether a write was needed. Raises ``ApiError`` (409 Conflict where the object changed meanwhile).
        """
        target = self._session.own() if obj is None else obj
        diff = merge_diff(target.get("status") or {}, status, replace=replace)
        if not diff:
            return False
        answer = await self.patch(target, {"status": diff}, subresource="status", cluster=cluster)
        if obj is None:
            self._session.replace_own(answer)
        return True

    async def first_status(self, status: Mapping[str, Any]) -> None:
        """Write the first status of the reconciled object. It is bound to the generation and to there being none, so that another
        write of this reconcile may be under way. Raises ``ApiError``, 409 Conflict where that has changed."""
        target = self._session.own()
        first = [*same_spec(target), expect("/status", None), {"op": "add", "path": "/status", "value": status}]
        self._session.replace_own(await self.patch(target, first, type="json", subresource="status", bound=False))

    # -- inside

    def _ownership(self, child: dict[str, Any], kind: GVK, cluster: str) -> Ownership:
        session, marks = self._session, self._session.backend.marks
        owner, home = session.own_identity, session.task.key.cluster
        return ownership(child, kind, owner, home, cluster, marks, session.clock_ahead(cluster))

    async def _name(self, verb: Any, obj: dict[str, Any], cluster: str | None, subresource: str = "") -> ApiRequest:
        """The request for an object, its namespace filled in where the kind has namespaces and the object names none."""
        where = self._session.cluster_or_own(cluster)
        try:
            kind = GVK.parse(f"{obj['apiVersion']}/{obj['kind']}")
            metadata = obj["metadata"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"an object needs apiVersion, kind and metadata, this has {_keys(obj)}") from None
        namespace = metadata.get("namespace", "")
        if not namespace and self._session.task.key.namespace and await self._session.backend.namespaced(where, kind):
            namespace = self._session.task.key.namespace
        if verb != "create" and not metadata.get("name"):
            raise ValueError(f"{verb} of a {kind.kind} without metadata.name")
        return ApiRequest(verb, where, kind, namespace, metadata.get("name", ""), subresource)

    async def _prepare(
        self, verb: Any, obj: dict[str, Any], own: bool | None, cluster: str | None
    ) -> tuple[ApiRequest, dict[str, Any]]:
        """The request and a copy of the object to send, with our owner mark where wanted."""
        call = await self._name(verb, obj, cluster)
        body = {**obj, "metadata": {**obj["metadata"]}}
        metadata = body["metadata"]
        metadata.pop("managedFields", None)
        if call.namespace:
            metadata["namespace"] = call.namespace
        session = self._session
        named = (metadata.get("labels") or {}).get(OWNER_UID)  # by ``own``, perhaps before its namespace was known
        ours = bool(named) and named == session.own_identity["metadata"]["uid"]
        declared = session.controller.owned(call.kind)
        if own or (own is None and declared is not None) or ours:
            for part in ("labels", "annotations"):
                if part in metadata:
                    metadata[part] = dict(metadata[part] or {})
            if "ownerReferences" in metadata:
                metadata["ownerReferences"] = list(metadata["ownerReferences"] or ())
            label = ours or (declared is not None and declared.on == "members")
            mark(body, session.own(), session.task.key.cluster, call.cluster, session.backend.marks, label=label)
        return call, body


def _untrue(patch: Sequence[Any], error: ApiError) -> bool:
    """Whether a JSON patch with tests was refused for one of its operations: the server does not report which. An invalid result
    is refused with causes."""
    return error.status == 422 and not error.details.get("causes") and any(each.get("op") == "test" for each in patch)


def _object_id(call: ApiRequest) -> ObjectId:
    return (call.cluster, call.kind, call.namespace, call.name)


def _with_body(call: ApiRequest, body: Any, query: dict[str, str], content_type: str = "application/json") -> ApiRequest:
    return msgspec.structs.replace(call, body=msgspec.json.encode(body), query=query, content_type=content_type)


def _keys(obj: Any) -> str:
    return ", ".join(map(str, obj)) or "nothing" if isinstance(obj, dict) else type(obj).__name__
