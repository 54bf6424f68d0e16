"""CustomResourceDefinitions across the fleet: which cluster has which, and which connections the shards may therefore use.

A cluster's connection is published to the shards when its CRDs are installed, or after ``PATIENCE``, whichever is first.
"""

import asyncio
import json
from collections.abc import Mapping
from functools import partial

from raycp.base.clock import Clock
from raycp.base.problems import ProblemCode, ProblemOwner
from raycp.kube import ConnectError, ConnectSpec, KubeError
from raycp.leader.cluster_clients import ClusterClients
from raycp.leader.crd_installer import crds_of, exists, install_crd
from raycp.leader.retries import Retries
from raycp.protocol.plan import Plan

PATIENCE = 10.0
"""Seconds that a cluster's connection waits for its CRDs."""

Done = dict[str, tuple[ConnectSpec, frozenset[str]]]


class Crds:
    """One per leader."""

    def __init__(self, clock: Clock, clients: ClusterClients, retries: Retries) -> None:
        self._clock = clock
        self._clients = clients
        self._retries = retries
        self._installed: Done = {}
        self._present: Done = {}
        self._since: dict[str, float] = {}
        self._published: dict[str, ConnectSpec] = {}

    def recovered(self, plan: Plan) -> None:
        """A living fleet was found: its connections are published, and if it led, its CRDs are installed."""
        self.adopt(plan)
        for cluster in plan.clusters:
            if cluster.connect is not None and plan.epoch:  # a candidate has installed nothing
                self._installed[cluster.name] = (cluster.connect, crds_of(plan, cluster.name))

    def adopt(self, plan: Plan) -> None:
        """The connections of ``plan`` are in use already, and stay published."""
        for cluster in plan.clusters:
            if cluster.connect is not None:
                self._published[cluster.name] = cluster.connect

    def step(self, plan: Plan, endpoints: Mapping[str, ConnectSpec]) -> None:
        """Start the installation of what is missing; returns at once. Only for a leader that has the lock."""
        for name, connect in endpoints.items():
            crds = crds_of(plan, name)
            if self._installed.get(name) != (connect, crds):
                subject = ProblemCode.CRDS_NOT_INSTALLED, ProblemOwner(cluster=name)
                self._retries.start(subject, partial(self._install, name, connect, crds))

    def published(self, name: str, connect: ConnectSpec | None, *, candidate: bool, held: bool = False) -> ConnectSpec | None:
        """The connection that the shards may use: None until the cluster has its CRDs or has had the time. A ``candidate``
        publishes at once: the current leader has installed the CRDs. ``held``: something else is to come first, which has that
        time too."""
        if connect is None:
            self._since.pop(name, None)
            self._published.pop(name, None)
            return None
        if candidate or self._published.get(name) == connect:
            self._published[name] = connect
            return connect
        since = self._since.setdefault(name, self._clock.now())
        installed = self._installed.get(name)
        ready = installed is not None and installed[0] == connect and not held
        if ready or self._clock.now() - since > PATIENCE:
            return connect
        return None

    async def _install(self, name: str, connect: ConnectSpec, crds: frozenset[str]) -> None:
        if crds:
            client = await self._clients.get(connect)
            for crd in sorted(crds):
                await install_crd(client, json.loads(crd), self._clock)
        self._installed[name] = (connect, crds)

    async def install(self, plan: Plan, *, changes: bool, within: float) -> dict[str, str]:
        """Install the CRDs that a standby fleet needs: missing ones, or (``changes``) all of them, within ``within`` seconds for
        each cluster. Returns what went wrong, by cluster."""
        problems: dict[str, str] = {}
        done = self._installed if changes else self._present

        async def one(name: str, connect: ConnectSpec, crds: frozenset[str]) -> None:
            try:
                async with asyncio.timeout(within):
                    client = await self._clients.get(connect)
                    for text in sorted(crds):
                        crd = json.loads(text)
                        if changes or not await exists(client, crd["metadata"]["name"]):
                            await install_crd(client, crd, self._clock)
                done[name] = (connect, crds)
            except (KubeError, ConnectError, TimeoutError) as error:
                problems[name] = str(error) or "no answer"

        needed = {each.name: (each.connect, crds_of(plan, each.name)) for each in plan.clusters if each.connect is not None}
        await asyncio.gather(*(one(name, *need) for name, need in needed.items() if done.get(name) != need))
        return problems
