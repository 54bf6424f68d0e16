"""A state of the observer's in the hub: taken over, written, refused; which of two fleets writes."""

import asyncio
import base64
import types
from typing import Any

import pytest

from raycp.base.clock import VirtualClock
from raycp.kube import Unreachable
from raycp.leadership.records import Conflict, Record
from raycp.observer import hub_checkpoint
from raycp.observer.hub_checkpoint import CLOSED_WITHIN, CheckpointRecord, HubCheckpoint


class Hub:
    """The hub's records, and what its record of the leadership says."""

    def __init__(self) -> None:
        self.stored: dict[str, Record] = {}
        self.leads: Any = types.SimpleNamespace(home="blue")
        self.down = False
        self.writes = 0

    async def read(self, what: str) -> Record | None:
        if self.down:
            raise Unreachable("connection refused", sent=False)
        return self.stored.get(what)

    async def write(self, what: str, data: dict[str, str], over: Record | None) -> Record:
        if self.stored.get(what) != over:
            raise Conflict("was written by another client")
        self.writes += 1
        self.stored[what] = Record(data, str(self.writes), "uid")
        return self.stored[what]

    def put(self, content: bytes, **more: str) -> None:
        self.stored["history"] = Record({"state": base64.b64encode(content).decode(), **more}, "0", "uid")

    def content(self) -> bytes:
        return base64.b64decode(self.stored["history"].data["state"])


class State:
    """Counts on from what it is given."""

    def __init__(self) -> None:
        self.count = 0

    def checkpoint(self) -> bytes:
        self.count += 1
        return str(self.count).encode()

    def restore(self, saved: bytes) -> None:
        self.count = int(saved)


def plan() -> Any:
    spec = types.SimpleNamespace(state=types.SimpleNamespace(namespace="raycp-system"))
    fleet = types.SimpleNamespace(name="t", doc=types.SimpleNamespace(spec=spec))
    return types.SimpleNamespace(
        hub=types.SimpleNamespace(name="hub", connect=object()), fleet=fleet, following=None, home="blue", epoch=3
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()

    async def leadership(_: object) -> Any:
        return made.leads

    monkeypatch.setattr(hub_checkpoint, "Records", lambda *_: made)
    monkeypatch.setattr(hub_checkpoint, "read_leadership", leadership)
    return made


def keeper(clock: VirtualClock, state: State, *, anew: bool = True, leads: list[bool] | None = None) -> HubCheckpoint:
    async def client(_: str) -> Any:
        return None

    where = CheckpointRecord("history", "state", "history", anew)
    return HubCheckpoint(clock, client, state, where, plan, (leads if leads is not None else []).append)


async def test_it_goes_on_from_what_is_stored(hub: Hub) -> None:
    hub.put(b"41")
    found = keeper(VirtualClock(), State())
    await found.keep()
    assert (hub.content(), found.problem, found.restored) == (b"42", "", True)


async def test_what_is_refused_is_a_problem_once_and_written_over(hub: Hub) -> None:
    hub.put(b"damaged")
    found = keeper(VirtualClock(), State())
    await found.keep()
    assert found.problem.startswith("what was stored is refused, and it begins anew: invalid literal")
    assert hub.content() == b"1"
    await found.keep()
    assert found.problem == ""


@pytest.mark.parametrize("stored", ["no base64!", "é"])
async def test_what_is_no_base64_is_refused(hub: Hub, stored: str) -> None:
    hub.stored["history"] = Record({"state": stored}, "0", "uid")
    found = keeper(VirtualClock(), State())
    await found.keep()
    assert "begins anew" in found.problem
    assert hub.content() == b"1"


async def test_a_state_that_must_not_begin_anew_is_left_alone(hub: Hub) -> None:
    hub.put(b"damaged")
    found = keeper(VirtualClock(), State(), anew=False)
    for _ in range(2):
        await found.keep()
        assert "invalid literal" in found.problem
    assert hub.writes == 0


async def test_after_a_takeover_it_waits_for_the_last_checkpoint(hub: Hub) -> None:
    hub.put(b"41")
    clock = VirtualClock()
    found = keeper(clock, State())
    found.taken_over()
    await found.keep()
    assert (hub.writes, found.restored) == (0, False)
    hub.put(b"50", closed="true")
    await found.keep()
    assert hub.content() == b"51"
    late = keeper(clock, State())
    hub.put(b"60")
    late.taken_over()
    await clock.advance(CLOSED_WITHIN)
    await late.keep()
    assert hub.content() == b"61", "the other one died"


async def test_the_last_one_is_marked(hub: Hub) -> None:
    found = keeper(VirtualClock(), State())
    await found.keep()
    assert "closed" not in hub.stored["history"].data
    await found.close()
    assert hub.stored["history"].data["closed"] == "true"


async def test_only_the_fleet_that_leads_writes(hub: Hub) -> None:
    hub.leads = types.SimpleNamespace(home="green")
    leads: list[bool] = []
    found = keeper(VirtualClock(), State(), leads=leads)
    await found.keep()
    hub.leads.home = "blue"
    await found.keep()
    assert (leads, hub.writes) == ([False, True], 1)


async def test_what_is_stored_is_taken_over_once_and_the_last_one_is_marked_whoever_else_writes(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put(b"41", closed="true")
    read, state, restored = hub.read, State(), list[bytes]()

    async def slowly(what: str) -> Record | None:
        await asyncio.sleep(0)
        return await read(what)

    monkeypatch.setattr(hub, "read", slowly)
    monkeypatch.setattr(state, "restore", restored.append)
    found = keeper(VirtualClock(), state)
    await asyncio.gather(found.keep(), found.keep(), found.close())
    assert restored == [b"41"]
    assert hub.stored["history"].data["closed"] == "true"


async def test_what_another_has_written_is_written_over_next_time(hub: Hub) -> None:
    found = keeper(VirtualClock(), State())
    await found.keep()
    hub.put(b"7")
    await found.keep()
    assert hub.content() == b"7"
    await found.keep()
    assert hub.content() == b"3"


async def test_a_hub_that_answers_is_no_problem_though_the_last_checkpoint_is_still_waited_for(hub: Hub) -> None:
    hub.put(b"41")
    hub.down = True
    found = keeper(VirtualClock(), State())
    found.taken_over()
    await found.keep()
    assert "connection refused" in found.problem
    hub.down = False
    await found.keep()
    assert (found.problem, found.restored, hub.writes) == ("", False, 0)


async def test_a_hub_that_is_down_is_a_problem_until_it_answers(hub: Hub) -> None:
    hub.down = True
    found = keeper(VirtualClock(), State())
    await found.keep()
    assert "connection refused" in found.problem
    assert not found.restored
    hub.down = False
    await found.keep()
    assert (found.problem, hub.content()) == ("", b"1")
