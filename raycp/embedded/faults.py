"""Fault injection: scheduled by the cluster's clock, with random draws from the cluster's seed.

While ``armed``, the HTTP layer awaits ``before`` ahead of each request and reports each watch to ``opened`` and
``closed``; without active faults it calls nothing. Faults of the whole cluster (compaction, clock, certificate, token)
act through ``World``. Specs come from the fleet YAML, from ``add``/``set``/``clear``, or from ``/raycp/admin/faults``.

A fault affects a request if it is active (``after``, ``for``, ``every``), verb and resource match, and the draw of
``probability`` succeeds. The latencies of all such faults add up until the first fault that refuses or breaks the
request.
"""

import asyncio
import itertools
import math
import random
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from raycp.base.clock import Clock
from raycp.config.embedded import BadAnswerKind, FaultSpec
from raycp.embedded.errors import StatusError, too_many_requests

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_ONCE = frozenset({"compact", "rotateCertificate", "expireToken"})
_WATCHES = frozenset({"stallWatch", "closeWatch"})
_REQUESTS = frozenset({"latency", "tooManyRequests", "error", "reset", "halfOpen", "readOnly", "badAnswer"})


class Fault(NamedTuple):
    """The outcome of a request that a fault affects: another answer, or a dropped connection."""

    action: Literal["answer", "reset", "halfOpen", "badAnswer"]
    error: StatusError | None = None
    """for ``answer``"""
    bad: BadAnswerKind = "html"
    """for ``badAnswer``"""


class OpenWatch(Protocol):
    """The part of a watch that faults use (``raycp.embedded.watch.Watch``)."""

    paused: bool

    def stop(self) -> None: ...
    def resume(self) -> None: ...


class World(Protocol):
    """The part of the cluster that faults use."""

    def compact(self) -> None:
        """Drop the watch history: older versions answer 410."""

    def skew(self, seconds: float) -> None:
        """Set the server's wall clock ``seconds`` ahead."""

    def rotate_certificate(self) -> None:
        """Serve a new certificate of the same CA to new connections."""

    def expire_token(self) -> None:
        """Refuse the current token with 401, and write a new one to the kubeconfig file."""


@dataclass
class _Set:
    """A scheduled fault."""

    id: int
    spec: FaultSpec
    begin: float
    """``Clock.now()`` at which it first begins"""
    rng: random.Random
    began: int = 0
    """how often it has begun"""
    on: bool = False
    met: int = 0
    """requests and watches that it affected"""


def in_force(spec: FaultSpec, begin: float, now: float) -> bool:
    """Whether a fault that first begins at ``begin`` is active at ``now``: pure."""
    if now < begin:
        return False
    if spec.every and spec.duration is not None:
        return (now - begin) % spec.every < spec.duration
    return spec.duration is None or now < begin + spec.duration


def next_edge(spec: FaultSpec, begin: float, now: float) -> float | None:
    """The next time after ``now`` at which it begins or ends; None: never again. Pure."""
    if now < begin:
        return begin
    if spec.every:
        start = begin + math.floor((now - begin) / spec.every) * spec.every
        end = start + spec.duration if spec.duration is not None else None
        return end if end is not None and now < end < start + spec.every else start + spec.every
    end = begin + spec.duration if spec.duration is not None else None
    return end if end is not None and now < end else None


def delay(spec: FaultSpec, rng: random.Random) -> float:
    """Draw the latency of a fault, in seconds, never negative."""
    match spec.distribution:
        case "constant":
            drawn = spec.latency
        case "uniform":
            drawn = spec.latency + rng.uniform(0, spec.jitter)
        case "normal":
            drawn = rng.gauss(spec.latency, spec.jitter)
        case "lognormal":
            sigma = math.log1p(spec.jitter / spec.latency) if spec.latency else 0.0
            drawn = spec.latency * math.exp(rng.gauss(0, sigma))
        case "exponential":
            drawn = rng.expovariate(math.log(2) / spec.latency) if spec.latency else 0.0
    return max(0.0, drawn)


class Faults:
    """All faults of one cluster. ``run()`` begins and ends them in time."""

    def __init__(self, specs: list[FaultSpec], clock: Clock, world: World, seed: int = 0) -> None:
        self.clock = clock
        self.world = world
        self.armed = False
        """whether any fault of requests or watches is active"""
        self._seed = seed
        self._ids = itertools.count(1)
        self._set: dict[int, _Set] = {}
        self._acting: list[_Set] = []
        self._watches: dict[OpenWatch, str] = {}
        self._changed = asyncio.Event()
        for spec in specs:
            self.add(spec)

    # setting faults

    def add(self, spec: FaultSpec) -> int:
        """Add a fault; its ``after`` counts from now. Returns its id."""
        number = next(self._ids)
        rng = random.Random(f"{self._seed}/{number}/{spec.kind}")
        self._set[number] = _Set(number, spec, self.clock.now() + spec.after, rng)
        self._turn()
        self._changed.set()
        return number

    def clear(self, number: int | None = None) -> None:
        """Remove a fault, or all of them. Raises ``KeyError`` for an unknown id."""
        removed = [self._set.pop(number)] if number is not None else list(self._set.values())
        if number is None:
            self._set.clear()
        for fault in removed:
            if fault.on:
                self._end(fault)
        self._turn()
        self._changed.set()

    def set(self, specs: list[FaultSpec]) -> list[int]:
        """Replace all faults by these. Returns their ids."""
        self.clear()
        return [self.add(spec) for spec in specs]

    def describe(self) -> list[dict[str, Any]]:
        """All faults, as the admin endpoint reports them."""
        return [
            {
                "id": fault.id,
                "inForce": fault.on,
                "met": fault.met,
                **fault.spec.model_dump(by_alias=True, exclude_defaults=True),
            }
            for fault in self._set.values()
        ]

    # calls from the HTTP layer

    async def before(self, verb: str, path: str, watch: bool = False) -> Fault | None:
        """Wait for the request's injected latency, then return its outcome; None: serve it normally.

        ``verb`` is an HTTP method or a Kubernetes verb.
        """
        if path.startswith("/raycp/"):
            return None
        verb, resource = request_of(verb, path, watch)
        for fault in list(self._acting):
            kind, spec = fault.spec.kind, fault.spec
            if kind not in _REQUESTS or not _meets(spec, verb, resource):
                continue
            if kind == "readOnly" and verb not in WRITES:
                continue
            if spec.probability < 1 and fault.rng.random() >= spec.probability:
                continue
            fault.met += 1
            if kind == "latency":
                await self.clock.sleep(delay(spec, fault.rng))
            elif kind in ("reset", "halfOpen"):
                return Fault("reset" if kind == "reset" else "halfOpen")
            elif kind == "badAnswer":
                return Fault("badAnswer", bad=spec.answer)
            else:
                return Fault("answer", _error(spec))
        return None

    def opened(self, watch: OpenWatch, path: str) -> None:
        """Register a watch that was opened."""
        _, resource = request_of("watch", path, True)
        self._watches[watch] = resource
        for fault in self._acting:
            if fault.spec.kind in _WATCHES:
                self._touch(fault, watch, resource)

    def closed(self, watch: OpenWatch) -> None:
        """Remove a watch that was closed by either side."""
        self._watches.pop(watch, None)

    async def run(self) -> None:
        """Begin and end faults in time. Never returns."""
        while True:
            self._changed.clear()
            self._turn()
            now = self.clock.now()
            edges = [next_edge(fault.spec, fault.begin, now + 1e-6) for fault in self._set.values()]
            soonest = min((edge for edge in edges if edge is not None), default=None)
            waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._changed.wait())]
            if soonest is not None:
                waits.append(asyncio.ensure_future(_asleep(self.clock, soonest - now)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    # schedule

    def _turn(self) -> None:
        """Begin and end every fault that is due."""
        now = self.clock.now() + 1e-6  # rounding may place an edge that has passed just ahead of now
        for fault in list(self._set.values()):
            spec = fault.spec
            begins = 0 if now < fault.begin else 1 + (int((now - fault.begin) / spec.every) if spec.every else 0)
            on = in_force(spec, fault.begin, now)
            if fault.on and (not on or begins > fault.began):
                self._end(fault)
            if begins > fault.began and (on or spec.kind in _ONCE):
                fault.on = on and spec.kind not in _ONCE
                self._begin(fault)
            fault.began = max(fault.began, begins)
        self._acting = [fault for fault in self._set.values() if fault.on]
        self.armed = any(fault.spec.kind in _REQUESTS | _WATCHES for fault in self._acting)

    def _begin(self, fault: _Set) -> None:
        match fault.spec.kind:
            case "compact":
                self.world.compact()
            case "clockSkew":
                self.world.skew(-fault.spec.skew if fault.spec.behind else fault.spec.skew)
            case "rotateCertificate":
                self.world.rotate_certificate()
            case "expireToken":
                self.world.expire_token()
            case "stallWatch" | "closeWatch":
                for watch, resource in list(self._watches.items()):
                    self._touch(fault, watch, resource)

    def _end(self, fault: _Set) -> None:
        fault.on = False
        if fault.spec.kind == "clockSkew":
            self.world.skew(0.0)
        elif fault.spec.kind == "stallWatch":
            still = [f for f in self._set.values() if f.on and f.spec.kind == "stallWatch"]
            for watch, resource in list(self._watches.items()):
                if watch.paused and not any(_meets(f.spec, "watch", resource) for f in still):
                    watch.paused = False
                    watch.resume()

    def _touch(self, fault: _Set, watch: OpenWatch, resource: str) -> None:
        if not _meets(fault.spec, "watch", resource):
            return
        if fault.spec.probability < 1 and fault.rng.random() >= fault.spec.probability:
            return
        fault.met += 1
        if fault.spec.kind == "stallWatch":
            watch.paused = True
        else:
            asyncio.get_running_loop().call_soon(watch.stop)  # not while the watch is starting


async def _asleep(clock: Clock, seconds: float) -> None:
    await clock.sleep(max(1e-6, seconds))


def _meets(spec: FaultSpec, verb: str, resource: str) -> bool:
    if spec.verbs and verb not in spec.verbs:
        return False
    return not spec.resources or resource in spec.resources or resource.partition("/")[0] in spec.resources


def _error(spec: FaultSpec) -> StatusError:
    retry = math.ceil(spec.retry_after) if spec.retry_after is not None else None
    if spec.kind == "tooManyRequests":
        return too_many_requests(
            "the server has received too many requests and has asked us to try again later",
            1 if retry is None else retry,
        )
    if spec.kind == "readOnly":
        return StatusError(500, "", "etcdserver: mvcc: database space exceeded")
    reason, message = _REASONS.get(spec.status, ("", "an error on the server has been injected"))
    details = {"retryAfterSeconds": retry} if retry is not None else None
    return StatusError(spec.status, reason, message, details, {"Retry-After": str(retry)} if retry is not None else None)


_REASONS = {
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", "forbidden: injected"),
    500: ("InternalError", "Internal error occurred: injected"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "request did not complete within the allotted timeout"),
}

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}


def request_of(method: str, path: str, watch: bool) -> tuple[str, str]:
    """Verb and resource (``pods``, ``jobs.batch``, ``pods/status``; empty for other paths) of a request: pure."""
    parts = path.partition("?")[0].strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, rest = "", parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, rest = parts[1], parts[3:]
    else:
        return _VERBS.get(method, method), ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        rest = rest[2:]
    verb = _VERBS.get(method, method)
    if verb == "get" and len(rest) == 1:
        verb = "list"
    elif verb == "delete" and len(rest) == 1:
        verb = "deletecollection"
    resource = f"{rest[0]}.{group}" if group else rest[0]
    return ("watch" if watch else verb), (f"{resource}/{rest[2]}" if len(rest) >= 3 else resource)
