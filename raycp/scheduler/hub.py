"""The hub, as the scheduler sees it."""

from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from raycp.base.objects import Obj
from raycp.scheduler.writes import JobStore


class HubJobs(JobStore, Protocol):
    """The hub, as the scheduler sees it."""

    @property
    def writable(self) -> bool:
        """Whether this process may write at the moment: permit and term hold."""
        ...

    @property
    def succeeds(self) -> bool:
        """Whether another process may have been the scheduler before this one."""
        ...

    @property
    def listed(self) -> bool:
        """Whether jobs and queues are cached."""
        ...

    def all_cached(self) -> Iterable[Obj]:
        """All jobs, as they are cached."""
        ...

    def all_jobs(self) -> AsyncIterator[Obj]:
        """All jobs, as the API server has them now. Raises ``KubeError``."""
        ...

    def wake(self, obj: Obj) -> None:
        """The job is due."""
        ...

    async def priority_of(self, name: str) -> int | None:
        """The value of a PriorityClass; None where there is none. Raises ``KubeError``."""
        ...
