"""``report_foreign``: objects that claim to be children of the reconciled object and are not are shown on it."""

from collections.abc import Sequence

from raycp.sdk.context import Context

REASON = "ForeignChildren"
"""Of the Event."""

_SHOWN = 5


def report_foreign(ctx: Context, foreign: Sequence[str]) -> None:
    """A Warning Event that names ``foreign``, as ``cluster/namespace/name``: they are left alone, and left out."""
    names = ", ".join(sorted(foreign)[:_SHOWN])
    more = ", and others" if len(foreign) > _SHOWN else ""
    note = f"ignored, since they claim to be its children and are not proven to be made by this fleet: {names}{more}"
    ctx.event(REASON, note, type="Warning")
