"""The hub of a running fleet, for commands that read its jobs."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from raycp.base.clock import Clock
from raycp.cli.errors import BadInput, CliError
from raycp.cli.probe import connect_spec
from raycp.config import FleetDoc
from raycp.kube import ClusterClient, ConnectError, ConnectSpec, KubeError
from raycp.protocol.plan import Plan


def hub_of_plan(plan: Plan) -> ConnectSpec:
    """How the running fleet reaches its hub: an embedded one's address is in its plan. Raises ``CliError``."""
    if plan.fleet.doc.hub.embedded is None:
        return connect_spec(plan.fleet.doc.hub)
    if plan.hub.connect is None:
        raise CliError(f"hub {plan.fleet.doc.hub.name}: its embedded server is not up yet", "wait until `raycp status` says ready")
    return plan.hub.connect


def hub_of_file(doc: FleetDoc, kubeconfig: Path | None) -> ConnectSpec:
    """How the fleet file says to reach the hub; an embedded one by its ``kubeconfig``. Raises ``BadInput``."""
    if doc.hub.embedded is None:
        return connect_spec(doc.hub)
    if kubeconfig is None:
        raise BadInput(
            f"the hub {doc.hub.name} is embedded: its address is not in the fleet file",
            "name a kubeconfig with --kubeconfig (`raycp kubeconfig` prints one)",
        )
    return ConnectSpec(name=doc.hub.name, path=str(kubeconfig))


@contextlib.asynccontextmanager
async def connected(spec: ConnectSpec, agent: str, clock: Clock) -> AsyncIterator[ClusterClient]:
    """A client of the hub for the time of the block, in which its errors become ``CliError``."""
    try:
        client = await ClusterClient.connect(msgspec.structs.replace(spec, user_agent=agent), clock)
        try:
            yield client
        finally:
            await client.close()
    except ConnectError as error:
        raise CliError(f"hub {spec.name}: {error.problem}", error.remedy) from error
    except (KubeError, TimeoutError) as error:
        raise CliError(f"hub {spec.name}: {str(error) or 'no answer'}") from error
