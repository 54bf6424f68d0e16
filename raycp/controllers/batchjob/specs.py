"""``read_spec``: an object's spec as a model, checked by the rules of ``validation`` as the API server should have checked it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from raycp.controllers.batchjob.immutability import IMMUTABLE, name_problem, same_template
from raycp.controllers.batchjob.labelselector import expressions_of
from raycp.controllers.batchjob.placementtypes import parts_of
from raycp.controllers.batchjob.types import BatchJobSpec
from raycp.controllers.batchjob.validation import (
    EXIT_RULES,
    FAILURE_RULES,
    SPEC_RULES,
    SUCCESS_RULES,
    SpecRule,
)


class InvalidSpec(ValueError):
    """A spec that the API server should have refused. The message names field, problem and, where it is short, the value."""


def read_spec(obj: Mapping[str, Any]) -> BatchJobSpec:
    """The spec of a job. Of the template it holds what the rules read; Pods get it as the user wrote it. Raises ``InvalidSpec``."""
    made = _parsed(obj["spec"])
    found = list(_broken(made))
    # The name of a job that has a status was accepted once, by a server that knew no rule for it.
    if not obj.get("status") and (problem := name_problem(obj["metadata"]["name"], made)):
        found.append(problem)
    if found:
        raise InvalidSpec("; ".join(found))
    return made


def update_problems(old: Mapping[str, Any], new: Mapping[str, Any], started: bool) -> list[str]:
    """What the API server should refuse about a change from one spec to another. ``started``: the job has a ``startTime``."""
    before, after = _parsed(old), _parsed(new)
    found = [f"spec{rule.field}: Invalid value: {rule.message}" for rule in IMMUTABLE if not rule.holds((before, after))]
    if not same_template(before, after, started):
        found.append("spec.template: Invalid value: field is immutable")
    return found


def _parsed(spec: Mapping[str, Any]) -> BatchJobSpec:
    try:
        return BatchJobSpec.model_validate({name: value for name, value in spec.items() if value is not None})
    except ValidationError as error:
        raise InvalidSpec("; ".join(_cause(one) for one in error.errors(include_url=False))) from None


def _cause(error: Mapping[str, Any]) -> str:
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    value = error.get("input")
    shown = f" {value!r}" if isinstance(value, (str, int, float)) and len(str(value)) <= 100 else ""
    return f"{path}: Invalid value:{shown} {error['msg']}"


def _broken(spec: BatchJobSpec) -> Iterator[str]:
    yield from _of(SPEC_RULES, spec, "spec")
    for at, rule in enumerate(spec.pod_failure_policy.rules if spec.pod_failure_policy else ()):
        yield from _of(FAILURE_RULES, rule, f"spec.podFailurePolicy.rules[{at}]")
        if rule.on_exit_codes is not None:
            yield from _of(EXIT_RULES, rule.on_exit_codes, f"spec.podFailurePolicy.rules[{at}].onExitCodes")
    for rules, value, path in [*expressions_of(spec.selector, "spec.selector"), *parts_of(spec.placement, "spec.placement")]:
        yield from _of(rules, value, path)
    for at, success in enumerate(spec.success_policy.rules if spec.success_policy else ()):
        yield from _of(SUCCESS_RULES, success, f"spec.successPolicy.rules[{at}]")


def _of(rules: Iterable[SpecRule], value: Any, path: str) -> Iterator[str]:
    for rule in rules:
        if not rule.holds(value):
            word = "Required value" if rule.reason == "FieldValueRequired" else "Invalid value"
            yield f"{path}{rule.field}: {word}: {rule.message}"
