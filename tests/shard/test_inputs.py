"""Law 13: each input of a decision wakes it. One test changes them all; ``raycp.classify.inputs`` declares them."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import Stack, fleet_doc, fleet_of, holds, stack, until

from raycp.classify.inputs import NO_INPUT, REASONS, Input
from raycp.classify.verdict import Reason
from raycp.config.embedded import FaultSpec
from raycp.protocol.plan import Fleet

HOMES = {"hub": "0", "near": "0", "far": "1"}
NAME = "r"
BYSTANDER = "other"
Change = Callable[[Stack], Awaitable[None]]


def ran() -> Counter[str]:
    return Counter(name for *_, name in samples.RAN)


def read(name: str = NAME, cluster: str = "hub") -> dict[str, Any]:
    return samples.READ.get((cluster, name), {})


def obj(kind: str, name: str, *, labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default", "labels": labels or {}}, **fields}


async def patch(fleet: Stack, resource: str, name: str, change: dict[str, Any], cluster: str = "hub") -> None:
    await fleet.clusters[cluster].api.patch_merge(resource, "default", name, msgspec.json.encode(change))


async def child(fleet: Stack, owner: str, name: str) -> None:
    uid = fleet.clusters["hub"].api.get("configmaps", "default", owner)["metadata"]["uid"]  # type: ignore[index]
    made = obj("Secret", name)
    made["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid}]
    await fleet.clusters["hub"].api.create("secrets", made)


def silence(fleet: Stack, cluster: str) -> None:
    """End its watches, and forbid watching and listing."""
    for fault in ({"kind": "error", "status": 503, "verbs": ["watch", "list"]}, {"kind": "closeWatch", "for": "100ms"}):
        fleet.clusters[cluster].faults.add(FaultSpec.model_validate(fault))


async def apply(fleet: Stack, change: Callable[[Fleet], Fleet] = lambda fleet: fleet, **fields: Any) -> None:
    """Apply the fleet file with other fields of its clusters, and ``change`` of what the driver made of it."""
    doc = fleet_doc(fleet.homes, ["fleet_samples:reader"], fields=fields)
    fleet.doc = doc
    fleet.fleet = change(msgspec.structs.replace(fleet_of(doc), sequence=fleet.fleet.sequence + 1))
    await fleet.configure()


def with_controller(**fields: Any) -> Callable[[Fleet], Fleet]:
    def change(fleet: Fleet) -> Fleet:
        (controller,) = fleet.controllers
        return msgspec.structs.replace(fleet, controllers=(msgspec.structs.replace(controller, **fields),))

    return change


# what each change needs before it, and how it is made


async def _object(fleet: Stack) -> None:
    await fleet.put("hub", "reader", NAME, more="1")


async def _own_deletion(fleet: Stack) -> None:
    await patch(fleet, "configmaps", NAME, {"metadata": {"finalizers": ["example.com/held"]}, "data": {"do": "delete"}})
    await until(lambda: read().get("deleting"), 10.0, "the reconcile that deletes its object is followed by one that sees that")
    await until(lambda: fleet.clusters["hub"].api.get("configmaps", "default", NAME) is None)


async def _child(fleet: Stack) -> None:
    await child(fleet, NAME, "c")
    await until(lambda: read()["children"] == ["c"])


async def _watched_by_field(fleet: Stack) -> None:
    await patch(fleet, "serviceaccounts", "robot", {"secrets": [{"name": "new"}]})
    await until(lambda: read()["account"] == [{"name": "new"}])


async def _watched_by_function(fleet: Stack) -> None:
    await fleet.clusters["hub"].api.create("services", obj("Service", "s", labels={"for": NAME}, spec={"ports": [{"port": 1}]}))


async def _lost(fleet: Stack) -> None:
    silence(fleet, read()["data"]["place"])
    await until(lambda: not read()["reachable"][read()["data"]["place"]], 20.0)


async def _left(fleet: Stack) -> None:
    del fleet.homes["far"]
    await apply(fleet)
    await until(lambda: "far" not in read()["reachable"])


async def _labelled(fleet: Stack) -> None:
    await apply(fleet, **{read()["data"]["place"]: {"labels": {"tier": "gold"}}})
    await until(lambda: read()["labels"][read()["data"]["place"]].get("tier") == "gold")


async def _config(fleet: Stack) -> None:
    await apply(fleet, with_controller(config='{"mode": "new"}'))
    await until(lambda: read()["config"] == {"mode": "new"})


async def _code(fleet: Stack) -> None:
    await patch(fleet, "configmaps", NAME, {"data": {"do": "give up"}})
    await until(lambda: read()["data"].get("do") == "give up")
    await holds(lambda: ran()[NAME] == 2, 0.2, "it has given up")
    await fleet.new_worker()
    await apply(fleet, with_controller(code="new"))


async def _time(fleet: Stack) -> None:
    await patch(fleet, "configmaps", NAME, {"data": {"do": "poll"}})
    await until(lambda: ran()[NAME] >= 4)


CHANGES: dict[Input, list[tuple[Change, str]]] = {
    Input.OBJECT: [(_object, "")],
    Input.DELETION: [(_own_deletion, "")],
    Input.CHILD: [(_child, "")],
    Input.WATCHED: [(_watched_by_field, ""), (_watched_by_function, "")],
    Input.REACHABILITY: [(_lost, "near"), (_lost, "far")],
    Input.FLEET: [(_config, ""), (_left, "far"), (_labelled, "near"), (_labelled, "far")],
    Input.CODE: [(_code, "")],
    Input.TIME: [(_time, "")],
}
"""How each input is changed, and the cluster that the object names."""

ROWS = [pytest.param(each, change, cluster, id=f"{each}{change.__name__}-{cluster}")
        for each, rows in CHANGES.items() for change, cluster in rows]  # fmt: skip


def test_each_input_has_a_change_here_and_reasons() -> None:
    assert set(CHANGES) == set(Input) == set(REASONS)
    named = frozenset[Reason]().union(*REASONS.values())
    assert named | NO_INPUT == set(Reason)
    assert not named & NO_INPUT


@pytest.mark.parametrize(("changed", "change", "cluster"), ROWS)
async def test_a_change_of_an_input_is_followed_by_a_reconcile(
    changed: Input, change: Change, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by none of a key that does not depend on it, unless it is an input of all."""
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    async with stack(["reader"], homes=dict(HOMES)) as fleet:
        await fleet.lists_reported()
        hub = fleet.clusters["hub"].api
        for name in ("robot", "unused"):
            await hub.create("serviceaccounts", obj("ServiceAccount", name))
        data = {"account": "robot"} | ({"place": cluster} if cluster else {})
        await fleet.put("hub", "reader", NAME, **data)
        await fleet.put("hub", "reader", BYSTANDER, account="unused")
        await until(lambda: ran()[NAME] == ran()[BYSTANDER] == 1 and read() and read(BYSTANDER))
        await change(fleet)
        await until(lambda: ran()[NAME] >= 2, 10.0, f"a change of {changed} is followed by a reconcile")
        known = set(Reason) if changed is Input.DELETION else REASONS[changed] | {Reason.UPDATE}
        await until(lambda: read()["reason"] in known, what="its reason is one of that input's")
        if change is not _config:
            assert ran()[BYSTANDER] == 1, "it does not depend on that"
        assert not samples.OVERLAPS
