"""A small fleet for tests: embedded clusters behind real HTTPS, and a ``Backend`` whose cache is the API server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from raycp.base.clock import SystemClock
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Meta
from raycp.base.owner_marks import ClaimProof, MarkKeys
from raycp.base.tasks import Child, Done, Task
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ClusterClient, ConnectSpec
from raycp.sdk import Answer, ApiRequest, CacheRead, ClusterInfo, Controller, Session, run_reconcile
from raycp.sdk.backend import ChildOwner
from raycp.sdk.owner import OWNER, OWNER_KIND, OWNER_UID, proof_of

METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
CLOCK = SystemClock()


class LiveFleet:
    """``names[0]`` is the hub. The backend can't reach ``hidden`` clusters."""

    def __init__(self, *names: str, spec: EmbeddedSpec | None = None) -> None:
        self.embedded = {name: EmbeddedCluster(name, spec or EmbeddedSpec()) for name in names}
        self.hub = names[0]
        self.clients: dict[str, ClusterClient] = {}
        self.hidden: set[str] = set()
        self.hide_pods = False
        """The caches have not received the Pods yet."""
        self.events: list[dict[str, Any]] = []
        self.calls: list[ApiRequest] = []
        self.before: Callable[[ApiRequest], Awaitable[None]] | None = None
        self.tasks = 0
        self.marks: MarkKeys | None = MarkKeys({"key-1": bytes(32)}, "key-1")

    async def __aenter__(self) -> "LiveFleet":
        for name, cluster in self.embedded.items():
            endpoint = await cluster.start()
            spec = ConnectSpec(name=name, mode="direct", server=endpoint.server, ca_pem=endpoint.ca_pem, token=endpoint.token)
            self.clients[name] = await ClusterClient.connect(spec, CLOCK)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients.values():
            await client.close()
        for cluster in self.embedded.values():
            await cluster.stop()

    # Backend

    @property
    def clusters(self) -> Mapping[str, ClusterInfo]:
        alone = len(self.clients) == 1
        return {
            name: ClusterInfo(
                name,
                "hub" if name == self.hub and not alone else "member",
                {"name": name},
                name not in self.hidden,
                clock_ahead=client.skew,
            )
            for name, client in self.clients.items()
        }

    async def namespaced(self, cluster: str, kind: GVK) -> bool:
        return (await self.clients[cluster].resource(kind)).namespaced

    async def read(self, task: Task, query: CacheRead) -> list[Child]:
        if query.op in ("owners", "uids"):
            return await self.rows(query)
        if query.op == "get":
            found = await self.objects(query.cluster, query.kind, query.namespace)
            found = [obj for obj in found if obj["metadata"]["name"] == query.name]
        else:
            found = await self.objects(query.cluster, query.kind, query.namespace, query.selector)
            if query.op == "owned":
                found = [obj for obj in found if self.belongs(obj, query.cluster, query.name, references=query.references)]
        return [Child(query.cluster, str(query.kind), msgspec.json.encode(obj)) for obj in found]

    async def rows(self, query: CacheRead) -> list[Child]:
        found = await self.objects(query.cluster, query.kind)
        rows: list[Any] = [obj["metadata"]["uid"] for obj in found]
        if query.op == "owners":
            owned: dict[str, list[dict[str, Any]]] = {}
            for obj in found:
                uid = (obj["metadata"].get("labels") or {}).get(OWNER_UID, "")
                if uid and self.belongs(obj, query.cluster, uid, references=False):
                    owned.setdefault(uid, []).append(obj["metadata"].get("annotations") or {})
            rows = [ChildOwner(uid, of[0].get(OWNER, ""), of[0].get(OWNER_KIND, ""), len(of)) for uid, of in owned.items()]
        return [Child(query.cluster, str(query.kind), msgspec.json.encode(rows))]

    async def request(self, task: Task, call: ApiRequest) -> Answer:
        if self.before is not None:
            await self.before(call)
        self.calls.append(call)
        client = self.clients[call.cluster]
        resource = await client.resource(call.kind)
        path = resource.path(call.namespace or None, call.name if call.verb != "create" else None, call.subresource or None)
        answer = await client.request(
            METHODS[call.verb], path, body=call.body, query=call.query or None, content_type=call.content_type
        )
        return Answer(answer.status, answer.body, path)

    def event(self, task: Task, cluster: str, event: bytes) -> None:
        self.events.append(msgspec.json.decode(event))

    # for tests

    async def objects(self, cluster: str, kind: str | GVK, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        gvk = kind if isinstance(kind, GVK) else GVK.parse(kind)
        client = self.clients[cluster]
        resource = await client.resource(gvk)
        query = {"labelSelector": selector} if selector else None
        answer = await client.request("GET", resource.path(namespace or None), query=query)
        items = msgspec.json.decode(answer.body)["items"]
        return [{"apiVersion": gvk.api_version, "kind": gvk.kind, **item} for item in items]

    def belongs(self, obj: dict[str, Any], cluster: str, uid: str, *, references: bool) -> bool:
        """Whether a shard would count ``obj`` as a child of the owner with this uid."""
        meta = msgspec.convert(obj["metadata"], Meta)
        owner, proof = proof_of(
            meta, cluster, GVK.parse(f"{obj['apiVersion']}/{obj['kind']}"), self.marks, self.clients[cluster].skew
        )
        named = references and any(reference.uid == uid for reference in meta.owner_references or ())
        return named or (owner == uid and proof is not ClaimProof.NONE)

    async def send(self, verb: str, cluster: str, obj: dict[str, Any], body: dict[str, Any] | None = None) -> dict[str, Any]:
        kind = GVK.parse(f"{obj['apiVersion']}/{obj['kind']}")
        meta = obj["metadata"]
        call = ApiRequest(
            verb,  # type: ignore[arg-type]
            cluster,
            kind,
            meta.get("namespace", ""),
            meta["name"],
            body=msgspec.json.encode(body if body is not None else obj) if verb != "get" else None,
            content_type="application/merge-patch+json" if verb == "patch" else "application/json",
        )
        answer = await self.request(make_task("test", cluster, obj), call)
        return dict(msgspec.json.decode(answer.body))

    async def install(self, cluster: str, crd: dict[str, Any]) -> None:
        await self.send("create", cluster, crd)
        kind = GVK(crd["spec"]["group"], crd["spec"]["versions"][0]["name"], crd["spec"]["names"]["kind"])
        async with asyncio.timeout(10):
            while True:
                self.clients[cluster].discovery.forget(kind)
                try:
                    await self.objects(cluster, kind)
                    return
                except Exception:  # not served yet
                    await asyncio.sleep(0.02)

    async def reconcile(
        self, controller: Controller, namespace: str, name: str, *, cluster: str | None = None, **options: Any
    ) -> Done:
        where = cluster or self.hub
        found = [o for o in await self.objects(where, controller.kind, namespace) if o["metadata"]["name"] == name]
        task = make_task(controller.name, where, found[0] if found else None, namespace, name)
        self.tasks += 1
        task.unknown_clusters = sorted(self.hidden)
        if found:
            uid = found[0]["metadata"]["uid"]
            for owned in controller.owns:
                members = [c.name for c in self.clusters.values() if c.role == "member"] if owned.on == "members" else [where]
                for member in members:
                    if member in self.hidden:
                        continue
                    selector = f"{OWNER_UID}={uid}" if owned.on == "members" else ""
                    for obj in [] if self.hide_pods else await self.objects(member, owned.kind, "", selector):
                        if self.belongs(obj, member, uid, references=member == where):
                            task.children.append(Child(member, str(owned.kind), msgspec.json.encode(obj)))
        return await run_reconcile(Session(controller, task, self, CLOCK), **options)


def make_task(
    controller: str, cluster: str, obj: dict[str, Any] | None, namespace: str = "", name: str = "", attempt: int = 1
) -> Task:
    meta = obj["metadata"] if obj else {}
    key = RequestKey(controller, cluster, namespace or meta.get("namespace", ""), name or meta.get("name", ""))
    raw = msgspec.json.encode(obj) if obj is not None else None
    return Task(1, key, "standard", "user-update", attempt, 1, "s0", 1, 1, 0.0, raw)
