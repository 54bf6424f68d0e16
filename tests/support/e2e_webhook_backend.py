"""The backend of Kubernetes' e2e specs of admission webhooks: it answers by path, as the image does that they deploy."""

import asyncio
import base64
import json
from typing import Any

from aiohttp import web

from raycp.embedded import tls

Object = dict[str, Any]
MARK = "webhook-e2e-test"


class WebhookBackend:
    """An HTTPS server. ``url(path)`` and ``ca_bundle`` are for a webhook's ``clientConfig``."""

    def __init__(self, latency: float) -> None:
        """``latency``: seconds before ``/delayed`` answers."""
        self.latency = latency
        self._authority = tls.Authority()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.ca_bundle = base64.b64encode(self._authority.pem.encode()).decode()

    def client_config(self, path: str) -> Object:
        return {"url": f"https://127.0.0.1:{self._port}{path}", "caBundle": self.ca_bundle}

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        context = tls.server_context(self._authority, "127.0.0.1")
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        review = await request.json()
        asked = review["request"]
        if request.path == "/delayed" or _hangs(request.path, asked):
            await asyncio.sleep(self.latency)
        answer = {"uid": asked["uid"], **_decision(request.path, asked)}
        return web.json_response({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": answer})


def _hangs(path: str, asked: Object) -> bool:
    return path == "/pods" and ((asked["object"]["metadata"].get("labels") or {}).get(MARK)) == "wait-forever"


def _decision(path: str, asked: Object) -> Object:
    obj = asked.get("object") or {}
    match path:
        case "/always-deny":
            return _denied("this webhook denies all requests")
        case "/delayed":
            return {"allowed": True}
        case "/pods":
            told = []
            if any("webhook" in each["name"] for each in obj["spec"]["containers"]):
                told.append("the pod contains unwanted container name")
            if (obj["metadata"].get("labels") or {}).get(MARK) == "webhook-disallow":
                told.append("the pod contains unwanted label")
            return _denied("; ".join(told)) if told else {"allowed": True}
        case "/configmaps" | "/custom-resource":
            what = "configmap" if path == "/configmaps" else "custom resource"
            if asked["operation"] == "DELETE":
                if (asked["oldObject"].get("data") or {}).get(MARK) == "webhook-nondeletable":
                    return _denied(f"the {what} cannot be deleted because it contains unwanted key and value")
            elif (obj.get("data") or {}).get(MARK) == "webhook-disallow":
                unwanted = "key and value" if path == "/configmaps" else "data"
                return _denied(f"the {what} contains unwanted {unwanted}")
            return {"allowed": True}
        case "/crd":
            if (obj["metadata"].get("labels") or {}).get(MARK) == "webhook-disallow":
                return _denied("the crd contains unwanted label")
            return {"allowed": True}
        case "/mutating-configmaps" | "/mutating-custom-resource":
            data = obj.get("data") or {}
            stages = (("mutation-start", "mutation-stage-1"), ("mutation-stage-1", "mutation-stage-2"))
            added = [new for old, new in stages if data.get(old) == "yes"]
            return _patched([{"op": "add", "path": f"/data/{each}", "value": "yes"} for each in added])
        case "/mutating-pods":
            return _patched([{"op": "add", "path": "/spec/initContainers", "value": [_ADDED_CONTAINER]}])
        case "/add-label":
            return _patched([{"op": "add", "path": "/metadata/labels", "value": {"added-label": "yes"}}])
        case _:
            raise web.HTTPNotFound


_ADDED_CONTAINER = {"image": "webhook-added-image", "name": "webhook-added-init-container", "resources": {}}


def _denied(message: str) -> Object:
    return {"allowed": False, "status": {"message": message}}


def _patched(patch: list[Object]) -> Object:
    if not patch:
        return {"allowed": True}
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
