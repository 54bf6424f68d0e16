"""What user code and servers say in one key's acknowledgement harms no other key, and no slot."""

import asyncio
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import CLOCK, Stack, stack, until

from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Task
from raycp.classify import Known, Verdict
from raycp.kube.codec import decode_object
from raycp.metrics import HandoutMetrics
from raycp.sdk.backend import Answer, ApiRequest
from raycp.shard import events
from raycp.worker.backend import WorkerBackend


async def others_go_on(fleet: Stack, controller: str, names: list[str]) -> None:
    """These are reconciled, nothing but ``controller``'s keys is in work, and every slot comes back."""
    core = fleet.shard()
    await until(lambda: set(names) <= {name for _, _, name in samples.RAN}, 10.0)
    slots = fleet.doc.spec.workers.slots

    def free() -> bool:
        (seat,) = core.dispatcher.seats.values()
        return not len(core.ledger) and seat.credit == slots

    await until(free, 10.0, "every slot is free again")
    assert [key for _, key, _ in core.queue.running()] == []
    recovered = {where: counter.value for where, counter in HandoutMetrics(core.metrics).recovered.items()}
    assert not any(recovered.values()), f"no net was needed: {recovered}"


async def put_all(fleet: Stack, do: str) -> list[str]:
    """Hostile keys among others, so that they are acknowledged together."""
    names = [f"good-{number}" for number in range(12)]
    bad = [fleet.put("here", "wild", f"bad-{number}", do=do) for number in range(4)]
    await asyncio.gather(*bad, *(fleet.put("here", "tracked", name) for name in names))
    return names


async def test_an_error_with_a_lone_surrogate_is_its_keys_alone() -> None:
    async with stack(["wild", "tracked"]) as fleet:
        names = await put_all(fleet, "surrogate")
        key = RequestKey("wild", "here", "default", "bad-0")
        await until(lambda: (why := fleet.shard().queue.why(key)) is not None and "half of \ufffd a character" in why.error)
        await others_go_on(fleet, "wild", names)


async def test_a_reconciler_that_cancels_every_task_is_retried_like_its_victims() -> None:
    async with stack(["wild", "tracked"]) as fleet:
        names = await put_all(fleet, "cancel all")
        for number in range(4):
            await until(lambda: ("wild", "here", f"bad-{number}") in samples.RAN)  # noqa: B023
            await fleet.put("here", "wild", f"bad-{number}", do="")
        await others_go_on(fleet, "wild", names)


@pytest.mark.parametrize("version", [str(2**70), "opaque", ""])
async def test_a_create_that_is_answered_with_an_impossible_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    request = WorkerBackend.request

    async def lies(self: Any, task: Task, call: ApiRequest) -> Answer:
        answer = await request(self, task, call)
        if call.verb != "create":
            return answer
        body = msgspec.json.decode(answer.body)
        body["metadata"]["resourceVersion"] = version
        return Answer(answer.status, msgspec.json.encode(body), answer.path)

    monkeypatch.setattr(WorkerBackend, "request", lies)
    async with stack(["parent", "tracked"]) as fleet:
        names = [f"good-{number}" for number in range(12)]
        await fleet.put("here", "parent", "p")
        for name in names:
            await fleet.put("here", "tracked", name)
        await others_go_on(fleet, "parent", [*names, "p"])
        assert len(fleet.writes("here", "secrets", "create")) == 1
        await fleet.put("here", "parent", "p", again="1")
        await until(lambda: samples.CHILDREN.get(("here", "p")) == ["p-child"], 10.0, "its child is seen")


async def test_an_event_that_fails_costs_its_controller_only_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    judge = events.classify

    def classify(event: Event, known: Known) -> Verdict:
        if event.obj.meta.name == "bad" and not known.is_child:
            raise ZeroDivisionError("on purpose")
        return judge(event, known)

    monkeypatch.setattr(events, "classify", classify)
    async with stack(["parent", "tracked"]) as fleet:
        core = fleet.shard()
        changes = []
        for name in ("a", "bad", "c"):
            meta = {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1", "labels": {"app": "tracked"}}
            obj = decode_object(msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}))
            changes.append(Event(EventType.ADDED, Source.WATCH, None, obj, CLOCK.now()))
        core.dispatcher.paused = True
        with pytest.raises(ZeroDivisionError):  # the reflector says so in the cluster's status
            core.events.handle("here", GVK("", "v1", "ConfigMap"), changes)
        assert sorted(key.name for key in core.ledger.known_keys()) == ["a", "c"]
        assert "a change of v1/ConfigMap default/bad in cluster here is lost" in caplog.text
        core.dispatcher.paused = False
        core.dispatcher.dispatch_soon()
        await others_go_on(fleet, "parent", [])
