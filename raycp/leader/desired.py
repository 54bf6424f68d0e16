"""The wanted members: a pure function of the fleet."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raycp.config import TIERS
from raycp.protocol.members import OBSERVER_SLOT, Role, Slot
from raycp.protocol.plan import Fleet, Plan


@dataclass(frozen=True)
class Wanted:
    """A member that should live.

    ``options`` are Ray actor options; ``fingerprint`` changes when a living member has to be replaced: a new plan is not enough.
    """

    role: Role
    place: str
    options: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def slot(self) -> Slot:
        """Where it belongs."""
        return Slot(self.role, self.place)


def assign_shards(clusters: list[str], per_shard: int, before: dict[str, str]) -> dict[str, str]:
    """Cluster -> shard id, at most ``per_shard`` clusters each; a cluster keeps its shard, new ones fill the emptiest."""
    shards: dict[str, list[str]] = {}
    for cluster in clusters:
        shard = before.get(cluster)
        if shard is not None and len(shards.setdefault(shard, [])) < per_shard:
            shards[shard].append(cluster)
    placed = {cluster: shard for shard, members in shards.items() for cluster in members}
    wanted = max(1, -(-len(clusters) // per_shard))
    free = (str(number) for number in range(len(clusters) + 1) if str(number) not in shards)
    while len(shards) < wanted:
        shards[next(free)] = []
    for cluster in clusters:
        if cluster not in placed:
            shard = min(shards, key=lambda name: (len(shards[name]), int(name)))
            shards[shard].append(cluster)
            placed[cluster] = shard
    return placed


class WantedMembers:
    """The last result of ``wanted_members``: it is needed every second and changes with its arguments only."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._found: dict[Slot, Wanted] = {}

    def of(
        self,
        fleet: Fleet,
        shards: set[str],
        pools: dict[str, int],
        needy: frozenset[str] = frozenset(),
        suspicious: frozenset[str] = frozenset(),
    ) -> dict[Slot, Wanted]:
        """See ``wanted_members``; ``Fleet.generation`` names all of a fleet's content."""
        key = (fleet.generation, frozenset(shards), tuple(sorted(pools.items())), needy, suspicious)
        if key != self._key:
            self._found = wanted_members(fleet, shards, pools, needy, suspicious)
            self._key = key
        return dict(self._found)


def wanted_members(
    fleet: Fleet,
    shards: set[str],
    pools: dict[str, int],
    needy: frozenset[str] = frozenset(),
    suspicious: frozenset[str] = frozenset(),
) -> dict[Slot, Wanted]:
    """All members but the leader. ``pools`` is the number of workers per tier that autoscaling has decided on; ``needy`` are
    shards that need a standby even if the fleet wants none: their primaries have to leave their nodes. ``suspicious`` are shards
    with a quarantine worker, which reserves no CPU: it must start where the pools have taken all."""
    doc = fleet.doc
    runtime: dict[str, Any] = json.loads(fleet.runtime)
    env = doc.spec.ray.env
    found: dict[Slot, Wanted] = {}

    def add(slot: Slot, fingerprint: Any, **options: Any) -> None:
        text = json.dumps(fingerprint, sort_keys=True, default=str)
        found[slot] = Wanted(*slot, options, hashlib.sha256(text.encode()).hexdigest()[:12])

    def environment(extra: dict[str, Any]) -> dict[str, Any]:
        merged = {**extra, "env_vars": {**env, **extra.get("env_vars", {})}}
        return {key: value for key, value in merged.items() if value}

    for cluster in doc.spec.clusters:
        if cluster.embedded is not None:
            spec = cluster.embedded.model_dump(mode="json")
            add(Slot.of_embedded(cluster.name), [spec, env], num_cpus=0, runtime_env=environment({}))
    for shard in sorted(shards):
        options: dict[str, Any] = {"num_cpus": 0, "runtime_env": environment({})}
        if doc.spec.shards.node_labels:
            options["label_selector"] = dict(doc.spec.shards.node_labels)
        add(Slot.of_shard(shard), [env], **options)
        for number in range(max(doc.spec.shards.standby, shard in needy)):
            add(Slot.of_standby(shard, number), [env], **options)
    modules = sorted({(plan.use, plan.code) for plan in fleet.controllers})
    settings = [env, runtime, modules, doc.spec.workers.model_dump(mode="json")]

    def add_worker(slot: Slot, cpus: float) -> None:
        options: dict[str, Any] = {"num_cpus": cpus, "runtime_env": environment(runtime)}
        if doc.spec.workers.node_labels:
            options["label_selector"] = dict(doc.spec.workers.node_labels)
        add(slot, settings, **options)

    for tier in TIERS:
        for number in range(pools.get(tier, doc.spec.tiers.of(tier).workers.min)):
            add_worker(Slot.of_worker(tier, number), doc.spec.workers.cpus)
    for shard in sorted(suspicious & shards):
        add_worker(Slot.of_quarantine(shard), 0)
    options = {"num_cpus": 0, "runtime_env": environment({})}
    if doc.spec.shards.node_labels:  # it stores checkpoints in the hub, so it needs the shards' credentials
        options["label_selector"] = dict(doc.spec.shards.node_labels)
    add(OBSERVER_SLOT, [env, doc.spec.observer.model_dump(mode="json")], **options)
    return found


def standby_members(plan: Plan, wanted: Mapping[Slot, Wanted]) -> dict[Slot, Wanted]:
    """The members of a standby fleet: of all that it will need, one standby for each shard that it follows, workers, observer."""
    followed = {shard.shard for shard in plan.shards}
    found = {slot: want for slot, want in wanted.items() if slot.role in (Role.WORKER, Role.OBSERVER)}
    for slot, want in wanted.items():
        if slot.role is Role.SHARD and slot.shard in followed:
            standby = Slot.of_standby(slot.shard, 0)
            found[standby] = Wanted(*standby, want.options, want.fingerprint)
    return found
