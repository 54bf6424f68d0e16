"""Injects faults into a running fleet: finds the process at a place, then kills or freezes it, hands over, or makes an API server
fail.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import psutil
from apis import Api
from faultplan import Fault

from raycp.driver.fleet_client import FleetClient, FleetError
from raycp.protocol.control import HandOver, Ping

log = logging.getLogger(__name__)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


class Player:
    """One per soak. ``stopped``: pid -> when it was killed, or frozen for longer than its permit (``CLOCK_BOOTTIME``)."""

    def __init__(self, client: FleetClient, apis: Mapping[str, Api], permit: float) -> None:
        self.status: dict[str, Any] = {}
        self.stopped: dict[int, float] = {}
        self.log: list[str] = []
        self._client = client
        self._apis = apis
        self._permit = permit
        self._leader = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self) -> None:
        """Refresh the status for ever; the leader may not answer."""
        while True:
            with contextlib.suppress(FleetError, OSError):
                status = await self._client.status()
                if "standbys" in status:  # a leader that has just restarted has no fleet yet
                    self.status = status
                self._leader = (await self._client.ask(Ping())).pid
            await asyncio.sleep(0.3)

    def pid(self, place: str) -> int:
        """The pid of the process at a place, 0 if none is known."""
        role, _, number = place.partition(" ")
        if role == "leader":
            return self._leader
        if role == "observer":
            return int(self.status["observer"]["pid"] or 0)
        rows = self.status[f"{role}s"]
        return int(rows[int(number)]["pid"] or 0) if int(number) < len(rows) else 0

    def processes(self) -> dict[str, int]:
        """Place -> pid, of all running processes."""
        places = ["leader", "observer"]
        for role in ("shard", "standby", "worker"):
            places += [f"{role} {number}" for number in range(len(self.status.get(f"{role}s", ())))]
        return {place: pid for place in places if (pid := self.pid(place)) and alive(pid)}

    async def play(self, fault: Fault, started: float) -> None:
        """Begin one fault; ``over`` waits for its end."""
        line = f"{boottime() - started:6.1f} s  {fault.kind} {', '.join(fault.targets)}"
        if fault.seconds:
            line += f" for {fault.seconds:.1f} s"
        if fault.specs:
            lasting = [{**spec, "for": spec.get("for", f"{fault.seconds:.1f}s")} for spec in fault.specs]
            self._spawn(self._apis[fault.targets[0]].faulty(lasting, fault.seconds))
        elif fault.kind == "handover":
            self._spawn(self._hand_over(fault))
        else:
            pids = {place: pid for place in fault.targets if (pid := self.pid(place)) and alive(pid)}
            line += f" (pids {', '.join(str(pid) for pid in pids.values()) or 'none'})"
            for pid in pids.values():
                if fault.kind == "freeze":
                    self._spawn(self._freeze(pid, fault.seconds))
                else:
                    self.stopped.setdefault(pid, boottime())
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        self.log.append(line)

    async def over(self) -> None:
        """Wait until all faults have ended."""
        await asyncio.gather(*self._tasks)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, fault: Fault) -> None:
        """Hand over as ``raycp handover`` does; a missing warm standby is no failure."""
        shards = [target.partition(" ")[2] for target in fault.targets]
        try:
            rows = await self._client.ask(HandOver(shards), timeout=40.0)
            self.log.append(f"          handed over: {[(row.shard, row.problem or round(row.took, 3)) for row in rows]}")
        except FleetError as error:
            self.log.append(f"          not handed over: {error}")

    async def _freeze(self, pid: int, seconds: float) -> None:
        begun = boottime()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            if seconds > self._permit:
                self.stopped.setdefault(pid, begun)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)
        if not alive(pid):
            self.stopped.setdefault(pid, begun)
