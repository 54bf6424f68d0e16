"""Kubernetes Events: made by ``Context.event``, aggregated and sent by one ``EventRecorder`` per worker process.

Equal events (same object, reason, note) within six minutes are one Event with a ``series`` count, as in the events.k8s.io API and
client-go's recorder; new ones are limited by object to a burst of 25, then one per five minutes (client-go's spam filter). The
queue is bounded: Events are informative, and must not delay a reconcile.
"""

import asyncio
import hashlib
import logging
import re
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from raycp.base.budgets import KeyedBudgets
from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.base.tasks import Task
from raycp.base.text import clean
from raycp.kube.errors import ApiError, KubeError
from raycp.sdk.backend import MERGE_PATCH, Answer, ApiRequest

log = logging.getLogger(__name__)

EVENT = GVK("events.k8s.io", "v1", "Event")
_NOTE_LIMIT = 1024  # bytes; events.k8s.io/v1 Event.note
_REASON_LIMIT = 128
_NAME_PART = 220  # characters; a dot, the digest and the time in microseconds follow
_NO_LABEL = re.compile(r"[^a-z0-9.-]+")
_SERIES_LIFE = 360.0
SERIES_PERIOD = 30.0
"""Seconds between two updates of a series' count on the server."""
_BURST = 25
_REFILL = 300.0
_KNOWN = 4096


def event_for(
    obj: dict[str, Any], type: str, reason: str, note: str, action: str, controller: str, instance: str, wall: float
) -> dict[str, Any]:
    """An ``events.k8s.io/v1`` Event about ``obj``, without a name; in namespace ``default`` for a cluster-scoped object."""
    metadata = obj["metadata"]
    regarding = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": metadata["name"],
        "namespace": metadata.get("namespace", ""),
        "uid": metadata.get("uid", ""),
        "resourceVersion": metadata.get("resourceVersion", ""),
    }
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"namespace": metadata.get("namespace") or "default"},
        "eventTime": micro_time(wall),
        "reportingController": controller,
        "reportingInstance": (instance or controller)[:128],
        "action": clean(action, _REASON_LIMIT),
        "reason": clean(reason, _REASON_LIMIT),
        "regarding": {key: value for key, value in regarding.items() if value},
        "note": clean(note, _NOTE_LIMIT).encode()[:_NOTE_LIMIT].decode(errors="ignore"),
        "type": "Warning" if type == "Warning" else "Normal",
    }


def micro_time(wall: float) -> str:
    """``metav1.MicroTime`` of a Unix time in seconds."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _own_name(name: str) -> str:
    """What an Event's own name begins with: that of its object as far as it is a DNS subdomain, which the names of roles
    (``system:node``) and those of lenient servers are not. With what follows it has at most 253 characters."""
    labels = [label.strip("-") for label in _NO_LABEL.sub("-", name.lower())[:_NAME_PART].split(".")]
    return ".".join(label for label in labels if label) or "object"


@dataclass(slots=True)
class _Series:
    namespace: str
    name: str
    first: float
    last: float
    count: int = 1
    sent: int = 0
    sent_at: float = 0.0


class EventRecorder:
    """Queues events and sends them in the background.

    ``send`` is ``Backend.request``. ``dropped`` counts events that were not sent: queue full, spam, or refused by the server.
    """

    def __init__(self, send: Callable[[Task, ApiRequest], Awaitable[Answer]], clock: Clock, *, capacity: int = 1000) -> None:
        self._send = send
        self._clock = clock
        self._capacity = capacity
        self._queue: deque[tuple[Task, str, dict[str, Any], _Series]] = deque()
        self._known: OrderedDict[str, _Series] = OrderedDict()
        self._budgets: KeyedBudgets[tuple[str, str]] = KeyedBudgets(_BURST, 1 / _REFILL, _KNOWN)
        self._wake = asyncio.Event()
        self.dropped = 0
        self.sent = 0

    def record(self, task: Task, cluster: str, event: bytes) -> None:
        """Queue an Event (JSON, as ``event_for`` makes it). Never blocks, never raises; call on the recorder's loop."""
        try:
            body = msgspec.json.decode(event)
            regarding = body["regarding"]
            identity = (
                cluster,
                regarding.get("uid") or regarding["name"],
                body["type"],
                body["reason"],
                body["action"],
                body["note"],
            )
        except (msgspec.MsgspecError, KeyError, TypeError):
            self.dropped += 1
            return
        now = self._clock.now()
        digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
        series = self._known.get(digest)
        if series is not None and now - series.last < _SERIES_LIFE:
            series.count += 1
            series.last = now
            if now - series.sent_at < SERIES_PERIOD:
                return
        else:
            if not self._budgets.take((cluster, identity[1]), now):
                self.dropped += 1
                return
            stamp = f"{int(self._clock.wall() * 1e6):x}"
            name = f"{_own_name(regarding['name'])}.{digest}{stamp}"
            series = _Series(body["metadata"]["namespace"], name, now, now)
            self._known[digest] = series
            self._known.move_to_end(digest)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        series.sent_at = now
        if len(self._queue) >= self._capacity:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append((task, cluster, body, series))
        self._wake.set()

    async def run(self) -> None:
        """Send queued events, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send the queued events."""
        while self._queue:
            task, cluster, body, series = self._queue.popleft()
            try:
                await self._post(task, cluster, body, series)
                self.sent += 1
            except KubeError:
                self.dropped += 1
            except Exception:  # law 12: the next ones are sent
                self.dropped += 1
                log.exception("an Event about %s was not sent", task.key)

    async def _post(self, task: Task, cluster: str, body: dict[str, Any], series: _Series) -> None:
        count = series.count
        if series.sent:
            patch = {"series": {"count": count, "lastObservedTime": micro_time(self._clock.wall())}}
            call = ApiRequest("patch", cluster, EVENT, series.namespace, series.name, "", msgspec.json.encode(patch), MERGE_PATCH)
            try:
                await self._send(task, call)
                series.sent = count
                return
            except ApiError as error:
                if not error.not_found:  # expired on the server: created anew
                    raise
        body = {**body, "metadata": {**body["metadata"], "name": series.name}}
        call = ApiRequest("create", cluster, EVENT, series.namespace, series.name, "", msgspec.json.encode(body))
        try:
            await self._send(task, call)
        except ApiError as error:
            if not error.already_exists:  # else it is ours, and the answer was lost: the next one of the series counts on it
                raise
        series.sent = count
