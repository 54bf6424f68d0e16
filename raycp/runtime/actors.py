"""The Ray actors: one generic shell that creates its role's core and passes every question on to the core's loop.

The constructor of an async actor runs on the loop of its default concurrency group. It only schedules the creation of the core
there: an error in the constructor on a restart would be final, even with ``max_restarts=-1``. Questions arrive in the ``ctl``
concurrency group, on a thread of their own, so that ``Ping`` is answered while the core's loop is busy, with the time since that
loop last turned.
"""

import asyncio
import contextvars
import gc
import logging
import os
import pkgutil
import socket
import sys
from typing import Any, Protocol

import ray

from raycp.base.clock import SystemClock
from raycp.base.release import this_release
from raycp.member.process_recorder import ABOUT_RECORDINGS, ProcessRecorder
from raycp.metrics.recorder import Origin
from raycp.metrics.recorder.log_feed import LogFeed
from raycp.metrics.recorder.stderr_file import own_stderr
from raycp.protocol.control import Ping, Pong, Question
from raycp.protocol.control.codec import respond
from raycp.protocol.members import Member, Role
from raycp.runtime.fleet_home import recorder_home, recorder_homes

log = logging.getLogger(__name__)

CORE_FACTORY = "raycp.runtime.cores:make_core"
"""By name, since cores create actors: it is imported in the actor's own process."""


class Core(Protocol):
    """An actor's logic. ``ask`` runs on the loop on which the core was made."""

    async def ask(self, question: Question[Any]) -> Any:
        """Answer a control question. Raises ``ControlError``."""
        ...


class Shell:
    """What the actor classes of all roles share."""

    def __init__(self, actor_name: str, namespace: str) -> None:
        self._name = actor_name
        self._namespace = namespace
        self._turned = 0.0
        self._clock = SystemClock()
        self._core: Core | None = None
        self._recorder: ProcessRecorder | None = None
        self._error: BaseException | None = None
        self._made = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._host(), context=contextvars.Context())

    async def _host(self) -> None:
        try:
            # A reconciler that burns CPU must not keep the actor's loop waiting for 5 ms at each switch of threads.
            sys.setswitchinterval(0.001)
            this_release()  # of the code that this process imports, before anybody changes it on disk
            member = Member.parse(self._name)
            if member is None:
                raise ValueError(f"{self._name!r} is not the name of a member")
            from raycp.metrics.log import setup_logging

            process = {"process": member.process, "pid": os.getpid()}
            text = os.environ.get("RAYCP_LOG_FORMAT", "json") == "text"
            handler = setup_logging(os.environ.get("RAYCP_LOG_LEVEL", "info"), text=text, process=process)
            recorder = self._recorder = self._record()
            if recorder.recorder.lines is not None:
                handler.also = recorder.recorder.lines.add
            self._core = pkgutil.resolve_name(CORE_FACTORY)(member, self._namespace, recorder.recorder)
        except Exception as error:
            log.exception("%s could not be made", self._name)
            self._error = error
        # Caches are long-lived and full of small objects: what exists now is never scanned again, and full collections
        # (tens of milliseconds over a large cache) come seldom. Young ones come often, so that each is short: of 50 000 objects one
        # took up to 70 ms, of 2 000 it takes 2 ms; the middle ones, of two young ones, some 8 ms (of ten: 37).
        gc.collect()
        gc.freeze()
        gc.set_threshold(2_000, 2, 12_500)
        self._made.set()
        while True:
            self._turned = self._clock.now()
            await asyncio.sleep(0.5)

    def _record(self) -> ProcessRecorder:
        """Start the process's flight recorder; warnings and errors of the log go into it, too."""
        node = str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
        origin = Origin(
            actor=self._name,
            namespace=self._namespace,
            node=node,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._clock.wall(),
            stderr=own_stderr(),
        )
        made = ProcessRecorder(self._clock, recorder_home(self._namespace), origin, recorder_homes())
        made.recorder.start()
        LogFeed(made.recorder).install()
        return made

    async def _ask_core(self, question: Question[Any]) -> Any:
        await self._made.wait()
        if self._core is None or self._recorder is None:
            raise RuntimeError(f"{self._name} could not be made: {self._error}")
        return await self._recorder.ask(question, self._core.ask)

    async def _route(self, question: Question[Any]) -> Any:
        if isinstance(question, Ping):
            return Pong(os.getpid(), self._clock.now() - self._turned, this_release())
        if isinstance(question, ABOUT_RECORDINGS) and self._recorder is not None:
            return await self._recorder.answer(question)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._ask_core(question), self._loop))

    @ray.method(concurrency_group="ctl")  # type: ignore[untyped-decorator]
    async def answer(self, question: bytes) -> bytes:
        """Answer an encoded control question (``raycp.protocol.control``): ``Ping`` and those about recordings here, all others by
        the core on its loop."""
        return await respond(question, self._route)


_remote = ray.remote(concurrency_groups={"ctl": 64}, num_cpus=0)


@_remote
class RaycpLeader(Shell):
    """Supervises the fleet."""


@_remote
class RaycpShard(Shell):
    """Watches clusters and keeps their queues."""


@_remote
class RaycpWorker(Shell):
    """Runs reconcilers."""


@_remote
class RaycpObserver(Shell):
    """Serves the fleet's metrics, health and status."""


@_remote
class RaycpEmbeddedCluster(Shell):
    """A Kubernetes API server with simulated nodes and Pods."""


_CLASSES: dict[Role, Any] = {
    Role.LEADER: RaycpLeader,
    Role.SHARD: RaycpShard,
    Role.STANDBY: RaycpShard,
    Role.WORKER: RaycpWorker,
    Role.OBSERVER: RaycpObserver,
    Role.EMBEDDED: RaycpEmbeddedCluster,
}


def actor_class(role: Role) -> Any:
    """The Ray actor class of a role."""
    return _CLASSES[role]
