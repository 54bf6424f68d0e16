"""The parameters of a request for a container's log (``ValidatePodLogOptions``)."""

from dataclasses import dataclass

from raycp.embedded.errors import FieldError, bad_request, invalid_kind
from raycp.embedded.options import Query, first, flag, integer
from raycp.embedded.strategy.scalars import Malformed, unix_time


@dataclass(frozen=True, slots=True)
class LogParameters:
    """``since`` is in Unix seconds, ``tail`` in lines, ``limit`` in bytes; None is no bound. ``stamped``: lines begin with their
    times."""

    previous: bool = False
    stamped: bool = False
    since: float | None = None
    tail: int | None = None
    limit: int | None = None


def log_parameters(query: Query, name: str, now: float) -> LogParameters:
    """The parameters for the log of the Pod ``name``. Raises ``StatusError`` 400, 422."""
    tail, limit, seconds = (integer(query, key) for key in ("tailLines", "limitBytes", "sinceSeconds"))
    since, text = None if seconds is None else now - seconds, first(query, "sinceTime")
    causes = []
    if tail is not None and tail < 0:
        causes.append(_low("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        causes.append(_low("limitBytes", limit, "must be greater than 0"))
    if seconds is not None and text:
        causes.append(
            FieldError("FieldValueForbidden", "", "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified")
        )
    elif seconds is not None and seconds < 1:
        causes.append(_low("sinceSeconds", seconds, "must be greater than 0"))
    if causes:
        raise invalid_kind("", "PodLogOptions", name, causes)
    if text:
        try:
            since = unix_time(text)
        except Malformed as error:
            raise bad_request(str(error)) from None
    return LogParameters(flag(query, "previous"), flag(query, "timestamps"), since, tail, limit)


def _low(field: str, value: int, why: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {value}: {why}")
