"""Whether traces are exported, where to, and how many: ``spec.traces`` of the fleet file, and the standard environment variables
(OpenTelemetry, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter"). The file wins. Pure."""

import math
import re
from collections.abc import Mapping

import msgspec

from raycp.config.strict import InvalidValue
from raycp.config.traces import TracesSpec, collector_url
from raycp.metrics.traces.header_file import BadHeaders, header

PATH = "/v1/traces"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
SAMPLER, ARGUMENT = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
_SPOKEN = "http/protobuf"


class TraceSettingsError(ValueError):
    """An environment variable that can't be used. Its text names it, and says what to do."""


class TraceSettings(msgspec.Struct, frozen=True):
    """``endpoint`` is the whole URL; ``ratio`` the share of traces that are sampled, 0 to 1; ``errors``: failed reconciles
    always."""

    endpoint: str
    ratio: float = 1.0
    errors: bool = False
    headers_file: str = ""


def trace_settings(spec: TracesSpec | None, env: Mapping[str, str]) -> TraceSettings | None:
    """The settings in force; None where no traces are exported. Raises ``TraceSettingsError``, for a variable that would be
    used."""
    spec = spec or TracesSpec()
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = env.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter == "none":
        return None
    endpoint = f"{spec.endpoint.rstrip('/').removesuffix(PATH)}{PATH}" if spec.endpoint else _endpoint(env)
    if not endpoint:
        return None
    if exporter not in ("", "otlp"):
        raise TraceSettingsError(f"OTEL_TRACES_EXPORTER is {_shown(exporter)}: raycp exports by OTLP; write otlp, or none")
    name, protocol = _first(env, PROTOCOLS)
    if protocol not in ("", _SPOKEN):
        remedy = f"write {_SPOKEN}, and the port of the collector's HTTP receiver, usually 4318"
        raise TraceSettingsError(f"{name} is {_shown(protocol)}: raycp exports by {_SPOKEN} only; {remedy}")
    _check_headers(env)
    return TraceSettings(endpoint, _ratio(env) if spec.sample is None else spec.sample, spec.errors, spec.headers_file or "")


def _first(env: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """The first of these variables that is set, and not empty, as an empty one counts as unset."""
    return next(((name, value) for name in names if (value := env.get(name, "").strip())), ("", ""))


def _endpoint(env: Mapping[str, str]) -> str:
    name, text = _first(env, ENDPOINTS)
    if not text:
        return ""
    try:
        url = collector_url(text)
    except InvalidValue as error:
        shown = "" if error.secret else f" ({_shown(text)})"
        raise TraceSettingsError(f"{name}{shown} {error}; {error.remedy}") from None
    return url if name == ENDPOINTS[0] else f"{url.rstrip('/')}{PATH}"


def _check_headers(env: Mapping[str, str]) -> None:
    """The exporter reads them itself, and would print one that it does not understand."""
    name, text = _first(env, HEADERS)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for number, part in enumerate(parts, 1):
        try:
            header(part, f"header {number}")
            wrong = re.search(r'[";\\]', part) is not None
        except BadHeaders as error:
            raise TraceSettingsError(f"{name}: {error}; write name=value,name=value") from None
        if wrong:
            remedy = "percent-encode quotes, semicolons and backslashes"
            raise TraceSettingsError(f"{name}: header {number} has characters that must be encoded; {remedy}")


def _ratio(env: Mapping[str, str]) -> float:
    sampler, argument = env.get(SAMPLER, "").strip().lower(), env.get(ARGUMENT, "").strip()
    match sampler.removeprefix("parentbased_"):  # a change has no parent: its root decides
        case "" | "always_on":
            return 1.0
        case "always_off":
            return 0.0
        case "traceidratio":
            try:
                ratio = float(argument or "1")
            except ValueError:
                ratio = math.nan
            if not 0.0 <= ratio <= 1.0:
                raise TraceSettingsError(f"{ARGUMENT} is {_shown(argument)}; write a number from 0 to 1")
            return ratio
    known = "always_on, always_off or traceidratio"
    raise TraceSettingsError(f"{SAMPLER} is {_shown(sampler)}, which raycp does not know; write {known}, or set spec.traces.sample")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
