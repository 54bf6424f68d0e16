"""The lock that a fleet file asks for."""

from typing import Any

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.config.runtime import ConfigMapLock, LeaderSpec, LeaseLock, LockSpec, RayLock
from raycp.kube import ClusterClient
from raycp.leadership.epoch import RECORD
from raycp.leadership.locks.floor import CrdFloor
from raycp.leadership.locks.kube_lock import KubeLock, Pace
from raycp.leadership.locks.pods import KubePods
from raycp.leadership.locks.stores import ConfigMapStore, LeaseStore
from raycp.leadership.records import Records

EPOCHS = "epoch"
"""Record of epochs of lock ``ray``: its own object is what the other locks use as the record of epochs."""


def make_lock(
    spec: LeaderSpec, client: ClusterClient, fleet: str, state_namespace: str, clock: Clock, loops: Loops | None = None
) -> KubeLock:
    """The lock of ``fleet`` in the hub that ``client`` speaks to. ``loops`` run a candidate's watches."""
    records = Records(client, fleet, state_namespace)
    pace = Pace(spec.backoff.min, spec.backoff.max, spec.backoff.jitter)
    lock = spec.lock
    floor = CrdFloor(client, fleet, state_namespace)
    common: Any = {"pace": pace, "floor": floor, "loops": loops}
    if lock.config_map is not None:
        namespace = lock.config_map.namespace or state_namespace
        store = ConfigMapStore(client, fleet, namespace, records.name("lock"), clock)
        return KubeLock("configMap", store, records, RECORD, clock, pods=KubePods(client, namespace), **common)
    if lock.lease is not None:
        namespace = lock.lease.namespace or state_namespace
        leased = LeaseStore(client, fleet, namespace, f"raycp-{fleet}", clock, lock.lease.duration)
        return KubeLock("lease", leased, records, RECORD, clock, every=lock.lease.renew, **common)
    store = ConfigMapStore(client, fleet, state_namespace, records.name(RECORD), clock)
    return KubeLock("ray", store, records, EPOCHS, clock, **common)


def lock_of_kind(leader: LeaderSpec, kind: str) -> LeaderSpec:
    """``leader`` with the lock of that kind; with the file's settings where the file names that kind."""
    if kind == leader.lock.kind:
        return leader
    lock = {
        "ray": LockSpec(ray=RayLock()),
        "configMap": LockSpec(config_map=ConfigMapLock()),
        "lease": LockSpec(lease=LeaseLock()),
    }[kind]
    return leader.model_copy(update={"lock": lock})
