"""Admission webhooks (``admission.k8s.io/v1``): mutating ones in the order of their names, then validating ones."""

import asyncio
import base64
import uuid
from typing import Any

import msgspec

from raycp.embedded.auth import User
from raycp.embedded.errors import StatusError, bad_request, internal
from raycp.embedded.patches import json_patch
from raycp.embedded.pipeline import Draft, Object
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.selectors import parse_label_dict
from raycp.embedded.store import StoredObject

GROUP = "admissionregistration.k8s.io"


class Webhooks:
    """Calls the configured webhooks. ``any`` is false while there are none, and writes need not wait."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._hooks: dict[str, list[tuple[str, Object]]] = {"mutating": [], "validating": []}
        self.any = False
        self._session: Any = None
        for kind in self._hooks:
            found = registry.find(GROUP, "v1", f"{kind}webhookconfigurations")
            assert found is not None
            found.table.subscribe("", lambda change, kind=kind: self._load(kind))  # type: ignore[misc]
            self._load(kind)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def match(self, draft: Draft) -> bool:
        """Whether any webhook matches this draft."""
        operation = "CREATE" if draft.old is None else "UPDATE"
        labels = draft.obj["metadata"].get("labels") or {}
        ns = draft.obj["metadata"].get("namespace") or ""
        return any(
            self._wants(hook, draft.resource, operation, draft.subresource, ns, labels)
            for hooks in self._hooks.values()
            for _, hook in hooks
        )

    def match_delete(self, resource: ServedResource, record: StoredObject) -> bool:
        """Whether any webhook matches this deletion."""
        return any(
            self._wants(hook, resource, "DELETE", "", record.ns, record.labels)
            for hooks in self._hooks.values()
            for _, hook in hooks
        )

    async def admit(self, draft: Draft, user: User, warnings: list[str]) -> Draft:
        """The draft after the mutating webhooks. Raises ``StatusError`` if one denies it."""
        operation = "CREATE" if draft.old is None else "UPDATE"
        resource, obj, old = draft.resource, draft.obj, draft.old
        for _, hook in self._hooks["mutating"]:
            meta = obj["metadata"]
            ns, labels = meta.get("namespace") or "", meta.get("labels") or {}
            if self._wants(hook, resource, operation, draft.subresource, ns, labels):
                review = self._review(resource, operation, draft.subresource, obj, old, user, draft.options.dry_run)
                patch = await self._call(hook, review, warnings)
                if patch:
                    changed = json_patch.apply(obj, patch)
                    if not isinstance(changed, dict):
                        raise internal(f"webhook {hook['name']} made no object")
                    obj = resource.strategy.convert(changed)
        await self._validate(resource, operation, draft.subresource, obj, old, user, draft.options.dry_run, warnings)
        return draft._replace(obj=obj)

    async def admit_delete(
        self, resource: ServedResource, record: StoredObject, user: User, dry_run: bool, warnings: list[str]
    ) -> None:
        """Call the validating webhooks. Raises ``StatusError`` if one denies the request."""
        old = resource.read(record)
        for _, hook in self._hooks["mutating"]:
            if self._wants(hook, resource, "DELETE", "", record.ns, record.labels):
                await self._call(hook, self._review(resource, "DELETE", "", None, old, user, dry_run), warnings)
        await self._validate(resource, "DELETE", "", None, old, user, dry_run, warnings)

    async def _validate(
        self,
        resource: ServedResource,
        operation: str,
        sub: str,
        obj: Object | None,
        old: Object | None,
        user: User,
        dry_run: bool,
        warnings: list[str],
    ) -> None:
        meta = (obj if obj is not None else old or {})["metadata"]
        ns, labels = meta.get("namespace") or "", meta.get("labels") or {}
        calls = [
            self._call(hook, self._review(resource, operation, sub, obj, old, user, dry_run), warnings)
            for _, hook in self._hooks["validating"]
            if self._wants(hook, resource, operation, sub, ns, labels)
        ]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(error, BaseException):
                raise error

    def _load(self, kind: str) -> None:
        found = self._registry.find(GROUP, "v1", f"{kind}webhookconfigurations")
        assert found is not None
        hooks = []
        for record in found.table.records(""):
            hooks += [(record.name, hook) for hook in found.read(record).get("webhooks") or ()]
        self._hooks[kind] = hooks
        self.any = any(self._hooks.values())

    def _wants(self, hook: Object, resource: ServedResource, operation: str, sub: str, ns: str, labels: Any) -> bool:
        info = resource.info
        if info.group == GROUP and "webhookconfigurations" in info.plural:
            return False
        name = f"{info.plural}/{sub}" if sub else info.plural
        if not any(_rule_covers(rule, info, name, sub, operation) for rule in hook.get("rules") or ()):
            return False
        if hook.get("objectSelector") and not parse_label_dict(hook["objectSelector"])(labels):
            return False
        if hook.get("namespaceSelector"):
            own = info.plural == "namespaces" and not info.group
            if ns or own:
                namespaces = self._registry.find("", "v1", "namespaces")
                record = namespaces.table.get("", ns) if namespaces is not None and not own else None
                if not parse_label_dict(hook["namespaceSelector"])(record.labels if record is not None else labels if own else {}):
                    return False
        return True

    @staticmethod
    def _review(
        resource: ServedResource, operation: str, sub: str, obj: Object | None, old: Object | None, user: User, dry_run: bool
    ) -> Object:
        info = resource.info
        shown = obj if obj is not None else old or {}
        kind = {"group": info.group, "version": info.version, "kind": info.kind}
        plural = {"group": info.group, "version": info.version, "resource": info.plural}
        request: Object = {
            "uid": str(uuid.uuid4()),
            "kind": kind,
            "resource": plural,
            "requestKind": kind,
            "requestResource": plural,
            "name": shown["metadata"].get("name", ""),
            "operation": operation,
            "userInfo": user.info(),
            "object": obj,
            "oldObject": old,
            "dryRun": dry_run,
            "options": {"kind": f"{operation.title()}Options", "apiVersion": "meta.k8s.io/v1"},
        }
        if sub:
            request["subResource"] = request["requestSubResource"] = sub
        if shown["metadata"].get("namespace"):
            request["namespace"] = shown["metadata"]["namespace"]
        return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}

    async def _call(self, hook: Object, review: Object, warnings: list[str]) -> Any:
        """Call a webhook. Returns its JSON patch, if any. Raises ``StatusError`` if it denies the request."""
        try:
            answer = await self._post(hook, review)
        except Exception as error:
            if hook.get("failurePolicy", "Fail") == "Ignore":
                return None
            raise internal(f'failed calling webhook "{hook["name"]}": failed to call webhook: {error}') from None
        response = answer.get("response") or {}
        if response.get("uid") != review["request"]["uid"]:
            raise internal(f'failed calling webhook "{hook["name"]}": expected response.uid={review["request"]["uid"]!r}')
        warnings += response.get("warnings") or ()
        if not response.get("allowed"):
            raise _denied(hook["name"], response.get("status") or {})
        if response.get("patch"):
            return msgspec.json.decode(base64.b64decode(response["patch"]))
        return None

    async def _post(self, hook: Object, review: Object) -> Object:
        import ssl

        import aiohttp  # on demand: most clusters have no webhooks

        config = hook["clientConfig"]
        url = config.get("url")
        if not url:
            service = config["service"]
            raise bad_request(f"service {service['namespace']}/{service['name']} cannot be reached: there is no network")
        context = ssl.create_default_context()
        if config.get("caBundle"):
            context = ssl.create_default_context(cadata=base64.b64decode(config["caBundle"]).decode())
        if self._session is None:
            self._session = aiohttp.ClientSession()
        timeout = aiohttp.ClientTimeout(total=hook.get("timeoutSeconds") or 10)
        data, headers = msgspec.json.encode(review), {"Content-Type": "application/json"}
        async with self._session.post(url, data=data, headers=headers, ssl=context, timeout=timeout) as response:
            body = await response.read()
            if response.status != 200:
                raise bad_request(f"the server answered {response.status}")
            answer: Object = msgspec.json.decode(body)
            return answer


def _rule_covers(rule: Object, info: Any, name: str, sub: str, operation: str) -> bool:
    def has(key: str, wanted: str) -> bool:
        given = rule.get(key) or ()
        return "*" in given or wanted in given

    resources = rule.get("resources") or ()
    covered = name in resources or "*/*" in resources or (not sub and "*" in resources)
    if sub and (f"*/{sub}" in resources or f"{info.plural}/*" in resources):
        covered = True
    if not sub and f"{info.plural}/*" in resources:
        covered = True
    scope = rule.get("scope") or "*"
    in_scope = scope == "*" or (scope == "Namespaced") == info.namespaced
    return (
        covered and in_scope and has("operations", operation) and has("apiGroups", info.group) and has("apiVersions", info.version)
    )


def _denied(name: str, status: Object) -> StatusError:
    """``webhookerrors.ToStatusErr``."""
    code = int(status.get("code") or 403)
    why = status.get("message") or status.get("reason") or ""
    message = f'admission webhook "{name}" denied the request' + (f": {why}" if why else " without explanation")
    reason = status.get("reason") or ("Forbidden" if code == 403 else "")
    return StatusError(code if code >= 400 else 400, str(reason), message, status.get("details"))
