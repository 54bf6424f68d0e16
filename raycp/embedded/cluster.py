"""One embedded cluster: store, strategies, server, simulation and faults, wired, started and stopped together."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycp.base.clock import Clock, SystemClock
from raycp.base.hosts import bracketed, reachable
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded import tls
from raycp.embedded.access import Access
from raycp.embedded.admin import Admin
from raycp.embedded.auth import AUTHENTICATED, MASTERS, Authenticator, User
from raycp.embedded.bootstrap import bootstrap, publish
from raycp.embedded.crdstatus import CrdStatus
from raycp.embedded.discovery import DiscoveryEndpoints
from raycp.embedded.errors import StatusError
from raycp.embedded.faults import Faults
from raycp.embedded.files import write_whole
from raycp.embedded.httpio import HttpConnection
from raycp.embedded.kubeconfig import kubeconfig
from raycp.embedded.localapi import LocalApi
from raycp.embedded.persist import Journal
from raycp.embedded.pipeline import Pipeline
from raycp.embedded.podsecurity.admission import PodSecurity
from raycp.embedded.policies.mutations import MutatingPolicies
from raycp.embedded.policies.typechecks import TypeChecks
from raycp.embedded.policies.verdicts import ValidatingPolicies
from raycp.embedded.quota.quotas import Quotas
from raycp.embedded.recorder import Recorder
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.reviews import Reviews
from raycp.embedded.server import ApiServer
from raycp.embedded.store import ObjectStore
from raycp.embedded.subresources import Subresources
from raycp.embedded.verbs import Verbs
from raycp.embedded.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address and credentials of a cluster. ``repr`` leaves out the token, which is the administrator's."""

    server: str
    ca_pem: str
    token: str
    kubeconfig: str

    def __repr__(self) -> str:
        return f"Endpoint({self.server!r})"


class EmbeddedCluster:
    """A Kubernetes API server in this process. ``await start()`` serves; ``await stop()`` closes and cancels everything.

    ``api`` is the in-process client, ``faults`` injects faults, ``recorder`` keeps the recent writes, ``life`` runs the
    controllers (None for the bare server). With ``dataDir`` the state, the CA and the token survive a restart.
    """

    def __init__(self, name: str, spec: EmbeddedSpec | None = None, clock: Clock | None = None) -> None:
        self.name = name
        self.spec = spec if spec is not None else EmbeddedSpec()
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.store = ObjectStore(self.spec.history, self.spec.history_bytes)
        self._journal = Journal(Path(self.spec.data_dir)) if self.spec.data_dir is not None else None
        if self._journal is not None:
            self._journal.load(self.store)
        self.registry = Registry(self.store)
        self.pipeline = Pipeline(self.store, self.registry, self.clock, self.spec.seed)
        if self.spec.controllers.quota:
            self.pipeline.quotas = Quotas(self.store, self.registry)
        self.recorder = Recorder()
        self.faults = Faults(list(self.spec.faults), self.clock, self, self.spec.seed)
        self.access = Access(self.registry, self.spec.rbac)
        self.webhooks = Webhooks(self.registry, self.access)
        self.verbs = Verbs(
            self.store,
            self.pipeline,
            self.faults,
            self.webhooks,
            ValidatingPolicies(self.registry, self.access),
            MutatingPolicies(self.registry, self.access),
            PodSecurity(self.registry),
            self.recorder,
            self.access,
        )
        self.auth = Authenticator(self.pipeline.times.wall, lambda plural, ns, name: self.store.table("", plural).get(ns, name))
        self.subresources = Subresources(self.verbs, self.auth, self.access)
        self.api = LocalApi(self.verbs, self.subresources)
        self.server = ApiServer(
            self.registry,
            self.verbs,
            self.subresources,
            self.auth,
            self.access,
            DiscoveryEndpoints(self.registry),
            Reviews(self.access, self.auth),
            Admin(self.verbs, self.faults),
            self.faults,
            self.spec.max_body,
            self.spec.gzip,
        )
        self.life: Any = None
        self.endpoint: Endpoint | None = None
        self.on_endpoint: Callable[[Endpoint], None] | None = None
        """called with each new endpoint once it serves; one with a new token follows the fault ``expireToken``"""
        self._crds = CrdStatus(self.registry, self.pipeline, self.api)
        self._type_checks = TypeChecks(self.registry, self.api)
        self.registry.on_removed = self._resource_removed
        self._listener: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._authority: tls.Authority | None = None
        self._context: Any = None
        self._token = ""

    async def start(self) -> Endpoint:
        """Listen, then start the controllers. Raises ``OSError`` if the port is taken, or ``dataDir`` has no room."""
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> Endpoint:
        spec = self.spec
        loop = asyncio.get_running_loop()
        directory = Path(spec.data_dir) if spec.data_dir is not None else None
        self._authority = tls.Authority(directory)
        self._context = tls.server_context(self._authority, spec.host)
        if self._journal is not None:
            self._journal.follow(self.store)
        self._issue_token(directory)
        await self._made(bootstrap(self.api, rbac=spec.rbac), directory)
        self.pipeline.settle_quotas()
        self._crds.start()
        self._type_checks.start()
        self._listener = await loop.create_server(
            lambda: HttpConnection(self.server), spec.host, spec.port, ssl=self._context, backlog=1024
        )
        address, port, *_ = self._listener.sockets[0].getsockname()
        await self._made(publish(self.api.as_manager("kube-apiserver"), reachable(address), port), directory)
        self._set_endpoint(f"https://{bracketed(spec.host)}:{port}")
        self._tasks.append(loop.create_task(self.faults.run(), name=f"embedded {self.name} faults"))
        if any(spec.controllers.model_dump().values()):
            from raycp.embedded.life import ClusterLife

            self.life = ClusterLife(self.api, self.store, self.registry, spec, self.clock, self._authority.pem)
            logs = getattr(self.life, "logs", None)
            if logs is not None:
                self.subresources.logs = logs
            await self.life.start()
        assert self.endpoint is not None
        return self.endpoint

    async def stop(self) -> None:
        """Close every connection and cancel every task."""
        if self.life is not None:
            await self.life.stop()
            self.life = None
        self._crds.stop()
        self._type_checks.stop()
        if self._listener is not None:
            self._listener.close()
        self.verbs.close()
        for connection in list(self.server.connections):
            connection.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.webhooks.close()
        if self._listener is not None:
            await self._listener.wait_closed()
            self._listener = None
        if self._journal is not None:
            self._journal.close(self.store)

    def add_user(self, name: str, groups: tuple[str, ...] = (), token: str = "") -> str:
        """Issue a token for a user, for tests of authorization."""
        return self.auth.issue(User(name, (*groups, AUTHENTICATED)), token)

    def client_certificate(self, name: str, groups: tuple[str, ...] = ()) -> tuple[str, str]:
        """Certificate and key, PEM, of a user."""
        assert self._authority is not None
        return self._authority.client(name, groups)

    # ---- effects of faults on the cluster (``faults.World``)

    def compact(self) -> None:
        self.store.compact()

    def skew(self, seconds: float) -> None:
        self.pipeline.times.skew = seconds

    def rotate_certificate(self) -> None:
        if self._authority is not None:
            tls.load_chain(self._context, *self._authority.server(self.spec.host))

    def expire_token(self) -> None:
        if self.endpoint is not None:
            self.auth.revoke(self._token)
            self._token = self.auth.issue(User("kubernetes-admin", (MASTERS, AUTHENTICATED)))
            self._set_endpoint(self.endpoint.server)

    # ---- internals

    @staticmethod
    async def _made(own: Coroutine[Any, Any, None], directory: Path | None) -> None:
        """Make objects of the server itself. Raises ``OSError`` if ``dataDir`` has no room for them."""
        try:
            await own
        except StatusError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise OSError(error.__cause__.errno, error.__cause__.strerror, str(directory)) from error

    def _issue_token(self, directory: Path | None) -> None:
        kept = directory / "admin.token" if directory is not None else None
        known = kept.read_text().strip() if kept is not None and kept.exists() else ""
        self._token = self.auth.issue(User("kubernetes-admin", (MASTERS, AUTHENTICATED)), known)
        if kept is not None and not known:
            write_whole(kept, self._token.encode())

    def _set_endpoint(self, server: str) -> None:
        assert self._authority is not None
        pem = self._authority.pem
        text = kubeconfig(self.name, server, pem, self._token)
        self.endpoint = Endpoint(server, pem, self._token, text)
        if self.on_endpoint is not None:
            self.on_endpoint(self.endpoint)

    def _resource_removed(self, resource: ServedResource) -> None:
        """End the watches of a resource that is no longer served, as apiserver does."""
        gone = resource.info
        for watch in list(self.verbs.watches):
            # By name: each change of a CRD, its status included, makes another description of its resource.
            seen = watch.resource.info
            if (seen.group, seen.version, seen.plural) == (gone.group, gone.version, gone.plural):
                watch.stop()


def write_kubeconfig(path: Path, text: str) -> None:
    """Write a kubeconfig that only its owner can read, in one step."""
    write_whole(path, text.encode())


__all__ = ["EmbeddedCluster", "Endpoint", "StatusError", "write_kubeconfig"]
