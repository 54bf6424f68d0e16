"""Durations and ages as ``kubectl`` shows them (``k8s.io/apimachinery/pkg/util/duration``)."""

from raycp.embedded.strategy.scalars import Malformed, unix_time

UNKNOWN = "<unknown>"


def duration(seconds: float) -> str:
    """``duration.HumanDuration``: 59s, 3m20s, 5h, 2d3h, 1y20d."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    if days < 365 * 8:
        return f"{years}y{days % 365}d" if days % 365 else f"{years}y"
    return f"{years}y"


def age(text: str | None, now: float) -> str:
    """Time since an RFC 3339 time."""
    if not text:
        return UNKNOWN
    try:
        return duration(now - unix_time(text))
    except Malformed:
        return UNKNOWN
