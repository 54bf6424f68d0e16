"""A fleet for the time of a test: what the test kit's ``fleet_running`` runs (``raycp.testkit.plugin``)."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycp.config import FleetDoc
from raycp.driver.fleet_builder import build_fleet
from raycp.driver.fleet_client import FleetClient, up
from raycp.runtime.local_ray import connect, shut_down


@dataclass(frozen=True)
class TestedFleet:
    """A running fleet. ``clusters`` are the handles that the test gave, the hub first."""

    __test__ = False

    clusters: Sequence[Any]
    client: FleetClient

    def status(self) -> dict[str, Any]:
        """As ``raycp status -o json``."""
        return asyncio.run(self.client.status())


def fleet_document(clusters: Sequence[Any], controllers: Sequence[str], settings: dict[str, Any]) -> FleetDoc:
    """The fleet file of a test: ``clusters`` have ``name`` and ``kubeconfig``; ``settings`` are keys of ``spec``, as in YAML.

    Raises ``pydantic.ValidationError``.
    """
    spec: dict[str, Any] = {
        "clusters": [
            {"name": each.name, "role": "hub" if number == 0 else "member", "kubeconfig": {"path": str(each.kubeconfig)}}
            for number, each in enumerate(clusters)
        ],
        "controllers": [{"use": name} for name in controllers],
        "observer": {"port": 0},
        **settings,
    }
    document = {"apiVersion": "raycp.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "test"}, "spec": spec}
    return FleetDoc.model_validate(document, by_alias=True, by_name=False)


@contextlib.contextmanager
def run_fleet(clusters: Sequence[Any], controllers: Sequence[str], settings: dict[str, Any]) -> Iterator[TestedFleet]:
    """Run ``controllers`` over ``clusters`` on a local Ray until the block ends.

    Modules are found as the test finds them. Raises ``ConfigError``, ``RayError``, ``FleetError``.
    """
    doc = fleet_document(clusters, controllers, settings)
    fleet = build_fleet(doc, Path("fleet.yaml"), [Path.cwd()])
    at_hand = connect("local", doc.spec.ray.num_cpus)
    client = FleetClient(doc.ray_namespace)
    try:
        asyncio.run(up(client, fleet))
        yield TestedFleet(clusters, client)
    finally:
        try:
            asyncio.run(client.down(5.0))
        finally:
            if at_hand.ours:
                shut_down()
