"""Reads from the clusters of a fleet what raycp has left there.

Whose a finalizer is, ``managedFields`` say: a controller writes as manager ``raycp-NAME`` (API doc, "Server-Side Apply": ownership
of set items is tracked one by one). Whose a child is, its mark says, made with the keys that the hub keeps; in the owner's own
cluster and namespace its owner reference.
"""

import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.base.objects import Meta
from raycp.base.owner_marks import ClaimProof, MarkKeys, next_keys
from raycp.config.clusters import ClusterSpec
from raycp.driver.removal.findings import ClusterFindings, FloorMark, HeldObject, LeftDefinition, LeftObject
from raycp.kube import ApiError, ClusterClient, NoSuchKind, decode_answer
from raycp.kube.pages import each_page
from raycp.leader.fleet_record import RECORD as FLEET_RECORD
from raycp.leadership.epoch import read_leadership
from raycp.leadership.locks import LockProblem, lock_of_kind, make_lock
from raycp.leadership.locks.floor import COLLECTION as CRDS
from raycp.leadership.locks.floor import CRD as FLOOR
from raycp.leadership.locks.floor import PREFIX, annotation
from raycp.leadership.mark_secret import MarkSecret
from raycp.leadership.records import Records
from raycp.protocol.plan import ControllerPlan, Fleet
from raycp.sdk.owner import proof_of

PAGE = 500
"""Objects of one page of a list."""


class RemovalRefused(Exception):
    """Nothing may be removed now; the message says why and what to do."""


class _Manager(msgspec.Struct, rename="camel"):
    manager: str = ""
    fields_v1: dict[str, Any] | None = msgspec.field(default=None, name="fieldsV1")


class _HeldMeta(Meta):
    managed_fields: list[_Manager] | None = None


class _Held(msgspec.Struct):
    metadata: _HeldMeta


class _HeldList(msgspec.Struct):
    items: list[_Held]


class _Single(msgspec.Struct):
    metadata: Meta


class _RunningController(msgspec.Struct):
    name: str


class _RunningFleet(msgspec.Struct):
    controllers: list[_RunningController] = []


@dataclass(frozen=True)
class RemovalScope:
    """What is to go: the controller of that name, or with an empty name all of the fleet file."""

    fleet: Fleet
    controller: str = ""

    @property
    def going(self) -> list[ControllerPlan]:
        """The controllers to be removed."""
        return [each for each in self.fleet.controllers if self.controller in ("", each.name)]

    @property
    def staying(self) -> list[ControllerPlan]:
        """The others."""
        return [each for each in self.fleet.controllers if self.controller not in ("", each.name)]


def finalizers_of(meta: "_HeldMeta", managers: Collection[str]) -> tuple[str, ...]:
    """The finalizers that one of ``managers`` has put on the object."""
    owned = {
        key
        for entry in meta.managed_fields or ()
        if entry.manager in managers
        for key in ((entry.fields_v1 or {}).get("f:metadata") or {}).get("f:finalizers") or ()
    }
    return tuple(name for name in meta.finalizers or () if f"v:{json.dumps(name)}" in owned)


async def survey_hub(scope: RemovalScope, client: ClusterClient, clock: Clock) -> tuple[ClusterFindings, MarkKeys | None]:
    """The hub: what every cluster has, the fleet's own objects, and the keys by which its children are told.

    Raises ``RemovalRefused`` while the fleet runs, or runs a controller that is to go; ``KubeError`` where the hub does not say.
    """
    fleet, doc = scope.fleet, scope.fleet.doc
    namespace = doc.spec.state.namespace
    secret = MarkSecret(client, fleet.name, namespace)
    leases = await check_idle(scope, client, clock)
    kept = await secret.read()
    keys = next_keys(None, kept.keys, kept.unmarked_before) if kept is not None else None
    found = await survey(scope, doc.hub, client, keys)
    lock = doc.spec.leader.lock.config_map
    namespaces = dict.fromkeys([namespace, lock.namespace or namespace] if lock is not None else [namespace])
    stored = [each for name in namespaces for each in await _config_maps(client, fleet.name, name)]
    stored += leases
    path = f"/api/v1/namespaces/{namespace}/secrets/{secret.name}"
    stored_keys = await _stored(client, path, secret.where) if kept is not None else None
    return replace(found, records=tuple(stored), keys=stored_keys, floor=await _floor(client, fleet.name, namespace)), keys


async def check_idle(scope: RemovalScope, client: ClusterClient, clock: Clock) -> list[LeftObject]:
    """The fleet's locks in the hub that are Leases. Raises as ``survey_hub``."""
    records = Records(client, scope.fleet.name, scope.fleet.doc.spec.state.namespace)
    holder, leases = await _holder(scope, client, records, clock)
    if holder:
        await _check_running(scope, records, holder)
    return leases


async def survey(scope: RemovalScope, cluster: ClusterSpec, client: ClusterClient, keys: MarkKeys | None) -> ClusterFindings:
    """Objects with finalizers of the controllers to be removed, and their definitions. What can't be read is in ``unread``.

    Raises ``KubeError`` where the cluster does not answer at all.
    """
    held: dict[str, HeldObject] = {}
    unread: list[str] = []
    for plan in scope.going:
        for kind, children in _kinds(plan, scope.fleet, cluster):
            try:
                async for each in _held(client, kind, plan, cluster.name, keys, children=children):
                    known = held.get(each.path)
                    held[each.path] = replace(each, ours=(*known.ours, *each.ours)) if known is not None else each
            except NoSuchKind:
                continue  # its definition is gone, and its objects with it
            except ApiError as error:
                unread.append(f"{kind} of controller {plan.name} can't be listed: {error}")
    definitions = []
    for crd, users in _crds(scope, cluster):
        try:
            definitions += await _definition(client, crd, users)
        except ApiError as error:
            unread.append(f"CustomResourceDefinition {crd['metadata']['name']} can't be read: {error}")
    return ClusterFindings(cluster.name, unread=tuple(unread), held=tuple(held.values()), definitions=tuple(definitions))


def _kinds(plan: ControllerPlan, fleet: Fleet, cluster: ClusterSpec) -> Iterable[tuple[GVK, bool]]:
    """The kinds on whose objects the controller writes there, and whether they are its children."""
    here = cluster.name in plan.clusters
    if here:
        yield GVK.parse(plan.kind), False
    elsewhere = plan.on == "hub" and cluster in fleet.doc.members
    for owned in plan.owns:
        if elsewhere if owned.on == "members" else here:
            yield GVK.parse(owned.kind), True


async def _held(
    client: ClusterClient, kind: GVK, plan: ControllerPlan, cluster: str, keys: MarkKeys | None, *, children: bool
) -> AsyncIterator[HeldObject]:
    resource = await client.resource(kind)
    query: dict[str, str | int | bool] = {"limit": PAGE}
    if not children:
        query |= {key: text for key, text in (("labelSelector", plan.selector), ("fieldSelector", plan.fields)) if text}
    async for item in _items(client, resource.path(), query):
        meta = item.metadata
        ours = finalizers_of(meta, (f"raycp-{plan.original}",))
        if ours and (not children or _child(meta, kind, plan, cluster, keys, client.skew)):
            where = f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
            path = resource.path(meta.namespace, meta.name)
            yield HeldObject(f"{kind.kind} {where}", path, meta.uid, meta.resource_version, tuple(meta.finalizers or ()), ours)


def _child(meta: Meta, kind: GVK, plan: ControllerPlan, cluster: str, keys: MarkKeys | None, clock_ahead: float) -> bool:
    """Whether this fleet has made it: another one may run a controller of the same name."""
    if proof_of(meta, cluster, kind, keys, clock_ahead)[1] is not ClaimProof.NONE:
        return True
    owner = GVK.parse(plan.kind)
    here = cluster in plan.clusters
    return here and any((each.api_version, each.kind) == (owner.api_version, owner.kind) for each in meta.owner_references or ())


async def _items(client: ClusterClient, path: str, query: dict[str, str | int | bool]) -> AsyncIterator[_Held]:
    async for body in each_page(client, path, query):
        for item in decode_answer(body, _HeldList, f"GET {path}").items:
            yield item


def _crds(scope: RemovalScope, cluster: ClusterSpec) -> Iterable[tuple[dict[str, Any], tuple[str, ...]]]:
    """The definitions that the controllers to be removed have installed there, and the staying controllers that need them."""

    def installed(plans: Sequence[ControllerPlan]) -> dict[str, tuple[dict[str, Any], list[str]]]:
        found: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for plan in plans:
            for text in plan.crds if cluster.name in plan.clusters else ():
                crd = json.loads(text)
                found.setdefault(crd["metadata"]["name"], (crd, []))[1].append(plan.name)
        return found

    staying = installed(scope.staying)
    for name, (crd, _) in sorted(installed(scope.going).items()):
        group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
        users = [plan.name for plan in scope.staying if cluster.name in plan.clusters and _reads(plan, group, kind)]
        yield crd, tuple(dict.fromkeys([*staying.get(name, ({}, []))[1], *users]))


def _reads(plan: ControllerPlan, group: str, kind: str) -> bool:
    kinds = [plan.kind, *(each.kind for each in plan.owns), *(each.kind for each in plan.watches)]
    return any((found.group, found.kind) == (group, kind) for found in map(GVK.parse, kinds))


async def _definition(client: ClusterClient, crd: dict[str, Any], users: tuple[str, ...]) -> list[LeftDefinition]:
    name, spec = crd["metadata"]["name"], crd["spec"]
    stored = await _stored(client, f"{CRDS}/{name}", f"CustomResourceDefinition {name}")
    if stored is None:
        return []
    version = next(each["name"] for each in spec["versions"] if each.get("storage"))
    try:
        resource = await client.resource(GVK(spec["group"], version, spec["names"]["kind"]))
    except NoSuchKind:
        return [LeftDefinition(stored, 0, users)]
    objects = sum([1 async for _ in _items(client, resource.path(), {"limit": PAGE})])
    return [LeftDefinition(stored, objects, users)]


async def _meta(client: ClusterClient, path: str) -> Meta | None:
    """None where there is no such object."""
    try:
        answer = await client.request("GET", path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return decode_answer(answer.body, _Single, f"GET {path}").metadata


async def _stored(client: ClusterClient, path: str, what: str) -> LeftObject | None:
    meta = await _meta(client, path)
    return LeftObject(what, path, meta.uid) if meta is not None else None


async def _config_maps(client: ClusterClient, fleet: str, namespace: str) -> list[LeftObject]:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    query: dict[str, str | int | bool] = {"limit": PAGE, "labelSelector": f"raycp.io/fleet={fleet}"}
    return [
        LeftObject(f"ConfigMap {namespace}/{item.metadata.name}", f"{path}/{item.metadata.name}", item.metadata.uid)
        async for item in _items(client, path, query)
        if item.metadata.name.startswith(f"raycp-{fleet}-")
    ]


async def _floor(client: ClusterClient, fleet: str, namespace: str) -> FloorMark | None:
    path, key = f"{CRDS}/{FLOOR}", annotation(fleet, namespace)
    meta = await _meta(client, path)
    marks = [name for name in meta.annotations or () if name.startswith(PREFIX)] if meta is not None else []
    if meta is None or key not in marks:
        return None
    return FloorMark(LeftObject(f"CustomResourceDefinition {FLOOR}", path, meta.uid), key, len(marks) - 1)


async def _holder(scope: RemovalScope, client: ClusterClient, records: Records, clock: Clock) -> tuple[str, list[LeftObject]]:
    """Who holds the fleet's lock, empty where nobody does; the locks that are Leases."""
    leader, namespace = scope.fleet.doc.spec.leader, scope.fleet.doc.spec.state.namespace
    recorded = await read_leadership(records)
    kinds = dict.fromkeys([recorded.lock if recorded is not None else leader.lock.kind, leader.lock.kind])
    holder, leases = "", []
    for kind in kinds:
        spec = lock_of_kind(leader, kind)
        try:
            held = await make_lock(spec, client, scope.fleet.name, namespace, clock).holder()
        except LockProblem as problem:
            raise RemovalRefused(f"whether fleet {scope.fleet.name} runs is not known: {problem}") from problem
        if held is None or held.foreign:
            continue
        if not held.leadership.released:
            holder = held.leadership.holder
        if spec.lock.lease is not None:
            home, name = spec.lock.lease.namespace or namespace, f"raycp-{scope.fleet.name}"
            path = f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases/{name}"
            stored = await _stored(client, path, f"Lease {home}/{name}")
            leases += [stored] if stored is not None else []
    return holder, leases


async def _check_running(scope: RemovalScope, records: Records, holder: str) -> None:
    """The fleet runs: raises ``RemovalRefused`` unless it does so without the controller that is to go."""
    name, controller = scope.fleet.name, scope.controller
    if not controller:
        raise RemovalRefused(
            f"fleet {name} runs: {holder} holds its lock. Take it down with `raycp down --fleet {name}`; if it is dead for "
            "good: `raycp leader unlock -c FLEET.yaml`"
        )
    record = await records.read(FLEET_RECORD)
    try:
        running = msgspec.json.decode(record.data.get("fleet", ""), type=_RunningFleet) if record is not None else _RunningFleet()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemovalRefused(
            f"which controllers the running fleet {name} has is not known: its record in the hub: {error}"
        ) from error
    if controller in {each.name for each in running.controllers}:
        raise RemovalRefused(
            f"controller {controller} runs in fleet {name}, and would put its finalizers back: take it out of the fleet file, "
            "`raycp apply`, then repeat this with a copy of the file that still has it"
        )
