"""The leader's roster: what is known of each member. It alone changes that, and decides nothing."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.recent_names import RecentNames
from raycp.kube import ConnectSpec
from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.members import Member, MemberState, Role, Slot
from raycp.protocol.report import Report

EXCUSED = 64
"""Names of workers that are kept whose deaths accuse no key."""


class Roster:
    """One per leader. Readers get live views, which they must not change."""

    def __init__(self, clock: Clock, recorder: FlightRecorder | None = None) -> None:
        self._clock = clock
        self._recorder = recorder or FlightRecorder(clock)
        self._members: dict[Slot, MemberState] = {}
        self._leaving: list[MemberState] = []
        self._ending: set[Member] = set()
        self._generations: dict[Slot, int] = {}
        self._endpoints: dict[str, ConnectSpec] = {}
        self._reported: dict[str, Member] = {}
        """The members that reported them; an endpoint from another leader's plan may be a predecessor's."""
        self._problems: dict[Slot, str] = {}
        self._excused = RecentNames(size=EXCUSED)

    @property
    def members(self) -> Mapping[Slot, MemberState]:
        """The member of each slot."""
        return self._members

    @property
    def leaving(self) -> Sequence[MemberState]:
        """Workers and standbys whose slot is free for a successor. They receive plans until they end: a worker may have keys in
        flight, a standby may still be promoted."""
        return self._leaving

    @property
    def all(self) -> list[MemberState]:
        """Members with a slot, then leaving ones."""
        return [*self._members.values(), *self._leaving]

    @property
    def ending(self) -> AbstractSet[Member]:
        """Members that are being drained or killed."""
        return self._ending

    @property
    def excused(self) -> tuple[str, ...]:
        """See ``Plan.excused``; the newest."""
        return tuple(self._excused)

    @property
    def endpoints(self) -> Mapping[str, ConnectSpec]:
        """How to reach the embedded clusters that are up, by name."""
        return self._endpoints

    @property
    def problems(self) -> Mapping[Slot, str]:
        """Members that could not be created."""
        return self._problems

    def primary_of(self, shard: str) -> MemberState | None:
        """The shard's primary."""
        return self._members.get(Slot.of_shard(shard))

    def standbys_of(self, shard: str) -> list[MemberState]:
        """All standbys of the shard: those with a slot first, in the order of their numbers, then leaving ones."""
        slots = [*sorted(self._members.items()), *((state.member.slot, state) for state in self._leaving)]
        return [state for slot, state in slots if slot.role is Role.STANDBY and slot.shard == shard]

    def standby_of(self, shard: str, avoided: Collection[str] = ()) -> MemberState | None:
        """A warm standby of the shard; on one of the nodes ``avoided`` only where there is no other."""
        warm = (state for state in self.standbys_of(shard) if state.warm and state.member not in self._ending)
        return min(warm, key=lambda state: state.node in avoided, default=None)

    def where(self) -> dict[Slot, str]:
        """Slot -> Ray node, of members whose node is known; for a new member the node that was requested."""
        return {slot: state.node for slot, state in self._members.items() if state.node}

    def generation_of(self, slot: Slot) -> int:
        """The newest generation of that slot, -1 for none."""
        return self._generations.get(slot, -1)

    # generations: never used twice

    def used(self, member: Member) -> None:
        """The generation of ``member`` is in use, or was."""
        self._generations[member.slot] = max(member.generation, self.generation_of(member.slot))

    def next_member(self, slot: Slot, floor: int) -> Member:
        """A member of the slot's next generation, at least ``floor``."""
        member = Member(*slot, max(self.generation_of(slot) + 1, floor))
        self.used(member)
        return member

    # members come and go

    def adopted(self, member: Member, slot: Slot, fingerprint: str = "", spot: str = "") -> MemberState:
        """``member`` lives and has ``slot``. ``fingerprint``: of what it was created for; ``spot``: the node that was requested."""
        state = MemberState(member, self._clock.now())
        state.fingerprint, state.spot = fingerprint, spot
        self._members[slot] = state
        self.used(member)
        self._note("adopted", member, slot=str(slot), spot=spot)
        return state

    def _note(self, what: str, member: Member, **facts: Any) -> None:
        self._recorder.note(what, urgent=True, member=member.actor_name, **facts)

    def absent(self, member: Member, slot: Slot, host: str, port: int) -> MemberState:
        """The plan names ``member`` and Ray does not know it. It keeps its place until it is dead for certain."""
        self._note("absent", member, slot=str(slot))
        state = MemberState(member)
        state.report = msgspec.structs.replace(state.report, host=host, port=port)
        if member.role is Role.WORKER:
            self._leaving.append(state)
        else:
            self._members[slot] = state
        return state

    def promoted(self, state: MemberState, shard: str) -> None:
        """``state`` is the primary of ``shard`` from now on."""
        self._note("promoted", state.member, shard=shard)
        self._drop(state)
        self._members[Slot.of_shard(shard)] = state

    def vacated(self, state: MemberState) -> None:
        """The slot of a worker or standby is free for its successor; the member goes on."""
        self._note("vacated", state.member)
        self._drop(state)
        self._leaving.append(state)
        self.excuse(state.member)

    def excuse(self, member: Member) -> None:
        """The death of ``member``, past or to come, has another cause than its work."""
        if member.role is Role.WORKER:
            self._excused.add(member.actor_name)

    def removed(self, state: MemberState) -> Slot | None:
        """The member is not supervised any more; the slot that it had. An embedded cluster's endpoint goes with its member: the
        next one has another."""
        self._note("removed", state.member, problem=state.problem)
        return self._drop(state)

    def _drop(self, state: MemberState) -> Slot | None:
        if state in self._leaving:
            self._leaving.remove(state)
        if state.member.role is Role.EMBEDDED:
            self._endpoints.pop(state.member.place, None)
            self._reported.pop(state.member.place, None)
        for slot, known in self._members.items():
            if known is state:
                del self._members[slot]
                return slot
        return None

    def cleared(self) -> list[MemberState]:
        """All members are to end; the members."""
        states = self.all
        self._members.clear()
        self._leaving.clear()
        return states

    def ending_started(self, member: Member) -> None:
        """``member`` is being drained or killed."""
        if member not in self._ending:
            self._note("ending", member)
        self._ending.add(member)

    def ended(self, member: Member) -> bool:
        """``member`` was killed; whether it was leaving."""
        self._note("ended", member)
        self._ending.discard(member)
        found = [state for state in self._leaving if state.member == member]
        for state in found:
            self._leaving.remove(state)
        return bool(found)

    def creation_failed(self, slot: Slot, why: str) -> None:
        """No member could be created for that slot."""
        if self._problems.get(slot) != why:
            self._recorder.note("not_created", urgent=True, slot=str(slot), problem=why)
        self._problems[slot] = why

    def created(self, slot: Slot) -> None:
        """A member was created for that slot."""
        self._problems.pop(slot, None)

    def wanted(self, slots: Collection[Slot]) -> None:
        """What could not be created and is no longer wanted is no problem."""
        self._problems = {slot: why for slot, why in self._problems.items() if slot in slots}

    # what a member says

    def reported(self, state: MemberState, report: Report) -> bool:
        """The member sent a report. Whether the leader has to act on it: counters alone (lanes, objects) are no reason."""
        state.report, state.problem = report, ""
        relevant = (report.host, report.port, report.ready, report.state, report.plan, report.extra, report.quarantine)
        changed = relevant != state.handled or bool(report.dead)
        state.handled = relevant
        return changed

    def failed(self, state: MemberState, problem: str) -> None:
        """The member did not answer, or with an error."""
        state.problem = problem

    def configured(self, state: MemberState, version: int) -> None:
        """The member runs the plan of that version."""
        state.configured, state.refusal = version, ""

    def configure_failed(self, state: MemberState, problem: str) -> None:
        """The member did not accept the plan."""
        if state.refusal != f"configure: {problem}":
            self._note("refused_plan", state.member, problem=problem)
        state.refusal = f"configure: {problem}"

    def matched(self, state: MemberState, fingerprint: str) -> None:
        """A member that this leader did not create counts as created for what is wanted now."""
        state.fingerprint = state.fingerprint or fingerprint

    def settled(self, state: MemberState) -> None:
        """The member lives on another node than the requested one, and stays there."""
        state.spot = state.report.node_id

    # embedded clusters

    def endpoint_known(self, member: Member) -> bool:
        """Whether this member itself has reported its embedded cluster's endpoint."""
        return self._reported.get(member.place) == member

    def endpoint_found(self, member: Member, endpoint: ConnectSpec) -> None:
        """The embedded cluster of ``member`` is up."""
        self._endpoints[member.place] = endpoint
        self._reported[member.place] = member

    def endpoints_restored(self, endpoints: Mapping[str, ConnectSpec]) -> None:
        """The embedded clusters as the last plan of another leader had them."""
        self._endpoints = dict(endpoints)
