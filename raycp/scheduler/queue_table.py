"""``QueueTable``: the ``Queue`` objects of the hub, and which namespace belongs to which."""

import logging
from collections.abc import Iterable

import msgspec

from raycp.base.objects import Obj
from raycp.controllers.queues.specs import InvalidQueue, read_queue
from raycp.scheduling.queues import QueueSpec

log = logging.getLogger(__name__)


class QueueTable:
    """Replaced as a whole. Where two queues name one namespace, it belongs to the first by name."""

    def __init__(self) -> None:
        self.specs: dict[str, QueueSpec] = {}
        self.problems: dict[str, str] = {}
        """Queues that can't be read, and why: no job of theirs is admitted."""
        self._of: dict[str, str] = {}

    def replace(self, objs: Iterable[Obj]) -> bool:
        """These are the queues now. Whether that changed anything."""
        specs: dict[str, QueueSpec] = {}
        problems: dict[str, str] = {}
        for obj in objs:
            name = obj.meta.name
            try:
                specs[name] = read_queue(msgspec.json.decode(obj.raw))
            except (InvalidQueue, msgspec.MsgspecError, ValueError, KeyError, AttributeError) as error:
                problems[name] = str(error)
                specs[name] = QueueSpec(name, stop="Hold")
                log.error("queue %s can't be read, and admits nothing: %s", name, error)
        changed = (specs, problems) != (self.specs, self.problems)
        self.specs, self.problems = specs, problems
        self._of = {namespace: name for name in sorted(specs, reverse=True) for namespace in specs[name].namespaces}
        return changed

    def of(self, namespace: str) -> str:
        """The queue of a namespace's jobs; empty where it has none."""
        return self._of.get(namespace, "")
