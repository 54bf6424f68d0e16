"""A controller with credentials of its own in a cluster (``spec.controllers[].credentials``): its requests, and no others, are made
as that user; what is wrong with them concerns that controller alone (law 11).
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet_samples import OPEN, RAN
from inprocess import Stack, fleet_doc, fleet_of, stack, until

TOKEN = "token-of-the-author"


def kubeconfig(folder: Path, token: str = TOKEN) -> dict[str, Any]:
    """A reference to it. Its server leads nowhere: that of the cluster is used."""
    content = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    (folder / "author.yaml").write_text(yaml.safe_dump(content))
    return {"path": str(folder / "author.yaml"), "context": None}


@contextlib.asynccontextmanager
async def fleet(homes: dict[str, str], *controllers: dict[str, Any]) -> AsyncIterator[Stack]:
    async with stack([], homes, controllers=list(controllers)) as made:
        yield made


def users(made: Stack, cluster: str, child: str) -> set[str]:
    """Who has written that Secret."""
    return {write.user for write in made.writes(cluster, "secrets") if write.name == child}


async def test_only_that_controllers_requests_are_made_as_its_user(tmp_path: Path) -> None:
    own = {"use": "fleet_samples:parent", "credentials": {"here": kubeconfig(tmp_path)}}
    async with fleet({"here": "0"}, own, {"use": "fleet_samples:writer"}) as made:
        made.clusters["here"].add_user("author", token=TOKEN)
        OPEN["b"] = True
        await made.put("here", "parent", "a")
        await made.put("here", "writer", "b")
        await until(lambda: users(made, "here", "a-child") and users(made, "here", "b-child"))
        assert users(made, "here", "a-child") == {"author"}
        assert users(made, "here", "b-child") == {"kubernetes-admin"}


async def test_a_controller_of_the_hub_has_its_own_credentials_in_the_members_that_are_named(tmp_path: Path) -> None:
    own = {"use": "fleet_samples:remote", "credentials": {"east": kubeconfig(tmp_path)}}
    async with fleet({"hub": "0", "east": "1", "west": "1"}, own) as made:
        made.clusters["east"].add_user("author", token=TOKEN)
        await made.put("hub", "remote", "a")
        await until(lambda: users(made, "east", "a-child") and users(made, "west", "a-child"))
        assert users(made, "east", "a-child") == {"author"}
        assert users(made, "west", "a-child") == {"kubernetes-admin"}


@pytest.mark.parametrize("where", ["the key's cluster", "another shard's"])
@pytest.mark.parametrize("fault", ["refused", "revoked", "missing"])
async def test_credentials_that_do_not_work_leave_the_cluster_and_other_controllers_alone(
    fault: str, where: str, tmp_path: Path
) -> None:
    reference = kubeconfig(tmp_path)
    if fault == "missing":
        (tmp_path / "author.yaml").unlink()
    here = where == "the key's cluster"
    app, cluster, homes = ("parent", "here", {"here": "0"}) if here else ("remote", "east", {"hub": "0", "east": "1"})
    own = {"use": f"fleet_samples:{app}", "credentials": {cluster: reference}, "retry": {"min": 0.02, "max": 0.2}}
    async with fleet(homes, own, {"use": "fleet_samples:writer"}) as made:
        hub = next(iter(homes))
        if fault == "revoked":
            made.clusters[cluster].add_user("author", token=TOKEN)
            await made.put(hub, app, "before")
            await until(lambda: users(made, cluster, "before-child"))
            made.clusters[cluster].auth.revoke(TOKEN)
        RAN.clear()
        for number in range(3):
            await made.put(hub, app, f"a{number}")
        breaker = made.shard(homes[cluster]).guard.breaker(cluster)
        assert breaker is not None
        seen: set[bool] = set()

        def tried_again_and_again() -> bool:
            seen.add(breaker.untroubled)
            return sum(ran[0] == app for ran in RAN) >= 12

        await until(tried_again_and_again)
        assert seen == {True}
        OPEN["b"] = True
        await made.put(cluster, "writer", "b")
        await until(lambda: users(made, cluster, "b-child"))
        made.clusters[cluster].add_user("author", token=TOKEN)
        kubeconfig(tmp_path)
        await until(lambda: users(made, cluster, "a2-child") == {"author"}, what="the credentials are there now")


async def test_other_credentials_in_the_fleet_file_are_tried_at_once_by_keys_that_fail(tmp_path: Path) -> None:
    def controller(reference: dict[str, Any]) -> dict[str, Any]:
        return {"use": "fleet_samples:parent", "credentials": {"here": reference}, "retry": {"min": 200.0, "max": 300.0}}

    async with fleet({"here": "0"}, controller({"path": str(tmp_path / "none")})) as made:
        made.clusters["here"].add_user("author", token=TOKEN)
        await made.put("here", "parent", "a")
        await until(lambda: RAN)
        await until(lambda: not made.shard().ledger.working)
        made.fleet = fleet_of(fleet_doc(["here"], [], controllers=[controller(kubeconfig(tmp_path))]))
        await made.configure()
        await until(lambda: users(made, "here", "a-child") == {"author"})
