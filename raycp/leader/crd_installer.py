"""CustomResourceDefinitions of controllers: which a cluster needs, whether they are there, applied."""

import msgspec

from raycp.base.clock import Clock
from raycp.kube import ApiError, ClusterClient, ConnectError, decode_answer
from raycp.protocol.plan import Plan

ESTABLISHED_WITHIN = 5.0


class _Condition(msgspec.Struct):
    type: str
    status: str


class _CrdStatus(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Crd(msgspec.Struct):
    status: _CrdStatus = msgspec.field(default_factory=_CrdStatus)


def crds_of(plan: Plan, cluster: str) -> frozenset[str]:
    """CRDs that controllers need in a cluster, as JSON."""
    hub = plan.fleet.doc.hub.name
    wanted: set[str] = set()
    for controller in plan.fleet.controllers:
        if cluster in controller.clusters or (controller.on == "hub" and cluster == hub):
            wanted.update(controller.crds)
    return frozenset(wanted)


async def exists(client: ClusterClient, crd: str) -> bool:
    """Whether the cluster has it, in whatever version. Raises ``ApiError``, ``Unreachable``."""
    try:
        await client.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


async def install_crd(client: ClusterClient, crd: dict[str, object], clock: Clock) -> None:
    """Apply a CustomResourceDefinition and wait until it is Established. Raises ``ApiError``, ``Unreachable``, ``ConnectError``."""
    metadata = crd["metadata"]
    assert isinstance(metadata, dict)
    name = str(metadata["name"])
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    try:
        await client.request(
            "PATCH",
            path,
            body=msgspec.json.encode(crd),
            query={"fieldManager": "raycp", "force": True},
            content_type="application/apply-patch+yaml",
        )
    except ApiError as error:
        if error.status == 403:
            raise ConnectError(
                client.name, f"no right to install CRD {name}", "grant it (deploy/), or install the CRD yourself"
            ) from error
        raise
    deadline = clock.now() + ESTABLISHED_WITHIN
    while True:
        found = decode_answer((await client.request("GET", path)).body, _Crd, f"GET {path}")
        if any(c.type == "Established" and c.status == "True" for c in found.status.conditions or ()):
            return
        if clock.now() > deadline:
            raise ConnectError(client.name, f"CRD {name} is not Established", "see its conditions with kubectl describe crd")
        await clock.sleep(0.05)
