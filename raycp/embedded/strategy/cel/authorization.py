"""Kubernetes' CEL library of authorization checks (``apiserver/pkg/cel/library/authz.go``)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from raycp.embedded.strategy.cel.operators import CelError, no_overload

CHECK_COST = 350_000
"""units of one check: an expression may make two"""


@dataclass(frozen=True)
class Asked:
    """What is asked of the authorizer. ``user``: another one than of the request. ``path``: of no resource."""

    verb: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    user: str = ""


Decide = Callable[[Asked], tuple[bool, str]]
"""whether it is allowed, and why"""


@dataclass(frozen=True)
class AuthorizationCheck:
    """An authorizer, or a check that is being built. ``stage``: which methods it has."""

    decide: Decide
    asked: Asked = Asked()
    stage: str = "authorizer"


@dataclass(frozen=True)
class Decided:
    """A decision. The authorizer here never fails to decide."""

    allowed: bool
    reason: str
    errored: bool = False
    error: str = ""


def _step(stage: str, becomes: str, field: str) -> Callable[[Any, Any], AuthorizationCheck]:
    def build(value: Any, text: Any) -> AuthorizationCheck:
        if not isinstance(value, AuthorizationCheck) or value.stage != stage or not isinstance(text, str):
            raise no_overload(value, text)
        return replace(value, asked=replace(value.asked, **{field: text}), stage=becomes)

    return build


def _path(value: Any, text: Any) -> AuthorizationCheck:
    if text == "":
        raise CelError("path must not be empty")
    return _step("authorizer", "path", "path")(value, text)


def _check(value: Any, verb: Any) -> Decided:
    if not isinstance(value, AuthorizationCheck) or value.stage not in ("path", "resource") or not isinstance(verb, str):
        raise no_overload(value, verb)
    return Decided(*value.decide(replace(value.asked, verb=verb)))


def _account(value: Any, namespace: Any, name: Any) -> AuthorizationCheck:
    return _step("authorizer", "authorizer", "user")(value, f"system:serviceaccount:{namespace}:{name}")


def _decided(value: Any) -> Decided:
    if not isinstance(value, Decided):
        raise no_overload(value)
    return value


def _selected(value: Any, selector: Any) -> AuthorizationCheck:
    """Selectors narrow what is asked; rules of RBAC know none, so that they do not change the decision."""
    if not isinstance(value, AuthorizationCheck) or value.stage != "resource" or not isinstance(selector, str):
        raise no_overload(value, selector)
    return value


AUTHORIZATION_METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "path": ((1,), _path),
    "group": ((1,), _step("authorizer", "group", "group")),
    "serviceAccount": ((2,), _account),
    "resource": ((1,), _step("group", "resource", "resource")),
    "subresource": ((1,), _step("resource", "resource", "subresource")),
    "namespace": ((1,), _step("resource", "resource", "namespace")),
    "name": ((1,), _step("resource", "resource", "name")),
    "fieldSelector": ((1,), _selected),
    "labelSelector": ((1,), _selected),
    "check": ((1,), _check),
    "allowed": ((0,), lambda value: _decided(value).allowed),
    "reason": ((0,), lambda value: _decided(value).reason),
    "errored": ((0,), lambda value: _decided(value).errored),
    "error": ((0,), lambda value: _decided(value).error),
}
