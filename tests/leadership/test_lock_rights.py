"""Exactly the rights that ``raycp check`` asks for and ``deploy/rbac`` grants are enough for each lock; a missing one is named."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from contenders import NAMESPACE, Arena, Contender, arena_of, eventually, fleet_with

from raycp.cli.rights import needs
from raycp.leadership.locks import LockProblem, eligibility
from raycp.leadership.locks.floor import definition

PLURALS = {
    "ConfigMap": "configmaps",
    "CustomResourceDefinition": "customresourcedefinitions",
    "Lease": "leases",
    "Namespace": "namespaces",
    "Pod": "pods",
    "Secret": "secrets",
}


@pytest_asyncio.fixture(params=["ray", "configMap", "lease"])
async def arena(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Arena]:
    monkeypatch.setattr(eligibility, "KNOCK_SLACK", 0.3)
    async with arena_of(request.param, rbac=True) as made:
        yield made


def rules(kind: str, without: tuple[str, str] = ("", ""), *, cluster_scoped: bool = False) -> list[dict[str, Any]]:
    """Of the lock and the state, as ``raycp check`` knows them; ``without`` a verb on a resource."""
    doc = fleet_with(kind)
    found = []
    for need in needs(doc, [], doc.hub):
        plural = PLURALS[need.kind.kind]
        verbs = [verb for verb in need.verbs if (verb, plural) != without]
        names = {"resourceNames": [need.name]} if need.name else {}
        if bool(need.namespace) != cluster_scoped:
            found.append({"apiGroups": [need.kind.group], "resources": [plural], "verbs": verbs, **names})
    return found


async def allowed(arena: Arena, name: str, pod: bool, without: tuple[str, str] = ("", "")) -> Contender:
    """A contender that may do what its role says, and nothing else."""
    api = arena.cluster.api
    group = "rbac.authorization.k8s.io"
    token = arena.cluster.add_user(name)
    meta = {"name": name, "namespace": NAMESPACE}
    await api.create(
        "roles", {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": dict(meta), "rules": rules(arena.kind, without)}
    )
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": dict(meta),
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": name, "apiGroup": group}],
    }
    await api.create("rolebindings", binding)
    for_all = {"name": name}
    wide = rules(arena.kind, without, cluster_scoped=True)
    await api.create(
        "clusterroles", {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": dict(for_all), "rules": wide}
    )
    await api.create(
        "clusterrolebindings",
        {**binding, "kind": "ClusterRoleBinding", "metadata": for_all, "roleRef": {**binding["roleRef"], "kind": "ClusterRole"}},
    )
    return await arena.contender(name, token=token, pod=await arena.pod(f"pod-{name}") if pod else None)


async def test_documented_rights_are_enough(arena: Arena) -> None:
    first, second = await allowed(arena, "a", True), await allowed(arena, "b", True)
    first.start()
    await arena.writes(first)
    second.start()
    await eventually(lambda: "held by a" in second.why, f"{second.why}")
    if arena.kind == "configMap":
        found = arena.object()
        assert found is not None
        assert found["metadata"]["ownerReferences"][0]["name"] == "pod-a"
    await first.release()
    await arena.writes(second)


@pytest.mark.parametrize("verb", ["get", "create", "update"])
async def test_message_names_the_missing_right(arena: Arena, verb: str) -> None:
    resource = "leases" if arena.kind == "lease" else "configmaps"
    first = await allowed(arena, "a", False, (verb, resource))
    first.start()
    await eventually(
        lambda: verb in first.why and resource in first.why and "forbidden" in first.why.lower(), "the missing right is named"
    )
    assert not first.epochs


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_candidate_without_the_right_to_watch_polls(arena: Arena, verb: str) -> None:
    resource = "leases" if arena.kind == "lease" else "configmaps"
    first, second = await allowed(arena, "a", True), await allowed(arena, "b", True, (verb, resource))
    first.start()
    await arena.writes(first)
    second.start()
    await eventually(lambda: bool(second.why))
    await first.release()
    await arena.writes(second)


async def test_floor_needs_the_definition_that_deploy_brings_and_no_right_to_create_any(arena: Arena) -> None:
    first = await allowed(arena, "a", True)
    first.start()
    await arena.writes(first)
    with pytest.raises(LockProblem, match=r"epochs\.raycp\.io does not exist.*deploy/rbac/hub\.yaml"):
        await first.lock.keep_floor(first.mine)
    (shipped,) = [each for each in deployed() if each["kind"] == "CustomResourceDefinition"]
    assert shipped["spec"] == definition({})["spec"]
    await arena.cluster.api.create("customresourcedefinitions", shipped)
    await first.lock.keep_floor(first.mine)
    found = arena.cluster.api.get("customresourcedefinitions", "", "epochs.raycp.io")
    assert found is not None
    assert f'"epoch":{first.mine.epoch}' in found["metadata"]["annotations"][f"epoch.raycp.io/t.{NAMESPACE}"]


async def test_leader_without_the_right_to_the_floor_leads_and_says_so(arena: Arena) -> None:
    first = await allowed(arena, "a", True, ("get", "customresourcedefinitions"))
    first.start()
    await arena.writes(first)
    with pytest.raises(LockProblem, match=r"no right to get CustomResourceDefinition epochs\.raycp\.io"):
        await first.lock.keep_floor(first.mine)


def deployed() -> list[dict[str, Any]]:
    """The objects of ``deploy/rbac/hub.yaml``."""
    file = Path(__file__).parents[2] / "deploy" / "rbac" / "hub.yaml"
    return [each for each in yaml.safe_load_all(file.read_text()) if each]


async def test_lock_for_life_needs_the_right_to_get_pods() -> None:
    async with arena_of("configMap", rbac=True) as arena:
        first = await allowed(arena, "a", True, ("get", "pods"))
        first.start()
        await eventually(lambda: "get, list, watch pods" in first.why)
        await asyncio.sleep(0.1)
        assert arena.object() is None
