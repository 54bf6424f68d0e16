"""``@controller``: turns a function into a ``Controller``, which says what to watch and how to run it."""

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raycp.base.keys import GVK
from raycp.classify.references import References
from raycp.sdk.definition import DefinitionError, kind_of, selector_text
from raycp.sdk.watches import WatchedKind

Scope = Literal["members", "hub"]
ReconcileFn = Callable[..., Any]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

@dataclass(frozen=True, slots=True)
class OwnedKind:
    """A kind of children: a change of a child requeues its owner.

    ``on="same"``: children in the owner's cluster; ``on="members"``: children of a hub object in member clusters, recognized by
    the label ``raycp.io/owner-uid``: only objects with that label are watched. ``selector`` narrows it further.
    """

    kind: GVK
    on: Literal["same", "members"] = "same"
    selector: str = ""


@dataclass(frozen=True)
class Controller:
    """A reconciler and its declaration. Calling it calls the function, so that it can be tested as one.

    ``resync`` and ``timeout`` are seconds, None: the fleet's default (10 h, 60 s). ``concurrency`` is the most reconciles at once
    over the fleet, None: no limit but the workers' slots. ``crds`` are CustomResourceDefinitions to install on the hub
    (``on="hub"``) or on every member before anything is watched. ``deleted``: call also for a deleted object, with None.

    ``reachability``: whether a change of a cluster (unreachable, usable again, joined, left, other labels) is an input of its
    decisions; ``reachability_of``: paths to the names of the clusters that an object's decision depends on, none: all of them.
    """

    name: str
    kind: GVK
    fn: ReconcileFn
    on: Scope = "members"
    selector: str = ""
    fields: str = ""
    owns: tuple[OwnedKind, ...] = ()
    watches: tuple[WatchedKind, ...] = ()
    reachability: bool = False
    reachability_of: tuple[str, ...] = ()
    resync: float | None = None
    concurrency: int | None = None
    timeout: float | None = None
    deleted: bool = False
    crds: tuple[dict[str, Any], ...] = ()
    module: str = ""
    line: int = 0
    is_async: bool = True
    takes: type[Any] | None = field(default=None, compare=False)
    """The pydantic model that the function's second parameter asks for; None: a dict."""

    @property
    def field_manager(self) -> str:
        """The manager of its writes in ``managedFields``."""
        return f"raycp-{self.name}"

    def owned(self, kind: GVK) -> OwnedKind | None:
        """The declaration of a kind of children."""
        return next((owned for owned in self.owns if owned.kind == kind), None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


def owned(kind: str | GVK, *, on: Literal["same", "members"] = "same", labels: Mapping[str, str] | str | None = None) -> OwnedKind:
    """An entry of ``owns=[...]`` with more than the kind. Raises ``DefinitionError``."""
    if on not in ("same", "members"):
        raise DefinitionError(f'owned({str(kind)!r}): on={on!r} is neither "same" nor "members"')
    return OwnedKind(kind_of(kind, "owned"), on, selector_text(labels, f"owned({str(kind)!r})"))


def controller(
    kind: str | GVK,
    *,
    name: str | None = None,
    on: Scope = "members",
    labels: Mapping[str, str] | str | None = None,
    fields: Mapping[str, str] | str | None = None,
    owns: Iterable[str | GVK | OwnedKind] = (),
    watches: Iterable[WatchedKind] = (),
    reachability: bool | str | Sequence[str] | None = None,
    resync: float | str | None = None,
    concurrency: int | None = None,
    timeout: float | str | None = None,
    deleted: bool = False,
    crds: Sequence[dict[str, Any]] = (),
) -> Callable[[ReconcileFn], Controller]:
    """Declare a reconciler of ``kind`` (``"v1/ConfigMap"``, ``"apps/v1/Deployment"``).

    The function takes ``(ctx, obj)``; ``async def`` runs on the worker's user loop, plain ``def`` in a thread with a
    ``SyncContext``. ``obj`` is a dict, or the pydantic model that its annotation names. ``labels`` and ``fields`` are selectors,
    as dict or as text, and narrow what is watched: an object that no longer matches counts as deleted. ``owns`` lists kinds of
    children, ``watches`` other kinds that it reads (``raycp.sdk.watches.watch``). Durations are seconds or ``"10h"``.

    ``reachability``: True requeues every object when a cluster becomes unreachable, joins, leaves or changes its labels; a path,
    or a list of paths, such as ``status.clusters[*].name`` requeues only objects that name that cluster there. By default True
    for controllers with children in members, False for others. A cluster that a reconcile has found unusable requeues the object
    when it is usable again, whatever is declared.

    Raises ``DefinitionError``.
    """

    def declare(fn: ReconcileFn) -> Controller:
        if not callable(fn) or inspect.isclass(fn):
            raise DefinitionError(f"@controller decorates a function, not {fn!r}")
        label = name if name is not None else fn.__name__.replace("_", "-").strip("-").lower()
        where = f"controller {label!r}"
        if not _NAME.fullmatch(label):
            raise DefinitionError(f"{where}: a name has lower-case letters, digits and '-', 63 at most")
        if on not in ("members", "hub"):
            raise DefinitionError(f'{where}: on={on!r} is neither "members" nor "hub"')
        if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
            raise DefinitionError(f"{where}: concurrency={concurrency!r} is not a whole number of at least 1")
        children = tuple(
            entry if isinstance(entry, OwnedKind) else OwnedKind(kind_of(entry, where)) for entry in _listed(owns, where)
        )
        for entry in children:
            if entry.on == "members" and on != "hub":
                raise DefinitionError(f'{where}: owned(..., on="members") is for controllers with on="hub"')
        watched = _watched(watches, where)
        reads, paths = _reachability(reachability, children, where)
        _check_parameters(fn, where)
        code = inspect.unwrap(fn)
        return Controller(
            name=label,
            kind=kind_of(kind, where),
            fn=fn,
            on=on,
            selector=selector_text(labels, where),
            fields=_field_text(fields, where),
            owns=children,
            watches=watched,
            reachability=reads,
            reachability_of=paths,
            resync=_seconds(resync, f"{where}: resync"),
            concurrency=concurrency,
            timeout=_seconds(timeout, f"{where}: timeout"),
            deleted=deleted,
            crds=tuple(crds),
            module=fn.__module__,
            line=code.__code__.co_firstlineno if hasattr(code, "__code__") else 0,
            is_async=inspect.iscoroutinefunction(code),
            takes=_model(fn),
        )

    return declare


def _field_text(fields: Mapping[str, str] | str | None, where: str) -> str:
    if fields is None:
        return ""
    if isinstance(fields, str):
        return fields.strip()
    for key, value in fields.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise DefinitionError(f"{where}: fields={{{key!r}: {value!r}}} must be text")
    return ",".join(f"{key}={value}" for key, value in sorted(fields.items()))


def _listed(owns: Iterable[str | GVK | OwnedKind], where: str) -> list[str | GVK | OwnedKind]:
    if isinstance(owns, str | OwnedKind | GVK):
        raise DefinitionError(f"{where}: owns= is a list of kinds, write owns=[{str(owns)!r}]")
    return list(owns)


def _watched(watches: Iterable[WatchedKind], where: str) -> tuple[WatchedKind, ...]:
    listed = (watches,) if isinstance(watches, WatchedKind | str) else tuple(watches)
    for entry in listed:
        if not isinstance(entry, WatchedKind):
            raise DefinitionError(f'{where}: watches= is a list of watch("v1/Secret", ...), not of {entry!r}')
    return listed


def _reachability(
    given: bool | str | Sequence[str] | None, children: tuple[OwnedKind, ...], where: str
) -> tuple[bool, tuple[str, ...]]:
    if given is None:
        return any(owned.on == "members" for owned in children), ()
    if isinstance(given, bool):
        return given, ()
    paths = (given,) if isinstance(given, str) else tuple(given)
    for path in paths:
        try:
            References(path)
        except (ValueError, AttributeError) as error:
            raise DefinitionError(f"{where}: reachability={path!r}: {error}") from None
    return bool(paths), paths


def _seconds(value: float | str | None, where: str) -> float | None:
    if value is None:
        return None
    from raycp.config.units import UnitError, parse_duration  # imports pydantic: only where a duration is declared

    try:
        seconds = parse_duration(value)
    except UnitError as error:
        raise DefinitionError(f"{where}={value!r} {error}") from None
    if seconds <= 0:
        raise DefinitionError(f"{where}={value!r} must be longer than zero")
    return seconds


def _check_parameters(fn: ReconcileFn, where: str) -> None:
    try:
        inspect.signature(fn).bind(object(), object())
    except TypeError as error:
        raise DefinitionError(f"{where}: a reconciler takes (ctx, obj): {error}") from None
    except ValueError:  # a callable without a signature, such as a builtin: the first call shows
        return


def _model(fn: ReconcileFn) -> type[Any] | None:
    """The annotation of the second parameter where it is a pydantic model."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
        hints = typing.get_type_hints(inspect.unwrap(fn))
    except Exception:  # an annotation that can't be resolved at run time is no reason to refuse the function
        return None
    hint = hints.get(parameters[1].name) if len(parameters) > 1 else None
    if typing.get_origin(hint) is not None:
        choices = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        hint = choices[0] if len(choices) == 1 else None
    return hint if isinstance(hint, type) and hasattr(hint, "model_validate_json") else None
