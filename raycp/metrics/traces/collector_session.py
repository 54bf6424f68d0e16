"""The exporter's requests to the collector, with bounds for what it answers: a collector may be anything."""

import time
from typing import Any

import requests

from raycp.base.text import message_of
from raycp.metrics.recorder.scrubber import scrub
from raycp.metrics.traces.header_file import read_headers

MOST_READ = 64 * 1024
"""Bytes of an answer that are read; a collector's has a few. The rest costs the connection."""


def _as_it_is(request: Any) -> Any:
    """No credentials but the headers': without this, ``requests`` takes some from ``~/.netrc`` instead."""
    return request


class CollectorSession(requests.Session):  # type: ignore[misc]
    """Adds the headers of ``headers_file``, read for each request since tokens change. Follows no redirect, which would carry them
    to another host. ``problem``: why the last request failed, without secrets; empty where it did not."""

    def __init__(self, headers_file: str) -> None:
        super().__init__()
        self.auth = _as_it_is
        self.problem = ""
        self._headers_file = headers_file

    def request(self, method: str, url: str, **given: Any) -> Any:
        """See ``requests.Session.request``; the body of the answer is thrown away. Raises what that does, and ``BadHeaders``."""
        limit = time.monotonic() + float(given.get("timeout") or 0.0)
        try:
            if self._headers_file:
                given["headers"] = {**(given.get("headers") or {}), **read_headers(self._headers_file)}
            answer = super().request(method, url, **{**given, "stream": True, "allow_redirects": False})
            try:
                if 300 <= answer.status_code < 400:  # the exporter would count it as success
                    raise requests.RequestException(f"the collector answers with a redirect ({answer.status_code})")
                _drain(answer.raw, limit)
            finally:
                answer.close()
        except Exception as error:
            self.problem = scrub(message_of(error))
            raise
        self.problem = "" if answer.ok else f"the collector answers with status {answer.status_code}"
        return answer


def _drain(raw: Any, limit: float) -> None:
    """Read the body to its end, so that its connection is used again: as far as it is short and comes in time."""
    left = MOST_READ
    while left > 0 and time.monotonic() < limit:
        part = raw.read1(left)
        if not part:
            return
        left -= len(part)
