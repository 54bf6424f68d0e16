"""``serviceaccounts/token``: tokens of service accounts, on their own or bound to a Pod, Secret or node.

As ``pkg/registry/core/serviceaccount/storage/token.go``.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from raycp.embedded.auth import ISSUER, Authenticator, BoundObject
from raycp.embedded.errors import FieldError, StatusError, bad_request, conflict, not_found
from raycp.embedded.httpio import HttpResponse
from raycp.embedded.pipeline import Pipeline
from raycp.embedded.store import StoredObject
from raycp.embedded.strategy import body_decoder
from raycp.embedded.verbs import ResourceRequest

_LEAST, _MOST = 600, 1 << 32
_KINDS = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


class TokenRequests:
    """Handles creates of tokens."""

    def __init__(self, pipeline: Pipeline, auth: Authenticator) -> None:
        self._pipeline = pipeline
        self._auth = auth

    def create(self, call: ResourceRequest, account: StoredObject) -> HttpResponse:
        """Raises ``StatusError``."""
        decoder = body_decoder("authentication.k8s.io", "v1", "TokenRequest")
        asked, _ = decoder.decode(call.request.body, call.media_type(), "Ignore")
        spec = asked.get("spec") or {}
        seconds = spec.get("expirationSeconds") or 3600
        if seconds < _LEAST:
            raise _invalid(seconds, "may not specify a duration less than 10 minutes")
        if seconds > _MOST:
            raise _invalid(seconds, "may not specify a duration larger than 2^32 seconds")
        audiences = spec.get("audiences") or [ISSUER]
        bound = self._bound(call, spec.get("boundObjectRef"))
        token, ends = self._auth.service_account_token(call.ns, call.name, account.uid, seconds, audiences, bound)
        meta = {"name": call.name, "namespace": call.ns, "uid": account.uid, "creationTimestamp": self._pipeline.times.now()}
        shown = datetime.fromtimestamp(int(ends), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": meta,
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec.get("boundObjectRef")},
            "status": {"token": token, "expirationTimestamp": shown},
        }
        return HttpResponse(201, msgspec.json.encode(made))

    def _bound(self, call: ResourceRequest, ref: dict[str, Any] | None) -> dict[str, BoundObject]:
        if not ref:
            return {}
        kind, name, uid = ref.get("kind") or "", ref.get("name") or "", ref.get("uid") or ""
        if ref.get("apiVersion") != "v1" or kind not in _KINDS:
            raise bad_request(f"cannot bind token to object of type {ref.get('apiVersion')}, Kind={kind}")
        found = self._pipeline.registry.find("", "v1", _KINDS[kind])
        assert found is not None
        record = found.table.get("" if kind == "Node" else call.ns, name)
        if record is None:
            raise not_found(found.info, name)
        if uid and uid != record.uid:
            why = f"the UID in the bound object reference ({uid}) does not match the UID in record. "
            raise conflict(found.info, name, why + "The object might have been deleted and then recreated")
        if kind == "Pod" and ((record.decode().get("spec") or {}).get("serviceAccountName") or "default") != call.name:
            who = f'cannot bind token for serviceaccount "{call.name}"'
            raise bad_request(f"{who} to pod running with different serviceaccount name.")
        return {kind.lower(): BoundObject(name, record.uid)}


def _invalid(seconds: int, why: str) -> StatusError:
    cause = FieldError("FieldValueInvalid", "spec.expirationSeconds", f"Invalid value: {seconds}: {why}")
    details = {
        "group": "authentication.k8s.io",
        "kind": "TokenRequest",
        "causes": [{"reason": cause.type, "message": cause.message, "field": cause.field}],
    }
    return StatusError(422, "Invalid", f'TokenRequest.authentication.k8s.io "" is invalid: {cause.text()}', details)
