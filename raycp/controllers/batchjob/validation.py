"""The rules of a job's spec beyond types and bounds: ``pkg/apis/batch/validation`` of Kubernetes, each rule once, in two forms.

``cel`` is evaluated by the API server (it is part of the CRD), ``holds`` by the controller, for an API server that does not
evaluate it. A test holds both forms against the same inputs. A rule without ``cel`` is one that the schema states, or that CEL
can't state within the server's cost limit. Messages and fields are those of the Job's own validation.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from raycp.controllers.batchjob.indexes import FORM, IndexSet, problem_of
from raycp.controllers.batchjob.podtemplate import FIXED

if TYPE_CHECKING:
    from raycp.controllers.batchjob.types import BatchJobSpec, ExitCodes, FailureRule, LabelSelector, SuccessRule

Reason = Literal["FieldValueInvalid", "FieldValueRequired"]
_INVALID: Reason = "FieldValueInvalid"
_REQUIRED: Reason = "FieldValueRequired"
_M = TypeVar("_M")

INDEXED_LIMIT = 100_000
_HIGH_COMPLETIONS, _HIGH_LIMIT = 100_000, 10_000
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_MANAGED_BY = rf"^{_LABEL}([.]{_LABEL})*/[A-Za-z0-9/._~%!$&'()*+,;=:-]+$"


@dataclass(frozen=True)
class SpecRule(Generic[_M]):
    """One rule. ``field``: path below the model that it is a rule of, such as ``.completions``."""

    field: str
    reason: Reason
    message: str
    cel: str
    holds: Callable[[_M], bool]


@dataclass(frozen=True)
class ImmutableField:
    """A field of the spec that must not change. ``same(old, new)``, for the controller's form."""

    field: str
    message: str
    cel: str
    same: Callable[["BatchJobSpec", "BatchJobSpec"], bool]


def cel_rules(rules: Iterable[SpecRule[Any] | ImmutableField]) -> dict[str, Any]:
    """As ``x-kubernetes-validations``, for ``json_schema_extra``."""
    found: list[dict[str, Any]] = []
    for rule in rules:
        if rule.cel:
            entry = {"rule": rule.cel, "message": rule.message, "reason": getattr(rule, "reason", _INVALID)}
            found.append(entry | ({"fieldPath": rule.field} if rule.field else {}))
    return {"x-kubernetes-validations": found}


def _if_given(field: str, cel: str) -> str:
    return f"!has(self.{field}) || {cel}"


def _high(spec: "BatchJobSpec") -> bool:
    return spec.backoff_limit_per_index is not None and (spec.completions or 0) > _HIGH_COMPLETIONS


def _names(spec: "BatchJobSpec") -> set[str]:
    pod = spec.template.spec
    return {container.name for container in [*pod.containers, *(pod.init_containers or ())]}


def _chosen(selector: "LabelSelector", labels: Mapping[str, str]) -> bool:
    """Whether the selector matches, as ``metav1.LabelSelectorAsSelector``."""
    for key, value in (selector.match_labels or {}).items():
        if labels.get(key) != value:
            return False
    for wanted in selector.match_expressions or ():
        has = wanted.key in labels
        among = has and labels[wanted.key] in (wanted.values or ())
        if not {"In": among, "NotIn": not among, "Exists": has, "DoesNotExist": not has}[wanted.operator]:
            return False
    return True


def _unordered(text: str) -> bool:
    """Whether it is not made of indexes and intervals in increasing order. That two may be equal, CEL can't tell."""
    if not re.fullmatch(FORM, text, re.ASCII):
        return True
    if any(int(part.split("-")[0]) >= int(part.split("-")[1]) for part in text.split(",") if "-" in part):
        return True
    numbers = [int(number) for number in text.replace("-", ",").split(",")] if text else []
    return numbers != sorted(numbers)


_INDEXED = "self.completionMode == 'Indexed'"
_HIGH = f"has(self.backoffLimitPerIndex) && has(self.completions) && self.completions > {_HIGH_COMPLETIONS}"
_HIGH_MESSAGE = (
    f"must be less than or equal to {_HIGH_LIMIT} when completions are above {_HIGH_COMPLETIONS}"
    " and used with backoff limit per index"
)
_LABELS = "self.template.metadata.labels"
_HAS_LABELS = f"has(self.template.metadata) && has({_LABELS})"
_EXPRESSION = (
    f"(e.operator == 'In' ? {_HAS_LABELS} && e.key in {_LABELS} && has(e.values) && {_LABELS}[e.key] in e.values"
    f" : e.operator == 'NotIn' ? !({_HAS_LABELS} && e.key in {_LABELS} && has(e.values) && {_LABELS}[e.key] in e.values)"
    f" : e.operator == 'Exists' ? {_HAS_LABELS} && e.key in {_LABELS} : !({_HAS_LABELS} && e.key in {_LABELS}))"
)
_CONTAINER_NAMED = (
    "self.template.spec.containers.exists(c, c.name == r.onExitCodes.containerName)"
    " || (has(self.template.spec.initContainers)"
    " && self.template.spec.initContainers.exists(c, c.name == r.onExitCodes.containerName))"
)
_LAST = "r.succeededIndexes.replace('-', ',')"

SPEC_RULES: "Sequence[SpecRule[BatchJobSpec]]" = (
    SpecRule(
        ".completions",
        _REQUIRED,
        "when completion mode is Indexed",
        f"!({_INDEXED}) || has(self.completions)",
        lambda s: not s.indexed or s.completions is not None,
    ),
    SpecRule(
        ".backoffLimitPerIndex",
        _REQUIRED,
        "when maxFailedIndexes is specified",
        _if_given("maxFailedIndexes", "has(self.backoffLimitPerIndex)"),
        lambda s: s.max_failed_indexes is None or s.backoff_limit_per_index is not None,
    ),
    SpecRule(
        ".maxFailedIndexes",
        _INVALID,
        "must be less than or equal to completions",
        _if_given("maxFailedIndexes", "!has(self.completions) || self.maxFailedIndexes <= self.completions"),
        lambda s: s.max_failed_indexes is None or s.completions is None or s.max_failed_indexes <= s.completions,
    ),
    SpecRule(
        ".maxFailedIndexes",
        _REQUIRED,
        f"must be specified when completions is above {_HIGH_COMPLETIONS}",
        f"!({_HIGH}) || has(self.maxFailedIndexes)",
        lambda s: not _high(s) or s.max_failed_indexes is not None,
    ),
    SpecRule(
        ".parallelism",
        _INVALID,
        _HIGH_MESSAGE,
        f"!({_HIGH}) || !has(self.parallelism) || self.parallelism <= {_HIGH_LIMIT}",
        lambda s: not _high(s) or s.at_once <= _HIGH_LIMIT,
    ),
    SpecRule(
        ".maxFailedIndexes",
        _INVALID,
        _HIGH_MESSAGE,
        f"!({_HIGH}) || !has(self.maxFailedIndexes) || self.maxFailedIndexes <= {_HIGH_LIMIT}",
        lambda s: not _high(s) or (s.max_failed_indexes or 0) <= _HIGH_LIMIT,
    ),
    SpecRule(
        ".backoffLimitPerIndex",
        _INVALID,
        "requires indexed completion mode",
        _if_given("backoffLimitPerIndex", _INDEXED),
        lambda s: s.backoff_limit_per_index is None or s.indexed,
    ),
    SpecRule(
        ".maxFailedIndexes",
        _INVALID,
        "requires indexed completion mode",
        _if_given("maxFailedIndexes", _INDEXED),
        lambda s: s.max_failed_indexes is None or s.indexed,
    ),
    SpecRule(
        ".successPolicy",
        _INVALID,
        "requires indexed completion mode",
        _if_given("successPolicy", _INDEXED),
        lambda s: s.success_policy is None or s.indexed,
    ),
    SpecRule(
        ".managedBy",
        _INVALID,
        'must be a domain-prefixed path (such as "acme.io/foo")',
        _if_given("managedBy", f'self.managedBy.matches("{_MANAGED_BY}")'),
        lambda s: s.managed_by is None or re.search(_MANAGED_BY, s.managed_by) is not None,
    ),
    SpecRule(
        ".podReplacementPolicy",
        _INVALID,
        'supported values: "Failed", when podFailurePolicy is specified',
        _if_given("podReplacementPolicy", "!has(self.podFailurePolicy) || self.podReplacementPolicy == 'Failed'"),
        lambda s: s.pod_failure_policy is None or s.pod_replacement_policy in (None, "Failed"),
    ),
    SpecRule(
        ".template.spec.restartPolicy",
        _INVALID,
        'only "Never" is supported when podFailurePolicy is specified',
        _if_given("podFailurePolicy", "self.template.spec.restartPolicy == 'Never'"),
        lambda s: s.pod_failure_policy is None or s.template.spec.restart_policy == "Never",
    ),
    SpecRule(
        ".podFailurePolicy.rules",
        _INVALID,
        "action FailIndex requires the backoffLimitPerIndex to be set",
        _if_given(
            "podFailurePolicy", "has(self.backoffLimitPerIndex) || self.podFailurePolicy.rules.all(r, r.action != 'FailIndex')"
        ),
        lambda s: (
            s.pod_failure_policy is None
            or s.backoff_limit_per_index is not None
            or all(rule.action != "FailIndex" for rule in s.pod_failure_policy.rules)
        ),
    ),
    SpecRule(
        ".podFailurePolicy.rules",
        _INVALID,
        "onExitCodes.containerName must be one of the container or initContainer names in the pod template",
        _if_given(
            "podFailurePolicy",
            f"self.podFailurePolicy.rules.all(r, !has(r.onExitCodes) || !has(r.onExitCodes.containerName) || {_CONTAINER_NAMED})",
        ),
        lambda s: (
            s.pod_failure_policy is None
            or all(
                rule.on_exit_codes is None
                or rule.on_exit_codes.container_name is None
                or rule.on_exit_codes.container_name in _names(s)
                for rule in s.pod_failure_policy.rules
            )
        ),
    ),
    SpecRule(
        ".successPolicy.rules",
        _INVALID,
        "succeededCount must be less than or equal to the number of specified completions",
        _if_given(
            "successPolicy",
            "!has(self.completions) || self.successPolicy.rules.all(r,"
            " !has(r.succeededCount) || r.succeededCount <= self.completions)",
        ),
        lambda s: (
            s.success_policy is None
            or s.completions is None
            or all((rule.succeeded_count or 0) <= s.completions for rule in s.success_policy.rules)
        ),
    ),
    SpecRule(
        ".successPolicy.rules",
        _INVALID,
        "error parsing succeededIndexes: too large index",
        _if_given(
            "successPolicy",
            "!has(self.completions) || self.successPolicy.rules.all(r, !has(r.succeededIndexes) || r.succeededIndexes == ''"
            f" || !r.succeededIndexes.matches('{FORM}')"
            f" || int({_LAST}.substring({_LAST}.lastIndexOf(',') + 1)) < self.completions)",
        ),
        lambda s: (
            s.success_policy is None
            or all(
                "too large" not in problem_of(rule.succeeded_indexes or "", s.completions or 0) for rule in s.success_policy.rules
            )
        ),
    ),
    SpecRule(
        ".selector",
        _REQUIRED,
        "when manualSelector is true",
        _if_given("manualSelector", "!self.manualSelector || has(self.selector)"),
        lambda s: not s.manual_selector or s.selector is not None,
    ),
    SpecRule(
        ".selector",
        _INVALID,
        "`selector` not auto-generated",
        _if_given("selector", "(has(self.manualSelector) && self.manualSelector)"),
        lambda s: s.selector is None or bool(s.manual_selector),
    ),
    SpecRule(
        ".template.metadata",
        _INVALID,
        "`selector` does not match template `labels`",
        _if_given(
            "selector",
            f"((!has(self.selector.matchLabels) || self.selector.matchLabels.all(k, {_HAS_LABELS} && k in {_LABELS}"
            f" && {_LABELS}[k] == self.selector.matchLabels[k])) && (!has(self.selector.matchExpressions)"
            f" || self.selector.matchExpressions.all(e, {_EXPRESSION})))",
        ),
        lambda s: s.selector is None or _chosen(s.selector, (s.template.metadata and s.template.metadata.labels) or {}),
    ),
)

FAILURE_RULES: "Sequence[SpecRule[FailureRule]]" = (
    SpecRule(
        "",
        _INVALID,
        "specifying both OnExitCodes and OnPodConditions is not supported",
        "!has(self.onExitCodes) || !has(self.onPodConditions) || size(self.onPodConditions) == 0",
        lambda rule: rule.on_exit_codes is None or not rule.on_pod_conditions,
    ),
    SpecRule(
        "",
        _INVALID,
        "specifying one of OnExitCodes and OnPodConditions is required",
        "has(self.onExitCodes) || (has(self.onPodConditions) && size(self.onPodConditions) > 0)",
        lambda rule: rule.on_exit_codes is not None or bool(rule.on_pod_conditions),
    ),
)

EXIT_RULES: "Sequence[SpecRule[ExitCodes]]" = (
    SpecRule(
        ".values",
        _INVALID,
        "must not be 0 for the In operator",
        "self.operator != 'In' || !(0 in self.values)",
        lambda codes: codes.operator != "In" or 0 not in codes.values,
    ),
    # The list is a set in the CRD, so that the server refuses repeated values itself.
    SpecRule(".values", _INVALID, "must not repeat a value", "", lambda codes: len(set(codes.values)) == len(codes.values)),
    SpecRule(".values", _INVALID, "must be ordered", "self.values.isSorted()", lambda codes: codes.values == sorted(codes.values)),
)

_FRAGMENTS = "self.succeededIndexes.split(',')"
_FIRST_LAST = "int(p.split('-')[0])", "int(p.split('-')[1])"
_TOTAL = f"{_FRAGMENTS}.map(p, p.contains('-') ? {_FIRST_LAST[1]} - {_FIRST_LAST[0]} + 1 : 1).sum()"
_READABLE = f"self.succeededIndexes.matches('{FORM}')"

SUCCESS_RULES: "Sequence[SpecRule[SuccessRule]]" = (
    SpecRule(
        "",
        _REQUIRED,
        "at least one of succeededCount or succeededIndexes must be specified",
        "has(self.succeededCount) || has(self.succeededIndexes)",
        lambda rule: rule.succeeded_count is not None or rule.succeeded_indexes is not None,
    ),
    SpecRule(
        ".succeededIndexes",
        _INVALID,
        "error parsing succeededIndexes: must be indexes and intervals in increasing order, such as 0-3,7",
        _if_given(
            "succeededIndexes",
            f"self.succeededIndexes == '' || ({_READABLE}"
            f" && {_FRAGMENTS}.all(p, !p.contains('-') || {_FIRST_LAST[0]} < {_FIRST_LAST[1]})"
            " && self.succeededIndexes.replace('-', ',').split(',').map(x, int(x)).isSorted())",
        ),
        lambda rule: not _unordered(rule.succeeded_indexes or ""),
    ),
    SpecRule(
        ".succeededIndexes",
        _INVALID,
        "error parsing succeededIndexes: an index is named twice",
        "",
        lambda rule: not problem_of(rule.succeeded_indexes or "", 10**10) or _unordered(rule.succeeded_indexes or ""),
    ),
    SpecRule(
        ".succeededCount",
        _INVALID,
        "must be less than or equal to the number of indexes in the specified succeededIndexes field",
        f"!has(self.succeededCount) || !has(self.succeededIndexes) || !({_READABLE})"
        f" || (self.succeededIndexes == '' ? self.succeededCount == 0 : self.succeededCount <= {_TOTAL})",
        lambda rule: (
            rule.succeeded_count is None
            or rule.succeeded_indexes is None
            or bool(problem_of(rule.succeeded_indexes, 10**10))
            or rule.succeeded_count <= len(IndexSet.read(rule.succeeded_indexes, 10**10))
        ),
    ),
)

_FIXED_MESSAGE = "field is immutable"


def _fixed(name: str) -> str:
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


IMMUTABLE: Sequence[ImmutableField] = (
    ImmutableField(
        ".completionMode",
        _FIXED_MESSAGE,
        "self.completionMode == oldSelf.completionMode",
        lambda old, new: old.completion_mode == new.completion_mode,
    ),
    ImmutableField(
        ".completions",
        _FIXED_MESSAGE,
        f"{_INDEXED} || ({_fixed('completions')})",
        lambda old, new: new.indexed or old.completions == new.completions,
    ),
    ImmutableField(
        ".completions",
        "can only be modified in tandem with spec.parallelism",
        f"!({_INDEXED}) || !has(self.completions) || !has(oldSelf.completions) || self.completions == oldSelf.completions"
        " || (has(self.parallelism) ? self.parallelism : 1) == self.completions",
        lambda old, new: (
            not new.indexed or None in (new.completions, old.completions) or new.completions in (old.completions, new.at_once)
        ),
    ),
    ImmutableField(".selector", _FIXED_MESSAGE, _fixed("selector"), lambda old, new: old.selector == new.selector),
    ImmutableField(
        ".podFailurePolicy",
        _FIXED_MESSAGE,
        _fixed("podFailurePolicy"),
        lambda old, new: old.pod_failure_policy == new.pod_failure_policy,
    ),
    ImmutableField(
        ".backoffLimitPerIndex",
        _FIXED_MESSAGE,
        _fixed("backoffLimitPerIndex"),
        lambda old, new: old.backoff_limit_per_index == new.backoff_limit_per_index,
    ),
    ImmutableField(".managedBy", _FIXED_MESSAGE, _fixed("managedBy"), lambda old, new: old.managed_by == new.managed_by),
    ImmutableField(
        ".successPolicy", _FIXED_MESSAGE, _fixed("successPolicy"), lambda old, new: old.success_policy == new.success_policy
    ),
)


def _kept(path: str) -> str:
    """That a field below the template is as it was. ``path`` is optional from its last part on."""
    mine, old = f"self.spec.template.spec.{path}", f"oldSelf.spec.template.spec.{path}"
    return f"has({mine}) == has({old}) && (!has({mine}) || {mine} == {old})"


def _kept_affinity(part: str) -> str:
    mine, old = "self.spec.template.spec.affinity", "oldSelf.spec.template.spec.affinity"
    has_mine, had = f"(has({mine}) && has({mine}.{part}))", f"(has({old}) && has({old}.{part}))"
    return f"{has_mine} == {had} && (!{has_mine} || {mine}.{part} == {old}.{part})"


def same_template(old: "BatchJobSpec", new: "BatchJobSpec", started: bool) -> bool:
    """Whether the template is as it was, apart from what may change: while the job is suspended and has no ``startTime``, labels,
    annotations, ``nodeSelector``, ``tolerations``, node affinity and scheduling gates (KEP-2926, KEP-5440)."""
    if old.template == new.template:
        return True
    if started or not old.suspend:
        return False
    before, after = (spec.template.spec.model_dump(by_alias=True, exclude_none=True) for spec in (old, new))
    others = all(
        (before.get("affinity") or {}).get(part) == (after.get("affinity") or {}).get(part)
        for part in ("podAffinity", "podAntiAffinity")
    )
    return others and all(before.get(name) == after.get(name) for name in FIXED)


_TEMPLATE_KEPT = " && ".join(
    [*(f"({_kept(name)})" for name in FIXED), *(f"({_kept_affinity(part)})" for part in ("podAffinity", "podAntiAffinity"))]
)
_HOST = "self.metadata.name + '-' + string(self.spec.completions - 1)"

ROOT_RULES: dict[str, Any] = {
    "x-kubernetes-validations": [
        {
            "rule": "self.spec.template == oldSelf.spec.template || ((has(oldSelf.spec.suspend) && oldSelf.spec.suspend)"
            f" && (!has(oldSelf.status) || !has(oldSelf.status.startTime)) && {_TEMPLATE_KEPT})",
            "message": _FIXED_MESSAGE,
            "reason": _INVALID,
            "fieldPath": ".spec.template",
        },
        {
            # Of a job that has a status the name can't change any more, nor may it keep that status from being written.
            "rule": "has(self.status) || size(self.metadata.name) <= 63",
            "message": "the name of a job must be no more than 63 characters",
            "reason": _INVALID,
            "fieldPath": ".metadata",
        },
        {
            "rule": "has(self.status) || self.spec.completionMode != 'Indexed' || !has(self.spec.completions)"
            f" || self.spec.completions == 0 || (size({_HOST}) <= 63 && self.metadata.name.matches('^{_LABEL}$'))",
            "message": "will not able to create pod with invalid DNS label",
            "messageExpression": f"'metadata.name: will not able to create pod with invalid DNS label: ' + {_HOST}",
            "reason": _INVALID,
            "fieldPath": ".metadata",
        },
    ]
}
"""Rules that read more than the spec: the name, and whether the job has started."""


def name_problem(name: str, spec: "BatchJobSpec") -> str:
    """What is wrong with the job's name; empty where nothing is. A Pod's label has it, and an Indexed Pod's host name begins with
    it."""
    if len(name) > 63:
        return "metadata.name: Invalid value: the name of a job must be no more than 63 characters"
    host = f"{name}-{(spec.completions or 1) - 1}"
    if spec.indexed and spec.completions and (len(host) > 63 or not re.fullmatch(_LABEL, name, re.ASCII)):
        return f"metadata.name: Invalid value: will not able to create pod with invalid DNS label: {host}"
    return ""
