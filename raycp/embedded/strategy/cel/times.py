"""CEL's accessors of times and durations, which take a time zone where they read a time (cel-spec, ``langdef.md``)."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from raycp.embedded.strategy.cel.operators import CelError, Duration, Timestamp, no_overload

_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)")


def _zone(name: str) -> tzinfo:
    found = _OFFSET.fullmatch(name)
    if found is not None:
        ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-ahead if found[1] == "-" else ahead)
    try:
        return UTC if name in ("", "UTC") else ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise CelError(f"unknown time zone {name}") from None


def _read(field: Callable[[datetime], int], units: float = 0.0) -> Callable[..., int]:
    def read(value: Any, zone: Any = "") -> int:
        if isinstance(value, Timestamp):
            return field(datetime.fromtimestamp(float(value), _zone(zone)))
        if isinstance(value, Duration) and units and not zone:
            return int(float(value) * units)
        raise no_overload(value)

    return read


TIME_METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "getFullYear": ((0, 1), _read(lambda when: when.year)),
    "getMonth": ((0, 1), _read(lambda when: when.month - 1)),
    "getDayOfYear": ((0, 1), _read(lambda when: when.timetuple().tm_yday - 1)),
    "getDayOfMonth": ((0, 1), _read(lambda when: when.day - 1)),
    "getDate": ((0, 1), _read(lambda when: when.day)),
    "getDayOfWeek": ((0, 1), _read(lambda when: when.isoweekday() % 7)),
    "getHours": ((0, 1), _read(lambda when: when.hour, 1 / 3600)),
    "getMinutes": ((0, 1), _read(lambda when: when.minute, 1 / 60)),
    "getSeconds": ((0, 1), _read(lambda when: when.second, 1)),
    "getMilliseconds": ((0, 1), _read(lambda when: when.microsecond // 1000, 1000)),
}
