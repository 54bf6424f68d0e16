"""The system under test: a raycp fleet on the bench's clusters, on a Ray that stays up between a scenario's fleets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from raycp.bench.ground import Ground
from raycp.config.fleet import FleetDoc
from raycp.driver.fleet_client import FleetHandle, running_fleet
from raycp.runtime.cores import QUEUE
from raycp.runtime.local_ray import connect, shut_down

CONTROLLER = "raycp.bench.workload"
NAIVE_QUEUE = "raycp.bench.naive_queue:NaiveQueue"
NEVER = 1_000_000
"""Failures in a row: more than a run has requests."""

BATCHJOB = "raycp.controllers.batchjob"


def fleet_doc(
    ground: Ground,
    *,
    controllers: list[dict[str, Any]] | None = None,
    slots: int = 32,
    workers: int = 1,
    name: str = "bench",
    overrides: Mapping[str, Any] | None = None,
) -> FleetDoc:
    """A fleet over the ground's clusters (the first is the hub; the only one is hub and member) with ``slots`` slots
    in all.

    ``overrides`` are further fields of ``spec``.
    """
    clusters: list[dict[str, Any]] = []
    # one cluster may have all slots; of several none may hold more than a quarter of them
    limit = slots if len(ground.names) == 1 else max(1, slots // 4)
    for i, (cluster, path) in enumerate(ground.kubeconfigs.items()):
        role = "hub" if i == 0 else "member"
        clusters.append({"name": cluster, "role": role, "kubeconfig": {"path": str(path.resolve())}, "maxInFlight": limit})
    given = dict(overrides or {})
    tiers = {"standard": {"workers": {"min": workers, "max": workers}}, **given.pop("tiers", {})}
    spec: dict[str, Any] = {
        "clusters": clusters,
        "controllers": controllers or [{"use": CONTROLLER}],
        "tiers": tiers,
        "slo": [{"controller": "*", "objective": "99.9%", "within": "1s"}],
        "shards": {"standby": 0},
        "workers": {"slots": max(1, slots // max(1, workers)), "cpus": 0.1},
        "observer": {"port": 0},
        **given,
    }
    return FleetDoc.model_validate({"apiVersion": "raycp.io/v1alpha1", "kind": "Fleet", "metadata": {"name": name}, "spec": spec})


class RayAtHand(Protocol):
    """The Ray that a scenario's fleets run on."""

    @property
    def address(self) -> str:
        """Of its head."""
        ...


@contextlib.asynccontextmanager
async def ray_at_hand(address: str = "local", options: Mapping[str, Any] = MappingProxyType({})) -> AsyncIterator[RayAtHand]:
    """A Ray for several fleets in a row; ends with the block if it was started here. Raises ``RayError``."""
    at_hand = await asyncio.to_thread(connect, address)
    try:
        yield at_hand
    finally:
        if at_hand.ours:
            await asyncio.to_thread(shut_down)


def naive(doc: FleetDoc) -> FleetDoc:
    """The same fleet as it would be without what raycp adds: shards use ``NaiveQueue``, nothing is spread or delayed, no cluster
    has a limit of its own, no breaker opens."""
    spec = doc.spec
    calm = [c.model_copy(update={"breaker": c.breaker.model_copy(update={"failures": NEVER})}) for c in spec.clusters]
    changes = {
        "ray": spec.ray.model_copy(update={"env": {**spec.ray.env, QUEUE: NAIVE_QUEUE}}),
        "timeouts": spec.timeouts.model_copy(update={"spread": 0.0}),
        "clusters": calm,
    }
    return doc.model_copy(update={"spec": spec.model_copy(update=changes)})


@contextlib.asynccontextmanager
async def fleet_under_test(doc: FleetDoc, policy: str = "raycp") -> AsyncIterator[FleetHandle]:
    """A ready fleet. ``policy="fifo"``: the ``naive`` one."""
    if policy == "fifo":
        doc = naive(doc)
    async with running_fleet(doc, address="auto") as handle:
        yield handle
