"""Creates the ``default`` ServiceAccount and the ``kube-root-ca.crt`` ConfigMap of every namespace, and recreates them
when they are deleted.
"""

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.life.seams import Api, Inbox, Object, Tables
from raycp.embedded.registry import Registry
from raycp.embedded.store import ObjectStore, StoreChange

_NOTE = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class ServiceAccounts:
    """``start()`` subscribes; ``run()`` works until cancelled. ``ca_pem`` is the server's CA."""

    def __init__(self, api: Api, store: ObjectStore, registry: Registry, clock: Clock, ca_pem: str) -> None:
        self.api = api
        self.ca_pem = ca_pem
        self.inbox = Inbox(self._reconcile, clock)
        self._tables = Tables(store, registry)

    def start(self) -> None:
        def renew(name: str) -> None:
            def changed(change: StoreChange) -> None:
                if change.record.name == name and change.type != "ADDED":
                    self.inbox.put(change.record.ns)

            self._tables.subscribe("serviceaccounts" if name == "default" else "configmaps", changed)

        table = self._tables.subscribe("namespaces", lambda change: self.inbox.put(change.record.name))
        renew("default")
        renew("kube-root-ca.crt")
        self.inbox.put_all(record.name for record in table.records(""))

    def stop(self) -> None:
        self._tables.close()

    async def run(self) -> None:
        await self.inbox.run()

    async def _reconcile(self, namespace: str) -> float | None:
        found = self._tables.read("namespaces", "", namespace)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return None
        if self._tables.read("serviceaccounts", namespace, "default") is None:
            await self._create(
                "serviceaccounts",
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}},
            )
        data = {"ca.crt": self.ca_pem}
        bundle = self._tables.read("configmaps", namespace, "kube-root-ca.crt")
        if bundle is None:
            meta = {
                "name": "kube-root-ca.crt",
                "namespace": namespace,
                "annotations": {"kubernetes.io/description": _NOTE},
            }
            await self._create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        elif bundle.get("data") != data:
            bundle["data"] = data
            await self.api.update("configmaps", bundle)
        return None

    async def _create(self, resource: str, obj: Object) -> None:
        try:
            await self.api.create(resource, obj, obj["metadata"]["namespace"])
        except StatusError as error:
            if error.code != 409:
                raise
