"""``raycp leader unlock``: free a lock whose holder is dead for good, or whose object is not a lock of raycp.

It asks the hub, not Ray: the fleet that held the lock may not exist any more. A living holder restores its lock within a second or
so; the command waits for that and reports it. Single writing is safe: the next holder waits until all permits have ended.
"""

import asyncio
import getpass
import socket
from pathlib import Path

import msgspec

from raycp.base.clock import Clock, SystemClock
from raycp.cli.errors import BadInput, CliError
from raycp.cli.hub_access import hub_of_file
from raycp.cli.printer import say
from raycp.config import FleetDoc, load_fleet
from raycp.kube import ClusterClient, ConnectError, ConnectSpec, KubeError
from raycp.leadership.epoch import RECORD, note, read_leadership
from raycp.leadership.locks import Lock, LockProblem, lock_of_kind, make_lock
from raycp.leadership.records import Conflict, Records

RESTORED_WITHIN = 4.0
"""Seconds within which a living holder restores its lock: two of its proofs."""


def run(config: Path | None, kubeconfig: Path | None) -> int:
    """0 when the lock is free."""
    if config is None:
        raise BadInput("raycp leader unlock needs the fleet file, which names the lock", "name it with -c FLEET.yaml")
    doc = load_fleet(config)
    spec = hub_of_file(doc, kubeconfig)
    try:
        lines = asyncio.run(unlock(doc, spec, SystemClock(), f"{getpass.getuser()}@{socket.gethostname()}"))
    except ConnectError as error:
        raise CliError(f"hub {doc.hub.name}: {error.problem}", error.remedy) from error
    except (KubeError, LockProblem, Conflict) as error:
        raise CliError(f"hub {doc.hub.name}: {error}") from error
    say("\n".join(lines))
    return 0


async def unlock(doc: FleetDoc, spec: ConnectSpec, clock: Clock, who: str) -> list[str]:
    """Free the lock that the fleet file names, and the one that was used last if that is another. What was done, as messages.

    Raises ``CliError`` where the holder is alive, ``ConnectError``, ``KubeError``, ``LockProblem``, ``Conflict``.
    """
    client = await ClusterClient.connect(spec, clock)
    try:
        namespace = doc.spec.state.namespace
        records, leader = Records(client, doc.name, namespace), doc.spec.leader
        recorded = await read_leadership(records)
        kinds = dict.fromkeys([recorded.lock if recorded is not None else leader.lock.kind, leader.lock.kind])
        locks = [make_lock(lock_of_kind(leader, kind), client, doc.name, namespace, clock) for kind in kinds]
        lines = [await _free(lock, clock, who) for lock in locks]
        if recorded is not None and recorded.lock == "ray" and leader.lock.kind != "ray" and not recorded.released:
            # The record of lock ray was the lock itself; for the others it keeps the epochs.
            await note(records, RECORD, msgspec.structs.replace(recorded, lock=leader.lock.kind))
    finally:
        await client.close()
    return lines


async def _free(lock: Lock, clock: Clock, who: str) -> str:
    was = await lock.unlock(who)
    if was is None:
        return f"{lock.where} does not exist: the lock is free"
    if was.foreign:
        return f"{lock.where} {was.foreign}: it was deleted, the lock is free"
    deadline = clock.now() + RESTORED_WITHIN
    while clock.now() < deadline:
        await clock.sleep(0.2)
        now = await lock.holder()
        if now is not None and now.leadership.holder == was.leadership.holder and not now.leadership.released:
            raise CliError(
                f"{was.leadership.holder} is alive and has taken {lock.where} back (epoch {was.leadership.epoch})",
                "take its fleet down with `raycp down`; nothing was changed",
            )
    return f"{lock.where} was held by {was.leadership.holder} (epoch {was.leadership.epoch}); it is free"
