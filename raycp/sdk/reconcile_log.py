"""The log of one reconcile: ``ctx.log``, and the fields of whatever else is logged in it."""

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from raycp.base.tasks import Task, change_of
from raycp.metrics.log import FIELDS


class ReconcileFields(Mapping[str, Any]):
    """What a reconcile's lines carry. Made when a line needs it: most reconciles log nothing."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @cached_property
    def _fields(self) -> dict[str, Any]:
        task, key = self._task, self._task.key
        fields = {
            "controller": key.controller,
            "cluster": key.cluster,
            "namespace": key.namespace,
            "name": key.name,
            "attempt": task.attempt,
            "tier": task.tier,
            "reason": task.reason,
            "change": change_of(task),
        }
        return {name: value for name, value in fields.items() if value != ""}

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class ReconcileLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the reconcile's fields to each record, beside the caller's own ``extra``. The context has them too, but for threads
    that the author starts."""

    def __init__(self, logger: logging.Logger, fields: ReconcileFields) -> None:
        # `name` is the logger's: it has a place beside those that are attributes of the record
        others = {each: fields[each] for each in fields if each != "name"}
        super().__init__(logger, {**others, FIELDS: {"name": fields.get("name", "")}})

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """See ``logging.LoggerAdapter.process``."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def failed(self, text: str, trace: str, more: Mapping[str, Any]) -> None:
        """An error with a traceback that is already text: handlers of others print it behind the message, ours has a field for
        it."""
        if self.isEnabledFor(logging.ERROR):
            logger = self.logger
            record = logger.makeRecord(logger.name, logging.ERROR, "", 0, "%s", (text,), None, extra={**(self.extra or {}), **more})
            record.exc_text = trace
            self.logger.handle(record)


def reconcile_log(controller: str, task: Task) -> ReconcileLog:
    """A logger whose records carry controller, cluster, namespace, name, attempt, tier, reason and the change's id."""
    return ReconcileLog(logging.getLogger(f"raycp.controller.{controller}"), ReconcileFields(task))
