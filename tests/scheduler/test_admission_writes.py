"""A decision is written until it is certain what became of it."""

from typing import Any

import msgspec
import pytest

from raycp.base.objects import Obj
from raycp.kube.codec import decode_object
from raycp.kube.errors import ApiError, Fenced, KubeError, Unreachable
from raycp.scheduler.jobs import ScheduledJob, read_record, written_record
from raycp.scheduler.writes import AdmissionWriter, WriteResult
from raycp.scheduling.admissions import AdmissionRecord

ADMITTED = AdmissionRecord("Admitted", "batch", "default", {"east": 2}, {}, 5, 1_700_000_000.0, 1)


class NoWaiting:
    """A clock on which waits are over at once."""

    def now(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        assert seconds <= 2.0


class Hub:
    """One job. ``answers``: what a write meets, in order: an error, or ``lost``: it is done and its answer lost."""

    def __init__(self, *answers: Any, **spec: Any) -> None:
        self.job: dict[str, Any] | None = {
            "apiVersion": "batch.raycp.io/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": "j", "namespace": "default", "uid": "u", "resourceVersion": "1"},
            "spec": {"template": {"spec": {}}, **spec},
        }
        self.answers = list(answers)
        self.writes = 0
        self.first = self.obj()

    def obj(self) -> Obj:
        return decode_object(msgspec.json.encode(self.job))

    def cached(self, namespace: str, name: str) -> Obj | None:
        return self.first

    async def read(self, namespace: str, name: str) -> Obj | None:
        return self.obj() if self.job is not None else None

    def change(self, **status: Any) -> None:
        assert self.job is not None
        self.job["status"] = {**(self.job.get("status") or {}), **status}
        self.job["metadata"]["resourceVersion"] = str(int(self.job["metadata"]["resourceVersion"]) + 1)

    async def patch_status(self, namespace: str, name: str, body: bytes) -> Obj:
        self.writes += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, KubeError):
            raise answer
        if callable(answer):
            answer()
        if self.job is None:
            raise ApiError(404, "NotFound", "gone")
        patch = msgspec.json.decode(body)
        if patch["metadata"]["resourceVersion"] != self.job["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "changed meanwhile")
        self.change(admission=patch["status"]["admission"])
        if answer == "lost":
            raise Unreachable("the connection broke", sent=True)
        return self.obj()


async def write(hub: Hub, record: AdmissionRecord = ADMITTED, **how: Any) -> tuple[WriteResult, Obj | None]:
    return await AdmissionWriter(hub, NoWaiting()).write(hub.first, record, **how)  # type: ignore[arg-type]


async def test_a_record_survives_its_way_through_the_status() -> None:
    hub = Hub()
    outcome, newest = await write(hub)
    assert outcome is WriteResult.YES
    assert newest is not None
    assert ScheduledJob(newest).record == ADMITTED
    assert read_record(written_record(AdmissionRecord("Pending", not_before=10.2))) == AdmissionRecord("Pending", not_before=11.0)
    assert read_record({"state": "Perhaps"}) is None


async def test_a_write_whose_answer_is_lost_is_found_and_not_repeated() -> None:
    hub = Hub("lost")
    outcome, _ = await write(hub)
    assert (outcome, hub.writes) == (WriteResult.YES, 1)


@pytest.mark.parametrize("failure", [Unreachable("refused", sent=False), ApiError(500, "", "etcd"), ApiError(429, "", "")])
async def test_it_is_repeated_while_its_outcome_is_not_known(failure: KubeError) -> None:
    hub = Hub(failure, failure, failure)
    outcome, _ = await write(hub)
    assert (outcome, hub.writes) == (WriteResult.YES, 4)


async def test_after_a_conflict_the_decision_is_applied_to_the_newer_job() -> None:
    hub = Hub()
    hub.change(active=0)
    outcome, newest = await write(hub)
    assert (outcome, hub.writes) == (WriteResult.YES, 2)
    assert newest is not None
    assert newest.rv == 3


async def test_a_job_that_was_suspended_or_has_ended_meanwhile_is_not_admitted() -> None:
    hub = Hub()
    hub.change(conditions=[{"type": "Failed", "status": "True"}])
    assert (await write(hub))[0] is WriteResult.CHANGED
    suspended = Hub(suspend=True)
    assert ((await write(suspended))[0], suspended.writes) == (WriteResult.CHANGED, 0)
    evicted = AdmissionRecord("Evicting", "batch", clusters={"east": 2})
    assert (await write(suspended, evicted))[0] is WriteResult.YES, "but it can be preempted"


async def test_what_the_server_refuses_is_not_tried_for_ever() -> None:
    hub = Hub(ApiError(422, "Invalid", "status.admission"))
    assert ((await write(hub))[0], hub.writes) == (WriteResult.REFUSED, 1)


async def test_a_deleted_job_is_gone() -> None:
    hub = Hub()

    def delete() -> None:
        hub.job = None

    hub.answers = [delete]
    assert (await write(hub))[0] is WriteResult.GONE


async def test_without_a_permit_nothing_is_written() -> None:
    with pytest.raises(Fenced):
        await write(Hub(Fenced("the permit has ended")))


async def test_an_explanation_is_not_worth_a_second_try() -> None:
    hub = Hub(Unreachable("refused", sent=False))
    outcome, _ = await write(hub, AdmissionRecord("Pending", reason="NoRoom"), insist=False)
    assert (outcome, hub.writes) == (WriteResult.FAILED, 1)
    changed = Hub()
    changed.change(active=0)
    outcome, _ = await write(changed, AdmissionRecord("Pending", reason="NoRoom"), insist=False)
    assert (outcome, changed.writes) == (WriteResult.CHANGED, 1)
