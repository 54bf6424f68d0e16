"""The states of a reflector and the transitions between them, as pure functions.

| in state | when | then |
|---|---|---|
| ``Streaming`` | the stream has no end mark, or the server rejects it | ``Listing`` |
| ``Streaming``, ``Listing`` | the whole state is read | ``Watching`` from its version; ``Replaying`` from an older watermark |
| ``Replaying`` | the watch has reached the version of the list | ``Watching`` |
| ``Replaying`` | 410 | ``Watching`` from the version of the list, at once |
| ``Watching`` | 410 | ``Streaming``, at once; a second 410 within 5 s: after the backoff |
| ``Streaming`` | beyond the limits | ``Listing``, after the backoff: pages may be smaller than lines |
| ``Replaying``, ``Watching`` | version too large, beyond the limits, 404, no event, bug | ``Streaming``, after the backoff |
| any | the cluster was restored or recreated | ``Streaming``, or still ``Listing``, with ``void``, at once |
| any | other errors, a lost connection included | the same state, after the backoff |

``Listing`` takes the place of ``Streaming`` if the server cannot stream. An error in ``Streaming`` or ``Listing`` does not lead
to the other one; a restore makes them ``void``.
"""

import msgspec

from raycp.base.objects import Obj
from raycp.cache.status import FaultOwner
from raycp.kube.errors import ApiError, BadLine, KubeError, TooLarge, Unreachable, unserved

EXPIRY_SECONDS = 5.0
"""A second 410 within this time waits for the backoff; a single one is followed by a list at once."""


class Restored(Exception):
    """The cluster is another one than before, or an older state of it."""


class ServerFacts(msgspec.Struct, frozen=True):
    """What is known of the server, whatever the state."""

    streams: bool = True
    """it can stream the initial state, and is asked to"""
    contact_lost: bool = False
    """the connection broke since the last watch began: another cluster may answer next"""
    expired_at: float = float("-inf")
    """when it last answered 410, in seconds of the reflector's clock"""


class Streaming(msgspec.Struct, frozen=True):
    """``watermark`` is the version up to which a predecessor had observed everything. ``void``: the cluster is known to be
    another one, or an older state, than the one in the store.
    """

    server: ServerFacts
    watermark: int | None = None
    void: bool = False


class Listing(msgspec.Struct, frozen=True):
    """``watermark`` and ``void`` as in ``Streaming``."""

    server: ServerFacts
    watermark: int | None = None
    void: bool = False


class Replaying(msgspec.Struct, frozen=True):
    """Watch from ``since``, which moves forward; the list was at version ``until``."""

    server: ServerFacts
    since: int
    until: int
    earlier: dict[str, Obj] = {}
    """the last replayed state of each object that changed again before ``until``, by uid; the replay fills it"""


class Watching(msgspec.Struct, frozen=True):
    """Watch from version ``since``, which moves forward with each event. ``opaque``: the last version where it is no number."""

    server: ServerFacts
    since: int
    opaque: str = ""


State = Streaming | Listing | Replaying | Watching


def initial(*, stream: bool, watermark: int | None) -> State:
    """The first state. ``stream``: ask the server to stream the initial state."""
    return _first(ServerFacts(streams=stream), watermark)


def without_stream(state: Streaming, *, supported: bool) -> Listing:
    """The stream did not give the whole state; ``supported`` is False if the server rejected it."""
    server = msgspec.structs.replace(state.server, streams=supported)
    return Listing(server, state.watermark, state.void)


def after_list(state: Streaming | Listing, version: int, *, fresh: bool, opaque: str = "") -> Replaying | Watching:
    """The list at ``version`` is in the store. ``fresh``: the store was empty before, so that a watermark can be replayed."""
    if fresh and state.watermark and state.watermark < version:
        return Replaying(state.server, state.watermark, version)
    return Watching(state.server, version, opaque)


def after_replay(state: Replaying) -> Watching:
    """The watch has reached the version of the list."""
    return Watching(state.server, state.since)


def verified(state: State) -> State:
    """The server that answers now is still the same cluster."""
    return msgspec.structs.replace(state, server=msgspec.structs.replace(state.server, contact_lost=False))


def after_error(state: State, error: Exception, now: float) -> tuple[State, float | None]:
    """The state in which to go on, and the least wait in seconds before it (the backoff may ask for more); None: at once."""
    if isinstance(error, Restored):
        return _repeat_list(state, void=True), None
    if isinstance(error, ApiError):
        return _after_api_error(state, error, now)
    if isinstance(error, TooLarge):
        return _without_stream_after(_repeat_list(state)), 0.0
    if isinstance(error, Unreachable):
        lost = _with_server(state, contact_lost=True)
        return _repeat_list(lost) if unserved(error) else lost, 0.0
    if isinstance(error, KubeError) and not isinstance(error, BadLine):
        return state, 0.0
    return _repeat_list(state), 0.0


def fault_of(error: Exception, *, verified: bool) -> FaultOwner:
    """Whose failure it is. ``verified``: the server as a whole was well in the same attempt."""
    if isinstance(error, Restored):
        return FaultOwner.NONE
    if isinstance(error, Unreachable):
        return FaultOwner.KIND if verified and error.sent else FaultOwner.SERVER
    if isinstance(error, ApiError) and (error.status == 401 or (error.status >= 500 and not verified)):
        return FaultOwner.NONE if error.too_large_version else FaultOwner.SERVER
    return FaultOwner.KIND


def _after_api_error(state: State, error: ApiError, now: float) -> tuple[State, float | None]:
    wait = error.retry_after or 0.0
    if error.expired:
        if isinstance(state, Replaying):  # the watermark is too old to replay: watch from the list
            return Watching(state.server, state.until), None
        again = now - state.server.expired_at <= EXPIRY_SECONDS
        return _repeat_list(_with_server(state, expired_at=now)), wait if again else None
    if error.too_large_version or error.status == 404:
        return _repeat_list(state), wait
    return state, wait


def _repeat_list(state: State, *, void: bool = False) -> State:
    if isinstance(state, Replaying | Watching):
        return _first(state.server, None, void=void)
    return msgspec.structs.replace(state, watermark=None, void=True) if void else state


def _without_stream_after(state: State) -> State:
    return without_stream(state, supported=state.server.streams) if isinstance(state, Streaming) else state


def _first(server: ServerFacts, watermark: int | None, *, void: bool = False) -> State:
    return Streaming(server, watermark, void) if server.streams else Listing(server, watermark, void)


def _with_server(state: State, **facts: bool | float) -> State:
    return msgspec.structs.replace(state, server=msgspec.structs.replace(state.server, **facts))
