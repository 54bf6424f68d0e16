"""Stage files: kwok's ``kwok.x-k8s.io/v1alpha1`` ``Stage``, compiled to functions.

A stage has a ``selector`` of objects, a ``weight`` against other matching stages, a ``delay``, and its effects (``next``
or ``steps``). The fields are defined by kwok's ``pkg/apis/v1alpha1/stage_types.go`` and ``pkg/utils/lifecycle``.
``impersonation`` and ``statusPatchAs`` are accepted and ignored, since stages act as the cluster's own controller.
``cel`` is refused: use jq.

An addition to kwok: expressions and templates can read ``.raycp``, the Pod's plan from ``failures.plan``.
"""

import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from raycp.embedded.life.evaluator import Answers, JqError, check
from raycp.embedded.life.gotemplate import Functions, Template, TemplateError
from raycp.embedded.strategy.scalars import Malformed, parse_duration, unix_time

Test = Callable[[Any, Answers], bool]
"""whether an object, for which jq gave these answers, is selected"""


class StageError(ValueError):
    """A stage file that can't be used; the message names file, stage and field."""


@dataclass(frozen=True)
class Patch:
    """One patch: ``template`` renders the YAML of the patch below ``root``."""

    template: Template
    root: str
    subresource: str
    type: str
    """json, merge, strategic; empty: strategic for Pods and nodes, merge for others"""


@dataclass(frozen=True)
class StageStep:
    """One step of a stage; the fields that are set take effect in this order."""

    event: Mapping[str, str] | None = None
    finalizers: Mapping[str, Any] | None = None
    delete: bool = False
    patch: Patch | None = None
    apply: Patch | None = None


@dataclass(frozen=True)
class LifeStage:
    """A compiled stage."""

    name: str
    api_version: str
    kind: str
    tests: tuple[Test, ...]
    weight: Callable[[Answers], int | None]
    duration: Callable[[Answers, float], float | None]
    jitter: Callable[[Answers, float], float | None]
    steps: tuple[StageStep, ...]
    expressions: tuple[str, ...] = ()
    """what jq is asked of an object, for ``Answers``"""
    immediate: bool = False
    source: str = field(default="", compare=False)

    def matches(self, obj: Any, answers: Answers) -> bool:
        """Whether the stage applies to ``obj``."""
        return all(test(obj, answers) for test in self.tests)

    def delay(self, answers: Answers, wall: float, rng: random.Random) -> float:
        """Draw the delay in seconds: uniform between duration and jitter, or the jitter itself if it is smaller."""
        duration = self.duration(answers, wall)
        if duration is None:
            return 0.0
        jitter = self.jitter(answers, wall)
        if jitter is None:
            return max(0.0, duration)
        return max(0.0, jitter if jitter <= duration else rng.uniform(duration, jitter))


def choose(stages: list[LifeStage], obj: Any, answers: Answers, rng: random.Random) -> LifeStage | None:
    """The next stage of ``obj``: by weight among those that match, as kwok's ``Lifecycle.Match`` does."""
    matching = [stage for stage in stages if stage.matches(obj, answers)]
    if len(matching) < 2:
        return matching[0] if matching else None
    weights = [stage.weight(answers) for stage in matching]
    total = sum(weight for weight in weights if weight)
    if total:
        return rng.choices(matching, [weight or 0 for weight in weights])[0]
    weighted = [stage for stage, weight in zip(matching, weights, strict=True) if weight is not None]
    return rng.choice(weighted or matching)


def load_stages(text: str, source: str, functions: Functions) -> list[LifeStage]:
    """The stages of a YAML text with any number of documents. Raises ``StageError``."""
    try:
        documents = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise StageError(f"{source}: not YAML: {error}") from error
    found: list[LifeStage] = []
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or document.get("kind") != "Stage":
            raise StageError(f"{source}: a document that is no Stage (kind: Stage)")
        if not str(document.get("apiVersion", "")).startswith("kwok.x-k8s.io/"):
            raise StageError(f"{source}: apiVersion is {document.get('apiVersion')!r}, expected kwok.x-k8s.io/v1alpha1")
        stage = _Reader(document, source, functions).stage()
        if stage is not None:
            found.append(stage)
    return found


class _Reader:
    def __init__(self, document: dict[str, Any], source: str, functions: Functions) -> None:
        self.document, self.source, self.functions = document, source, functions
        self.name = str((document.get("metadata") or {}).get("name") or "unnamed")
        self.expressions: dict[str, None] = {}

    def error(self, path: str, what: str) -> StageError:
        return StageError(f"{self.source}: stage {self.name}: {path}: {what}")

    def only(self, path: str, value: Any, known: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error(path, "is not a map")
        for key in value:
            if key not in known.split():
                raise self.error(f"{path}.{key}", f"unknown field; known are {', '.join(known.split())}")
        return value

    def stage(self) -> LifeStage | None:
        spec = self.only(
            "spec",
            self.document.get("spec"),
            "resourceRef selector weight weightFrom delay next steps immediateNextStage",
        )
        ref = self.only("spec.resourceRef", spec.get("resourceRef"), "apiGroup kind")
        if not ref.get("kind"):
            raise self.error("spec.resourceRef.kind", "is missing")
        if spec.get("selector") is None:
            return None  # selects nothing, according to kwok's type
        delay = self.only(
            "spec.delay",
            spec.get("delay"),
            "durationMilliseconds durationFrom jitterDurationMilliseconds jitterDurationFrom",
        )
        return LifeStage(
            name=self.name,
            api_version=ref.get("apiGroup") or "v1",
            kind=ref["kind"],
            tests=self.tests(spec["selector"]),
            weight=self.weight(spec),
            duration=self.time(delay, "duration"),
            jitter=self.time(delay, "jitterDuration"),
            steps=tuple(self.steps(spec)),
            immediate=bool(spec.get("immediateNextStage")),
            expressions=tuple(self.expressions),
            source=self.source,
        )

    def tests(self, selector: Any) -> tuple[Test, ...]:
        selector = self.only("spec.selector", selector, "matchLabels matchAnnotations matchExpressions")
        found: list[Test] = []
        for key, where in (("matchLabels", "labels"), ("matchAnnotations", "annotations")):
            wanted = dict(selector.get(key) or {})
            if wanted:
                found.append(_has_all(where, wanted))
        for i, expression in enumerate(selector.get("matchExpressions") or []):
            path = f"spec.selector.matchExpressions[{i}]"
            expression = self.only(path, expression, "key operator values jq cel")
            if expression.get("cel"):
                raise self.error(f"{path}.cel", "CEL is not supported; use jq")
            if expression.get("jq"):
                expression = self.only(f"{path}.jq", expression["jq"], "key operator values")
            found.append(self.requirement(path, expression))
        return tuple(found)

    def requirement(self, path: str, expression: dict[str, Any]) -> Test:
        query = self.query(path, str(expression.get("key") or ""))
        operator, values = expression.get("operator"), [str(value) for value in expression.get("values") or []]
        if operator in ("In", "NotIn"):
            if not values:
                raise self.error(path, f"{operator} needs values")
            wanted = frozenset(values)
            return _among(query, wanted) if operator == "In" else _not(_among(query, wanted))
        if operator in ("Exists", "DoesNotExist"):
            if values:
                raise self.error(path, f"{operator} takes no values")
            return (lambda _, answers: bool(answers[query])) if operator == "Exists" else (lambda _, answers: not answers[query])
        raise self.error(path, f"operator {operator!r} is not In, NotIn, Exists or DoesNotExist")

    def query(self, path: str, text: str) -> str:
        try:
            check(text)
        except JqError as error:
            raise self.error(path, str(error)) from error
        self.expressions[text] = None
        return text

    def source_of(self, path: str, value: Any) -> str | None:
        """The expression of an ``ExpressionFrom``."""
        if value is None:
            return None
        value = self.only(path, value, "expressionFrom jq cel")
        if value.get("cel"):
            raise self.error(f"{path}.cel", "CEL is not supported; use jq")
        text = (value.get("jq") or {}).get("expression") if value.get("jq") else value.get("expressionFrom")
        return self.query(path, str(text or ""))

    def weight(self, spec: dict[str, Any]) -> Callable[[Answers], int | None]:
        base, query = int(spec.get("weight") or 0), self.source_of("spec.weightFrom", spec.get("weightFrom"))
        if query is None:
            return lambda answers: base

        def weigh(answers: Answers) -> int | None:
            found = answers[query]
            if not found:
                return base
            try:
                return int(found[0])
            except (TypeError, ValueError):
                return None

        return weigh

    def time(self, delay: dict[str, Any], name: str) -> Callable[[Answers, float], float | None]:
        given = delay.get(f"{name}Milliseconds")
        base = None if given is None else int(given) / 1000
        query = self.source_of(f"spec.delay.{name}From", delay.get(f"{name}From"))
        if query is None:
            return lambda answers, wall: base

        def measure(answers: Answers, wall: float) -> float | None:
            found = answers[query]
            if not found:
                return base
            value = found[0]
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            if value == "":
                return None
            seconds = seconds_of(value, wall) if isinstance(value, str) else None
            return base if seconds is None else seconds

        return measure

    def steps(self, spec: dict[str, Any]) -> list[StageStep]:
        found: list[StageStep] = []
        following = self.only(
            "spec.next",
            spec.get("next"),
            "event finalizers delete patches statusTemplate statusSubresource statusPatchAs",
        )
        if following:
            if following.get("event"):
                found.append(StageStep(event=self.only("spec.next.event", following["event"], "type reason message")))
            if following.get("finalizers"):
                found.append(StageStep(finalizers=self.finalizers("spec.next.finalizers", following["finalizers"])))
            if following.get("delete"):
                found.append(StageStep(delete=True))
            if following.get("statusTemplate"):
                subresource = following.get("statusSubresource")
                patch = {
                    "template": following["statusTemplate"],
                    "root": "status",
                    "subresource": "status" if subresource is None else subresource,
                }
                found.append(StageStep(patch=self.patch("spec.next.statusTemplate", patch)))
            for i, patch in enumerate(following.get("patches") or []):
                found.append(StageStep(patch=self.patch(f"spec.next.patches[{i}]", patch)))
        for i, step in enumerate(spec.get("steps") or []):
            path = f"spec.steps[{i}]"
            step = self.only(path, step, "patch event finalizers delete apply")
            found.append(
                StageStep(
                    event=self.only(f"{path}.event", step.get("event"), "type reason message") or None,
                    finalizers=self.finalizers(f"{path}.finalizers", step.get("finalizers")),
                    delete=bool(step.get("delete")),
                    patch=self.patch(f"{path}.patch", step["patch"]) if step.get("patch") else None,
                    apply=self.patch(f"{path}.apply", step["apply"]) if step.get("apply") else None,
                )
            )
        return found

    def finalizers(self, path: str, value: Any) -> dict[str, Any] | None:
        value = self.only(path, value, "add remove empty")
        if not value:
            return None
        return {
            "add": [str(item["value"]) for item in value.get("add") or []],
            "remove": [str(item["value"]) for item in value.get("remove") or []],
            "empty": bool(value.get("empty")),
        }

    def patch(self, path: str, value: Any) -> Patch:
        value = self.only(path, value, "subresource root template type impersonation")
        kind = value.get("type") or ""
        if kind not in ("", "json", "merge", "strategic", "apply"):
            raise self.error(f"{path}.type", f"{kind!r} is not json, merge, strategic or apply")
        try:
            template = Template(str(value.get("template") or "").strip(), self.functions)
        except TemplateError as error:
            raise self.error(f"{path}.template", str(error)) from error
        return Patch(template, str(value.get("root") or ""), str(value.get("subresource") or ""), kind)


def _has_all(where: str, wanted: dict[str, str]) -> Test:
    def test(obj: Any, _: Answers) -> bool:
        have = obj["metadata"].get(where) or {}
        return all(have.get(key) == value for key, value in wanted.items())

    return test


def _among(query: str, wanted: frozenset[str]) -> Test:
    def test(_: Any, answers: Answers) -> bool:
        for value in answers[query] or ():
            if value is True or value is False:
                value = "true" if value else "false"
            if (value if isinstance(value, str) else str(value)) in wanted:
                return True
        return False

    return test


def _not(test: Test) -> Test:
    return lambda obj, answers: not test(obj, answers)


def seconds_of(text: str, wall: float) -> float | None:
    """A Go duration, or an RFC 3339 time as seconds from ``wall`` (Unix seconds); None for anything else."""
    with contextlib.suppress(Malformed):
        return parse_duration(text)
    with contextlib.suppress(Malformed, ValueError):  # ValueError: no such day
        return unix_time(text) - wall
    return None
