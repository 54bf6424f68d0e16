"""Reconcilers that end the process of their worker, in one process: the worker's core is killed."""

import asyncio
from typing import Any, Protocol

import fleet_samples as samples

from raycp.protocol.members import Member


class Ground(Protocol):
    """Where the workers live (``InProcessSubstrate``)."""

    def living(self, role: str, place: str = "") -> list[Any]: ...

    async def kill(self, member: Member) -> None: ...


class Deaths:
    """From its making on, ``fleet_samples.deadly`` kills its worker. ``places``: of the dead, as it goes on."""

    def __init__(self, *grounds: Ground) -> None:
        self.places: list[str] = []
        self._grounds = grounds
        self._loop = asyncio.get_running_loop()
        self._kills: set[asyncio.Task[None]] = set()
        samples.DEADLY = lambda thread: self._loop.call_soon_threadsafe(self._kill, thread)

    def __len__(self) -> int:
        """The workers that are dead by now."""
        return len(self.places) - len(self._kills)

    def _kill(self, thread: int) -> None:
        for ground in self._grounds:
            for core in ground.living("worker"):
                if core.user.thread_id == thread:
                    self.places.append(core.member.place)
                    task = self._loop.create_task(ground.kill(core.member))
                    self._kills.add(task)
                    task.add_done_callback(self._kills.discard)
