"""``spec.traces``: whether traces of changes are exported, to which collector, and how many of them."""

import re
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from raycp.config.strict import InvalidValue, Strict
from raycp.config.units import Percent

_REMEDY = "write the address of the collector's OTLP/HTTP receiver, such as http://collector:4318"
_VISIBLE = re.compile(r"[\x21-\x7e]+")


def collector_url(text: str) -> str:
    """``text``, the URL of an OTLP/HTTP receiver. Raises ``InvalidValue``."""
    if not _VISIBLE.fullmatch(text):
        raise InvalidValue("is not a URL: it is empty, or has spaces or characters that no URL has", _REMEDY)
    if "@" in text.partition("://")[2].partition("/")[0]:
        remedy = "put what authenticates raycp into a file of headers, and name it as headersFile"
        raise InvalidValue("carries a user name or password, which anyone who reads the fleet file sees", remedy, secret=True)
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise InvalidValue(f"is not a URL: {error}", _REMEDY) from None
    if url.scheme not in ("http", "https"):
        shown = f"{url.scheme}://" if url.netloc else "no protocol that is known"
        raise InvalidValue(f"has {shown}: traces are sent as OTLP over HTTP, by http:// or https://", _REMEDY)
    if not host or port == 0:
        raise InvalidValue("names no host, or port 0", _REMEDY)
    if url.query or url.fragment:
        raise InvalidValue("has a query or a fragment, which OTLP does not know", "remove what follows ? or #", secret=True)
    return text


def _absolute(path: str) -> str:
    if not PurePosixPath(path).is_absolute():
        raise InvalidValue("is not an absolute path", "write that on the nodes, such as /etc/raycp/traces/headers")
    return path


class TracesSpec(Strict):
    """Traces of changes, for OpenTelemetry. Without an endpoint, here or in the environment of the fleet's actors, there are
    none."""

    endpoint: Annotated[str, AfterValidator(collector_url)] | None = None
    """URL of the collector's OTLP/HTTP receiver, such as `http://collector:4318`; `/v1/traces` is added where it does not end so.
    By
    default that of `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    headers_file: Annotated[str, AfterValidator(_absolute)] | None = None
    """A file on each node with headers of the requests, one `name=value` a line, such as a mounted Secret with a token; read for
    each request."""
    sample: Percent | None = None
    """Share of the changes that are traced; by default that of `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, else all."""
    errors: bool = False
    """Whether failed reconciles are exported even of changes that are not sampled."""
