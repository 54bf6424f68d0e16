"""Labels and taints: which nodes and clusters a job's Pods may use. The rules are those of Kubernetes
(``k8s.io/component-helpers/scheduling/corev1``)."""

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

import msgspec

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]


class LabelRequirement(msgspec.Struct, frozen=True):
    """A requirement on a label: ``LabelSelectorRequirement``. ``NotIn`` holds where the label is missing."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` meet it."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None

    def __str__(self) -> str:
        if self.operator in ("In", "NotIn"):
            return f"{self.key} {self.operator} ({', '.join(self.values)})"
        return f"{self.key} {self.operator}"


class TaintSpec(msgspec.Struct, frozen=True):
    """A taint of a node or a cluster."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


class DeclaredTaint(Protocol):
    """A taint as a file declares it."""

    key: str
    value: str
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


def taints_of(declared: Iterable[DeclaredTaint]) -> tuple[TaintSpec, ...]:
    """As placement reads them."""
    return tuple(TaintSpec(each.key, each.value, each.effect) for each in declared)


class TolerationSpec(msgspec.Struct, frozen=True):
    """A toleration. An empty ``key`` with ``Exists`` tolerates every taint, an empty ``effect`` every effect. ``seconds``: how long
    it does so, counted from when the taint ``NoExecute`` met what runs; None: for ever."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None

    def covers(self, taint: TaintSpec) -> bool:
        """Whether it tolerates ``taint``."""
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.operator == "Exists"
        return self.key == taint.key and (self.operator == "Exists" or self.value == taint.value)


def untolerated(taints: Iterable[TaintSpec], tolerations: Iterable[TolerationSpec], *, soft: bool = False) -> TaintSpec | None:
    """The first taint that keeps new Pods away (with ``soft``, of those that only make a place less preferred); None if there is
    none. Who tolerates one for a time only sends nothing new there: it would have to leave again."""
    allowed = [each for each in tolerations if each.seconds is None]
    for taint in taints:
        if (taint.effect == "PreferNoSchedule") == soft and not any(each.covers(taint) for each in allowed):
            return taint
    return None


def expelling(taints: Iterable[TaintSpec], tolerations: Iterable[TolerationSpec]) -> tuple[TaintSpec, int] | None:
    """The taint ``NoExecute`` because of which what runs has to leave first, and after how many seconds; None if it may stay. Of
    several tolerations that cover a taint the first counts (``GetMatchingTolerations`` of Kubernetes)."""
    known, found = tuple(tolerations), list[tuple[TaintSpec, int]]()
    for taint in taints:
        if taint.effect == "NoExecute":
            first = next((each for each in known if each.covers(taint)), None)
            seconds = 0 if first is None else first.seconds
            if seconds is not None:
                found.append((taint, max(0, seconds)))
    return min(found, key=lambda each: each[1], default=None)
