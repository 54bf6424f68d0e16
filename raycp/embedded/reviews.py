"""Resources that exist only as answers: access reviews, token reviews, self subject reviews, component statuses."""

from typing import Any

import msgspec

from raycp.embedded.access import Access, Attributes
from raycp.embedded.auth import ISSUER, Authenticator, User
from raycp.embedded.errors import FieldError, invalid
from raycp.embedded.forms import check_plain
from raycp.embedded.httpio import HttpResponse
from raycp.embedded.verbs import ResourceRequest


class Reviews:
    """Handles creates of reviews: returns the object with its status and stores nothing."""

    def __init__(self, access: Access, auth: Authenticator) -> None:
        self._access = access
        self._auth = auth

    def handle(self, call: ResourceRequest) -> HttpResponse:
        """Raises ``StatusError``."""
        check_plain(call.request.headers.get(b"accept"))
        info = call.resource.info
        obj, _ = call.resource.strategy.decode(call.request.body, call.media_type(), "Ignore")
        obj["apiVersion"], obj["kind"] = info.api_version, info.kind
        if not isinstance(obj.get("metadata"), dict):
            obj["metadata"] = {}
        spec = obj.get("spec") or {}
        match info.plural:
            case "selfsubjectreviews":
                obj["status"] = {"userInfo": call.user.info()}
            case "tokenreviews":
                obj["status"] = self._token(spec)
            case "selfsubjectrulesreviews":
                obj["status"] = self._rules(call.user, spec.get("namespace") or "")
            case "selfsubjectaccessreviews":
                obj["status"] = self._access_of(call, call.user, spec)
            case _:
                obj["status"] = self._access_of(call, self._subject(spec), spec)
        return HttpResponse(201, msgspec.json.encode(obj))

    @staticmethod
    def components(call: ResourceRequest) -> HttpResponse:
        """The deprecated component statuses: an empty list."""
        meta = {"resourceVersion": ""}
        body = {"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": meta, "items": []}
        return HttpResponse(200, msgspec.json.encode(body))

    def _token(self, spec: dict[str, Any]) -> dict[str, Any]:
        found = self._auth.by_token(spec.get("token") or "")
        audiences = [one for one in spec.get("audiences") or [ISSUER] if found is not None and one in found.audiences]
        if found is None or not audiences:
            return {"user": {}, "error": "invalid bearer token"}
        return {"authenticated": True, "user": found.user.info(), "audiences": audiences}

    @staticmethod
    def _subject(spec: dict[str, Any]) -> User:
        extra = {k: tuple(v) for k, v in (spec.get("extra") or {}).items()}
        return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)

    def _access_of(self, call: ResourceRequest, user: User, spec: dict[str, Any]) -> dict[str, Any]:
        """The decision about one request. Raises 422 for an invalid review."""
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        causes = []
        if resource and path:
            text = "Invalid value: cannot be specified in combination with resourceAttributes"
            causes.append(FieldError("FieldValueInvalid", "spec.nonResourceAttributes", text))
        elif not resource and not path:
            text = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
            causes.append(FieldError("FieldValueInvalid", "spec.resourceAttributes", text))
        if not call.resource.info.plural.startswith("self") and not user.name and not user.groups:
            text = 'Invalid value: "": at least one of user or group must be specified'
            causes.append(FieldError("FieldValueInvalid", "spec.user", text))
        if causes:
            raise invalid(call.resource.info, "", causes)
        if path:
            return {"allowed": self._access.may_path(user, path.get("verb") or "get", path.get("path") or "/")}
        assert resource is not None
        decision = self._access.decide(
            user,
            Attributes(
                resource.get("verb") or "",
                resource.get("group") or "",
                resource.get("version") or "",
                resource.get("resource") or "",
                resource.get("subresource") or "",
                resource.get("namespace") or "",
                resource.get("name") or "",
            ),
        )
        return {"allowed": decision.allowed, **({"reason": decision.reason} if decision.reason else {})}

    def _rules(self, user: User, namespace: str) -> dict[str, Any]:
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        anywhere = {"verbs": ["*"], "nonResourceURLs": ["*"]}
        if self._access.decide(user, Attributes("*", "*", "*", "*", namespace=namespace)).allowed:
            return {"resourceRules": [everything], "nonResourceRules": [anywhere], "incomplete": False}
        rules = [rule for rule, _ in self._access.rules(user, namespace)]
        return {
            "resourceRules": [r for r in rules if not r.get("nonResourceURLs")],
            "nonResourceRules": [r for r in rules if r.get("nonResourceURLs")],
            "incomplete": False,
        }
