"""A record as a line for people: time, what, subject, fields."""

import datetime
from collections.abc import Mapping
from typing import Any

from raycp.metrics.recorder.record_format import FlightRecord


def line_of(record: FlightRecord) -> str:
    """``12:00:01.123  handed_out  echo:east/default/a  worker standard/0, attempt 1, waited 0.2 ms``; times are UTC."""
    at = datetime.datetime.fromtimestamp(record.at, datetime.UTC).strftime("%H:%M:%S.%f")[:-3]
    fields = ", ".join(_field(name, value) for name, value in record.fields.items() if value not in (None, "", [], {}))
    parts = [at, f"{record.what:<10}", str(record.subject), fields]
    return "  ".join(part for part in parts if part)


def as_json(record: FlightRecord) -> dict[str, Any]:
    """Its fields under their names, with ``at``, ``what``, and what it is about: ``cluster``, and of a key its four parts."""
    subject: Mapping[str, str] = {}
    if isinstance(record.subject, str):
        subject = {"cluster": record.subject} if record.subject else {}
    else:
        subject = record.subject._asdict()
    return {"at": record.at, "what": record.what, **subject, "fields": record.fields}


def _field(name: str, value: Any) -> str:
    if name == "calls" and isinstance(value, list):
        return ", ".join(_call(call) for call in value if isinstance(call, dict))
    if name in ("seconds", "delay", "waited") and isinstance(value, int | float):
        return f"{name} {1000 * value:.1f} ms" if value < 1 else f"{name} {value:.2f} s"
    return f"{name.replace('_', ' ')} {'; '.join(map(str, value)) if isinstance(value, list) else value}"


def _call(call: Mapping[str, Any]) -> str:
    status = {0: "no answer", -1: "not sent"}.get(call.get("status", 0), call.get("status"))
    return f"{call.get('verb')} {call.get('path')} in {call.get('cluster')}: {status}"
