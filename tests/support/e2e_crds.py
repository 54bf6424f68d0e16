"""CRDs as Kubernetes' e2e suite makes, awaits and removes them, and what client-go's discovery client reads."""

import uuid
from typing import Any

from e2e_driver import CRDS, E2eClient, Object, collection, unless, until

ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
PRESENT = [
    ("", "v1", "namespaces"),
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
]
"""what the specs of discovery expect on any server: group, version, resource"""


def unique(prefix: str) -> str:
    return prefix + uuid.uuid4().hex[:6]


def crd_of(group: str, name: str, versions: dict[str, Object], scope: str = "Namespaced", **names: Any) -> Object:
    """A CRD with ``versions`` (name → schema; the first is stored), all served."""
    own = {"plural": f"{name}s", "singular": name, "kind": name, "listKind": f"{names.get('kind', name)}List", **names}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{own['plural']}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": own,
            "versions": [
                {"name": version, "served": True, "storage": i == 0, "schema": {"openAPIV3Schema": schema}}
                for i, (version, schema) in enumerate(versions.items())
            ],
        },
    }


def served(crd: Object) -> list[str]:
    return [version["name"] for version in crd["spec"]["versions"] if version["served"]]


def objects_of(crd: Object, version: str, namespace: str = "") -> str:
    """The path of a CRD's objects."""
    return collection(f"{crd['spec']['group']}/{version}", namespace, crd["spec"]["names"]["plural"])


async def discovered(client: E2eClient, crd: Object, version: str) -> bool:
    """Whether the group version's list of resources names the CRD's."""
    found = await unless(404, client.typed("GET", f"/apis/{crd['spec']['group']}/{version}"))
    return found is not None and crd["spec"]["names"]["plural"] in [each["name"] for each in found["resources"]]


async def create_crd(client: E2eClient, crd: Object) -> Object:
    """Create it, and wait until discovery has all its versions. Returns what the server answered."""
    made: Object = await client.typed("POST", CRDS, crd)
    for version in served(made):
        await until(lambda version=version: discovered(client, made, version), f"{made['metadata']['name']} is discovered")
    return made


async def create_watched_crd(client: E2eClient, crd: Object) -> Object:
    """As ``create_crd``, and a watch from an object's version sees its deletion in each version."""
    made = await create_crd(client, crd)
    first = served(made)[0]
    namespace = "default" if made["spec"]["scope"] == "Namespaced" else ""
    path = objects_of(made, first, namespace)
    instance = {
        "apiVersion": f"{made['spec']['group']}/{first}",
        "kind": made["spec"]["names"]["kind"],
        "metadata": {"namespace": namespace, "name": "setup-instance"},
        "alpha": "foo_123", "beta": 10, "gamma": "bar", "delta": "hello", "epsilon": "foobar", "spec": {},
    }
    stored = await client.dynamic("POST", path, instance)
    await client.dynamic("DELETE", f"{path}/setup-instance")
    for version in served(made):
        since = f"?watch=true&resourceVersion={stored['metadata']['resourceVersion']}"
        async with client.watching(objects_of(made, version, namespace) + since) as events:
            assert (await anext(events))["type"] == "DELETED"
    return made


async def delete_crd(client: E2eClient, crd: Object) -> None:
    """Delete it, and wait until discovery has none of its versions."""
    await client.typed("DELETE", f"{CRDS}/{crd['metadata']['name']}", {"apiVersion": "v1", "kind": "DeleteOptions"})
    await gone(client, crd)


async def gone(client: E2eClient, crd: Object) -> None:
    """Wait until discovery has none of its versions."""

    async def absent(version: str) -> bool:
        return not await discovered(client, crd, version)

    for version in served(crd):
        await until(lambda version=version: absent(version), f"{crd['metadata']['name']} is gone from discovery")


async def aggregated(client: E2eClient) -> set[tuple[str, str, str]]:
    """Group, version and resource of all that both documents of aggregated discovery name."""
    found = set()
    for path in ("/api", "/apis"):
        told = await client.typed("GET", path, Accept=AGGREGATED)
        assert told["kind"] == "APIGroupDiscoveryList"
        for group in told["items"]:
            for version in group["versions"]:
                for resource in version["resources"]:
                    found.add((group["metadata"].get("name", ""), version["version"], resource["resource"]))
    return found


