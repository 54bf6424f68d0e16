"""Which owner a child's change wakes."""

import fleet_samples as samples
from inprocess import Stack, stack, until


async def namespace(fleet: Stack, name: str) -> str:
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"app": "space"}}}
    uid: str = (await fleet.clusters["here"].api.create("namespaces", made))["metadata"]["uid"]
    return uid


async def test_a_cluster_scoped_owner_is_woken_by_its_namespaced_children() -> None:
    """An owner reference names no namespace: that of the child is the owner's only where the owner has one."""
    async with stack(["space"]) as fleet:
        uid = await namespace(fleet, "team")
        await namespace(fleet, "other")
        await until(lambda: ("here", "team") in samples.CHILDREN and ("here", "other") in samples.CHILDREN)
        reference = {"apiVersion": "v1", "kind": "Namespace", "name": "team", "uid": uid}
        child = {"name": "c", "namespace": "team", "ownerReferences": [reference]}
        await fleet.clusters["here"].api.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": child})
        await until(lambda: samples.CHILDREN["here", "team"] == ["c"])
        await fleet.clusters["here"].api.delete("configmaps", "team", "c")
        await until(lambda: samples.CHILDREN["here", "team"] == [])
        assert [name for *_, name in samples.RAN].count("other") == 1
