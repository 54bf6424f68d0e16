"""``JobQuery``: which page of the hub's jobs the observer asks the hub's shard for."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

import msgspec

JobPhase = Literal["New", "Queued", "Pending", "Running", "Suspended", "Completing", "Failing", "Complete", "Failed"]
"""``status.phase`` of a ``BatchJob``; ``New``: no reconcile has written one yet."""

PHASES: tuple[JobPhase, ...] = get_args(JobPhase)

JobOrder = Literal["attention", "name", "newest", "oldest", "failures"]
"""``attention``: failing ones and those that wait first, of them the longest waiting; ``failures``: most failed Pods first."""

PAGE_LIMIT = 100
"""Most rows of an answer."""

NO_QUEUE = "-"
"""As ``JobQuery.queue``: jobs without a queue."""

_Text = Annotated[str, msgspec.Meta(max_length=253)]


class JobQuery(msgspec.Struct, frozen=True):
    """Filters, order and page. ``name``: a part of ``NAMESPACE/NAME``; ``find``: words that are all in what is said of a job (name,
    queue, phase, reason, clusters). Empty ones filter nothing."""

    name: _Text = ""
    find: _Text = ""
    phase: JobPhase | Literal[""] = ""
    queue: _Text = ""
    order: JobOrder = "attention"
    offset: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, msgspec.Meta(ge=0, le=PAGE_LIMIT)] = 50


def read_query(parameters: Mapping[str, str]) -> JobQuery:
    """The query of an address's parameters. Raises ``ValueError`` that names the parameter and what it may be."""
    known = JobQuery.__struct_fields__
    for name in parameters:
        if name not in known:
            raise ValueError(f"there is no parameter {name!r}: use {', '.join(known)}")
    for name, choices in (("phase", PHASES), ("order", get_args(JobOrder))):
        if parameters.get(name) and parameters[name] not in choices:
            raise ValueError(f"{name} is {parameters[name]!r}: use one of {', '.join(choices)}")
    try:
        return msgspec.convert({name: value for name, value in parameters.items() if value}, JobQuery, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
