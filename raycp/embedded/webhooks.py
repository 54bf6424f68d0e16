"""Admission webhooks (``admission.k8s.io/v1``): mutating ones in the order of their names, then validating ones."""

import asyncio
import base64
from typing import Any

import msgspec

from raycp.embedded.access import Access
from raycp.embedded.auth import ANONYMOUS, User
from raycp.embedded.errors import StatusError, bad_request, forbidden, internal
from raycp.embedded.fixed_fields import keep_fixed
from raycp.embedded.patches import json_patch
from raycp.embedded.pipeline import Draft, Object
from raycp.embedded.policies.constraints import GROUP, AdmissionRequest, exempt, rule_covers, selected
from raycp.embedded.policies.evaluation import (
    OUT_OF_BUDGET,
    EvaluationError,
    OutOfBudget,
    PolicyExpressions,
    applies,
    values_of,
)
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.store import StoredObject
from raycp.embedded.strategy.budget import validation_budget
from raycp.embedded.strategy.cel import Expression


class WebhookStatus(msgspec.Struct):
    """Why a webhook denies a request."""

    code: int | None = None
    message: str | None = None
    reason: str | None = None
    details: dict[str, Any] | None = None


class WebhookResponse(msgspec.Struct, rename="camel"):
    """What a webhook answers. ``patch`` is base64 in JSON."""

    uid: str | None = None
    allowed: bool | None = None
    patch: bytes | None = None
    patch_type: str | None = None
    warnings: list[str] | None = None
    status: WebhookStatus | None = None


class _WebhookReview(msgspec.Struct):
    response: WebhookResponse | None = None


class Webhooks:
    """Calls the configured webhooks. ``any`` is false while there are none, and writes need not wait."""

    def __init__(self, registry: Registry, access: Access) -> None:
        self._registry = registry
        self._access = access
        self._conditions: dict[str, list[Expression | str]] = {}
        """the compiled matchConditions, by their texts as JSON"""
        self._hooks: dict[str, list[Object]] = {"mutating": [], "validating": []}
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
        return self.wanted(_request(draft, draft.obj, ANONYMOUS))

    def match_delete(self, resource: ServedResource, record: StoredObject) -> bool:
        """Whether any webhook matches this deletion."""
        old = {"metadata": {"name": record.name, "namespace": record.ns, "labels": record.labels}}
        return self.wanted(AdmissionRequest(resource, "DELETE", "", None, old, ANONYMOUS, False))

    def wanted(self, request: AdmissionRequest) -> bool:
        """Whether any webhook matches this request."""
        return any(self._wants(hook, request) for hooks in self._hooks.values() for hook in hooks)

    async def admit(self, draft: Draft, user: User, warnings: list[str]) -> Draft:
        """The draft after the mutating webhooks. Raises ``StatusError`` if one denies it."""
        obj = draft.obj
        for hook in self._hooks["mutating"]:
            request = _request(draft, obj, user)
            if self._wants(hook, request) and self._applies(hook, request):
                patch = await self._call(hook, request, warnings)
                if patch:
                    obj = keep_fixed(draft, draft.resource.strategy.convert(_patched(obj, patch, hook["name"])))
        await self._validate(_request(draft, obj, user), warnings)
        return draft._replace(obj=obj)

    async def admit_delete(
        self, resource: ServedResource, record: StoredObject, user: User, dry_run: bool, warnings: list[str]
    ) -> None:
        """Ask whether an object may be deleted. Raises ``StatusError`` if a webhook denies it."""
        await self.ask(AdmissionRequest(resource, "DELETE", "", None, resource.read(record), user, dry_run), warnings)

    async def ask(self, request: AdmissionRequest, warnings: list[str]) -> None:
        """Call the webhooks for what no patch can change. Raises ``StatusError`` if one denies the request."""
        for hook in self._hooks["mutating"]:
            if self._wants(hook, request) and self._applies(hook, request):
                await self._call(hook, request, warnings)
        await self._validate(request, warnings)

    async def _validate(self, request: AdmissionRequest, warnings: list[str]) -> None:
        wanted = [hook for hook in self._hooks["validating"] if self._wants(hook, request) and self._applies(hook, request)]
        calls = [self._call(hook, request, warnings) for hook in wanted]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(error, BaseException):
                raise error

    def _load(self, kind: str) -> None:
        found = self._registry.find(GROUP, "v1", f"{kind}webhookconfigurations")
        assert found is not None
        hooks: list[Object] = []
        for record in found.table.records(""):
            hooks += found.read(record).get("webhooks") or ()
        self._hooks[kind] = hooks
        texts = {_key(hook) for every in self._hooks.values() for hook in every}
        self._conditions = {key: self._conditions.get(key) or _compiled(key) for key in texts}
        self.any = any(self._hooks.values())

    def _wants(self, hook: Object, request: AdmissionRequest) -> bool:
        info = request.resource.info
        if exempt(info) or not any(rule_covers(rule, info, request.sub, request.operation) for rule in hook.get("rules") or ()):
            return False
        return selected(self._registry, hook, request)

    def _applies(self, hook: Object, request: AdmissionRequest) -> bool:
        """Whether the matchConditions hold. Raises ``StatusError`` if one fails and the webhook's policy is Fail."""
        conditions = self._conditions[_key(hook)]
        if not conditions:
            return True
        with validation_budget():
            try:
                return applies(conditions, values_of(self._registry, self._access, request, request.resource))
            except (EvaluationError, OutOfBudget) as error:
                if hook.get("failurePolicy", "Fail") == "Ignore":
                    return False
                raise forbidden(request.resource.info, request.name, str(error) or OUT_OF_BUDGET) from None

    async def _call(self, hook: Object, request: AdmissionRequest, warnings: list[str]) -> bytes | None:
        """Call a webhook. Returns its JSON patch, if any. What is no answer is a failed call. Raises ``StatusError`` if it
        denies the request, or if its call fails and its policy is Fail."""
        review = request.review()
        try:
            answer = _response(await self._post(hook, review), review["request"]["uid"])
        except Exception as error:
            if hook.get("failurePolicy", "Fail") == "Ignore":
                return None
            raise internal(f'failed calling webhook "{hook["name"]}": failed to call webhook: {error}') from None
        warnings += answer.warnings or ()
        if not answer.allowed:
            raise _denied(hook["name"], answer.status or WebhookStatus())
        return answer.patch

    async def _post(self, hook: Object, review: Object) -> bytes:
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
        seconds = hook.get("timeoutSeconds") or 10
        url += f"?timeout={seconds}s"
        timeout = aiohttp.ClientTimeout(total=seconds)
        data, headers = msgspec.json.encode(review), {"Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=data, headers=headers, ssl=context, timeout=timeout) as response:
                body: bytes = await response.read()
        except TimeoutError:
            raise TimeoutError(f'Post "{url}": context deadline exceeded') from None  # in the words that clients look for
        if response.status != 200:
            raise bad_request(f"the server answered {response.status}")
        return body


def _key(hook: Object) -> str:
    return msgspec.json.encode([one.get("expression") for one in hook.get("matchConditions") or ()]).decode()


def _compiled(key: str) -> list[Expression | str]:
    made = PolicyExpressions({})
    return [made.compiled(text) for text in msgspec.json.decode(key)]


def _request(draft: Draft, obj: Object, user: User) -> AdmissionRequest:
    operation = "CREATE" if draft.old is None else "UPDATE"
    return AdmissionRequest(draft.resource, operation, draft.subresource, obj, draft.old, user, draft.options.dry_run)


def _response(body: bytes, uid: str) -> WebhookResponse:
    """A webhook's answer (``VerifyAdmissionResponse``). Raises ``ValueError``, ``msgspec.DecodeError``."""
    answer = msgspec.json.decode(body, type=_WebhookReview).response
    if answer is None:
        raise ValueError("webhook response was absent")
    if answer.uid != uid:
        raise ValueError(f"expected response.uid={uid!r}")
    if answer.patch and answer.patch_type != "JSONPatch":
        raise ValueError(f"invalid response.patchType of {answer.patch_type!r}")
    return answer


def _patched(obj: Object, patch: bytes, name: str) -> Object:
    """The object after a webhook's patch. Raises ``StatusError`` 500 if it can't be applied: the call itself has not failed."""
    try:
        changed = json_patch.apply(obj, msgspec.json.decode(patch))
    except (msgspec.DecodeError, RecursionError, json_patch.MalformedJsonPatch, json_patch.JsonPatchFailed) as error:
        raise internal(f"patch of webhook {name}: {error}") from None
    if not isinstance(changed, dict):
        raise internal(f"webhook {name} made no object")
    return changed


def _denied(name: str, status: WebhookStatus) -> StatusError:
    """``webhookerrors.ToStatusErr``."""
    code = status.code or 403
    why = status.message or status.reason or ""
    message = f'admission webhook "{name}" denied the request' + (f": {why}" if why else " without explanation")
    reason = status.reason or ("Forbidden" if code == 403 else "")
    return StatusError(code if 400 <= code <= 599 else 400, reason, message, status.details)
