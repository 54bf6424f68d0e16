"""Calls the handler of a reflector. What it raises is logged and ends nothing, and costs no other object its event (law 11)."""

import logging
from collections.abc import Callable

from raycp.base.events import Event
from raycp.cache.unreadable import UnreadableObjects

log = logging.getLogger("raycp.cache")

Handler = Callable[[list[Event]], None]


class Emitter:
    """One reflector's. ``handler`` may be replaced at any time."""

    def __init__(self, kind: str, handler: Handler, unreadable: UnreadableObjects) -> None:
        self.handler = handler
        self._kind = kind
        self._unreadable = unreadable

    def emit(self, events: list[Event]) -> None:
        """Hand over these events, if there are any."""
        if not events:
            return
        try:
            self.handler(events)
        except Exception:
            self.singly(events)

    def singly(self, events: list[Event]) -> None:
        """The handler has failed on these: call it for each, since it may be one that it cannot take. It is level-triggered, and
        may see one twice.
        """
        for event in events:
            try:
                self.handler([event])
            except Exception as error:
                meta = event.obj.meta
                log.exception("%s: the handler failed on %s/%s", self._kind, meta.namespace, meta.name)
                self._unreadable.unhandled(meta, error)
