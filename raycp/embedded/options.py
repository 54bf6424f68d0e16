"""Query parameters and option bodies of requests, parsed and validated as ``metav1`` does."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from raycp.base.text_cache import cached_by_text
from raycp.embedded.errors import FieldError, StatusError, bad_request, invalid_kind
from raycp.embedded.strategy.scalars import Malformed, parse_duration, parse_integer

Query = dict[str, list[str]]

_NONE: Query = {}
META = "meta.k8s.io"


@cached_by_text(2048)
def parse_query(text: str) -> Query:
    """The parameters of a query string. The result is shared: don't change it."""
    if not text:
        return _NONE
    found: Query = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        found.setdefault(key, []).append(value)
    return found


def first(query: Query, name: str) -> str:
    """The first value of a parameter, or an empty string."""
    values = query.get(name)
    return values[0] if values else ""


def flag(query: Query, name: str) -> bool:
    """A boolean parameter as apimachinery reads it: absent, ``false`` and ``0`` are false, all else is true."""
    values = query.get(name)
    return bool(values) and values is not None and values[0].lower() not in ("false", "0")


def integer(query: Query, name: str) -> int | None:
    """An integer parameter. Raises ``StatusError`` 400."""
    text = first(query, name)
    if not text:
        return None
    try:
        return parse_integer(text)
    except Malformed as error:
        raise bad_request(str(error)) from None


_LONG = frozenset({"attach", "exec", "log", "portforward", "proxy", "watch"})
"""path segments of requests that may last, which have no deadline"""


def check_timeout(path: str, query_text: str) -> None:
    """Refuse (400) a ``timeout`` that is no Go duration (``WithRequestDeadline``). Watches, logs and the like have none."""
    query = parse_query(query_text)
    text = first(query, "timeout")
    if not text or flag(query, "watch") or not _LONG.isdisjoint(path.split("/")):
        return
    try:
        parse_duration(text)
    except Malformed as error:
        raise bad_request(f"invalid timeout specified in the request URL - {error}") from None


def not_supported(where: str, value: str, allowed: tuple[str, ...]) -> FieldError:
    """The cause that lists the supported values."""
    listed = ", ".join(f'"{each}"' for each in allowed)
    return FieldError("FieldValueNotSupported", where, f'Unsupported value: "{value}": supported values: {listed}')


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of create, update and patch. ``manager`` is the field manager, from the parameter or the User-Agent."""

    dry_run: bool = False
    manager: str = "unknown"
    validation: str = ""
    force: bool | None = None


@cached_by_text(2048)
def write_options(query_text: str, user_agent: str, kind: str, apply: bool) -> WriteOptions:
    """Options of a write; ``kind`` is CreateOptions, UpdateOptions or PatchOptions. Raises ``StatusError`` 422."""
    query = parse_query(query_text)
    causes: list[FieldError] = []
    manager = first(query, "fieldManager")
    if len(manager) > 128:
        causes.append(FieldError("FieldValueTooLong", "fieldManager", "Too long: may not be more than 128 bytes"))
    elif not manager.isprintable():
        causes.append(
            FieldError(
                "FieldValueInvalid",
                "fieldManager",
                f'Invalid value: "{manager}": should only contain printable characters',
            )
        )
    if apply and not manager:
        causes.append(FieldError("FieldValueRequired", "fieldManager", "Required value: is required for apply patch"))
    force = flag(query, "force") if "force" in query else None
    if force is not None and kind == "PatchOptions" and not apply:
        causes.append(FieldError("FieldValueForbidden", "force", "Forbidden: may not be specified for non-apply patch"))
    causes += _dry_run(query.get("dryRun", ()))
    validation = first(query, "fieldValidation")
    if validation not in ("", "Ignore", "Warn", "Strict"):
        causes.append(not_supported("fieldValidation", validation, ("Ignore", "Strict", "Warn")))
    if causes:
        raise invalid_kind(META, kind, "", causes)
    if not manager:
        manager = "".join(c for c in user_agent.split("/")[0] if c.isprintable())[:128] or "unknown"
    return WriteOptions(bool(first(query, "dryRun")), manager, validation or "Warn", force)


def _dry_run(values: Any) -> list[FieldError]:
    given = [value for value in values if value]
    if all(value == "All" for value in given):
        return []
    listed = given[0] if len(given) == 1 else str(given)
    return [not_supported("dryRun", listed, ("All",))]


@dataclass(slots=True)
class DeleteOptions:
    """``metav1.DeleteOptions``. ``policy`` is Background, Foreground, Orphan, or empty if none was given."""

    dry_run: bool = False
    grace: int | None = None
    policy: str = ""
    uid: str = ""
    resource_version: str = ""
    body: dict[str, Any] = field(default_factory=dict)


def delete_options(query: Query, body: bytes, decoded: dict[str, Any] | None = None) -> DeleteOptions:
    """Parse the body, or the query if there is no body. Raises ``StatusError`` 400, 422."""
    given: dict[str, Any] = {}
    if decoded is not None:
        given = decoded
    elif body.strip():
        try:
            loaded = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
        if not isinstance(loaded, dict):
            raise bad_request("couldn't get version/kind; json parse error: not an object")
        given = loaded
    else:
        if "gracePeriodSeconds" in query:
            given["gracePeriodSeconds"] = integer(query, "gracePeriodSeconds")
        if "orphanDependents" in query:
            given["orphanDependents"] = flag(query, "orphanDependents")
        if "propagationPolicy" in query:
            given["propagationPolicy"] = first(query, "propagationPolicy")
        if "dryRun" in query:
            given["dryRun"] = query["dryRun"]
    if "dryRun" in query and not given.get("dryRun"):
        given = {**given, "dryRun": query["dryRun"]}
    return _checked(given)


def _checked(given: dict[str, Any]) -> DeleteOptions:
    policy = given.get("propagationPolicy") or ""
    orphan = given.get("orphanDependents")
    preconditions = given.get("preconditions") or {}
    grace = given.get("gracePeriodSeconds")
    if not isinstance(preconditions, dict) or not (grace is None or type(grace) is int) or not isinstance(policy, str):
        raise bad_request('DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal')
    causes: list[FieldError] = []
    if policy and orphan is not None:
        causes.append(
            FieldError(
                "FieldValueInvalid",
                "propagationPolicy",
                f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set',
            )
        )
    if policy not in ("", "Background", "Foreground", "Orphan"):
        causes.append(not_supported("propagationPolicy", policy, ("Foreground", "Background", "Orphan", "nil")))
    causes += _dry_run(given.get("dryRun") or ())
    if causes:
        raise invalid_kind(META, "DeleteOptions", "", causes)
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    return DeleteOptions(
        dry_run=bool(given.get("dryRun")),
        grace=grace,
        policy=policy,
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        body=given,
    )


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of list, watch and deletecollection. ``rv`` is None if none was given."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    token: str = ""
    rv: int | None = None
    match: str = ""
    watch: bool = False
    bookmarks: bool = False
    initial_events: bool | None = None
    timeout: int | None = None


@cached_by_text(1024)
def list_options(query_text: str) -> ListOptions:
    """Raises ``StatusError`` 400, 422."""
    query = parse_query(query_text)
    watch = flag(query, "watch")
    match, token, rv_text = (
        first(query, "resourceVersionMatch"),
        first(query, "continue"),
        first(query, "resourceVersion"),
    )
    initial = flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None
    limit = integer(query, "limit") or 0
    timeout = integer(query, "timeoutSeconds")
    causes = _watch_causes(match, initial) if watch else _list_causes(match, token, rv_text, initial)
    if causes:
        raise invalid_kind(META, "ListOptions", "", causes)
    if token and rv_text not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    return ListOptions(
        labels=first(query, "labelSelector"),
        fields=first(query, "fieldSelector"),
        limit=max(limit, 0),
        token=token,
        rv=revision(rv_text) if watch else _list_revision(rv_text),
        match=match,
        watch=watch,
        bookmarks=flag(query, "allowWatchBookmarks"),
        initial_events=initial,
        timeout=timeout,
    )


def revision(text: str) -> int | None:
    """A resourceVersion; None for none. Raises 422 without an object's name for one that is no number, as storage does."""
    if not text:
        return None
    try:
        return parse_integer(text, signed=False)
    except Malformed as error:
        raise StatusError(500, "", f'resourceVersion: Invalid value: "{text}": {error}') from None


def _list_revision(text: str) -> int | None:
    """As ``revision``, of a list. Raises 400 (``storage.ValidateListOptions``)."""
    try:
        return revision(text)
    except StatusError as error:
        raise bad_request(f"invalid resource version: {error.message}") from None


def _forbidden(where: str, why: str) -> FieldError:
    return FieldError("FieldValueForbidden", where, f"Forbidden: {why}")


def _watch_causes(match: str, initial: bool | None) -> list[FieldError]:
    where = "resourceVersionMatch"
    if initial is None:
        return (
            [_forbidden(where, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")] if match else []
        )
    if match != "NotOlderThan":
        causes = [_forbidden(where, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")]
        if match:
            causes.append(not_supported(where, match, ("NotOlderThan",)))
        return causes
    return []


def _list_causes(match: str, token: str, rv: str, initial: bool | None) -> list[FieldError]:
    where, causes = "resourceVersionMatch", []
    if initial is not None:
        causes.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if match:
        if not rv:
            causes.append(_forbidden(where, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if token:
            causes.append(_forbidden(where, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            causes.append(not_supported(where, match, ("Exact", "NotOlderThan")))
        if match == "Exact" and rv == "0":
            causes.append(_forbidden(where, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    return causes
