"""The rules of a job's spec beyond types and bounds: ``pkg/apis/batch/validation`` of Kubernetes, each rule once, in two forms.

``cel`` is evaluated by the API server (it is part of the CRD), ``holds`` by the controller, for an API server that does not
evaluate it. A test holds both forms against the same inputs. A rule without ``cel`` is one that the schema states, or that CEL
can't state within the server's cost limit. Messages and fields are those of the Job's own validation.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raycp.controllers.batchjob.indexes import FORM, IndexSet, problem_of

Reason = Literal["FieldValueInvalid", "FieldValueRequired"]
INVALID: Reason = "FieldValueInvalid"
REQUIRED: Reason = "FieldValueRequired"

INDEXED_LIMIT = 100_000
_HIGH_COMPLETIONS, _HIGH_LIMIT = 100_000, 10_000
LABEL_FORM = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_MANAGED_BY = rf"^{LABEL_FORM}([.]{LABEL_FORM})*/[A-Za-z0-9/._~%!$&'()*+,;=:-]+$"


@dataclass(frozen=True)
class SpecRule:
    """One rule. ``field``: path below the model that it is a rule of, such as ``.completions``. ``holds`` is asked of such a model;
    the models know these rules, so that no type of theirs is named here."""

    field: str
    reason: Reason
    message: str
    cel: str
    holds: Callable[[Any], bool]


def cel_rules(rules: Iterable[SpecRule]) -> dict[str, Any]:
    """As ``x-kubernetes-validations``, for ``json_schema_extra``."""
    found: list[dict[str, Any]] = []
    for rule in rules:
        if rule.cel:
            entry = {"rule": rule.cel, "message": rule.message, "reason": rule.reason}
            found.append(entry | ({"fieldPath": rule.field} if rule.field else {}))
    return {"x-kubernetes-validations": found}


def _if_given(field: str, cel: str) -> str:
    return f"!has(self.{field}) || {cel}"


def _high(spec: Any) -> bool:
    return spec.backoff_limit_per_index is not None and (spec.completions or 0) > _HIGH_COMPLETIONS


def _names(spec: Any) -> set[str]:
    pod = spec.template.spec
    return {container.name for container in [*pod.containers, *(pod.init_containers or ())]}


def _once(containers: Sequence[Any]) -> bool:
    return len({container.name for container in containers}) == len(containers)


def _chosen(selector: Any, labels: Mapping[str, str]) -> bool:
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


INDEXED = "self.completionMode == 'Indexed'"
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

SPEC_RULES: Sequence[SpecRule] = (
    SpecRule(
        ".completions",
        REQUIRED,
        "when completion mode is Indexed",
        f"!({INDEXED}) || has(self.completions)",
        lambda s: not s.indexed or s.completions is not None,
    ),
    SpecRule(
        ".backoffLimitPerIndex",
        REQUIRED,
        "when maxFailedIndexes is specified",
        _if_given("maxFailedIndexes", "has(self.backoffLimitPerIndex)"),
        lambda s: s.max_failed_indexes is None or s.backoff_limit_per_index is not None,
    ),
    SpecRule(
        ".maxFailedIndexes",
        INVALID,
        "must be less than or equal to completions",
        _if_given("maxFailedIndexes", "!has(self.completions) || self.maxFailedIndexes <= self.completions"),
        lambda s: s.max_failed_indexes is None or s.completions is None or s.max_failed_indexes <= s.completions,
    ),
    SpecRule(
        ".maxFailedIndexes",
        REQUIRED,
        f"must be specified when completions is above {_HIGH_COMPLETIONS}",
        f"!({_HIGH}) || has(self.maxFailedIndexes)",
        lambda s: not _high(s) or s.max_failed_indexes is not None,
    ),
    SpecRule(
        ".parallelism",
        INVALID,
        _HIGH_MESSAGE,
        f"!({_HIGH}) || !has(self.parallelism) || self.parallelism <= {_HIGH_LIMIT}",
        lambda s: not _high(s) or s.at_once <= _HIGH_LIMIT,
    ),
    SpecRule(
        ".maxFailedIndexes",
        INVALID,
        _HIGH_MESSAGE,
        f"!({_HIGH}) || !has(self.maxFailedIndexes) || self.maxFailedIndexes <= {_HIGH_LIMIT}",
        lambda s: not _high(s) or (s.max_failed_indexes or 0) <= _HIGH_LIMIT,
    ),
    SpecRule(
        ".backoffLimitPerIndex",
        INVALID,
        "requires indexed completion mode",
        _if_given("backoffLimitPerIndex", INDEXED),
        lambda s: s.backoff_limit_per_index is None or s.indexed,
    ),
    SpecRule(
        ".maxFailedIndexes",
        INVALID,
        "requires indexed completion mode",
        _if_given("maxFailedIndexes", INDEXED),
        lambda s: s.max_failed_indexes is None or s.indexed,
    ),
    SpecRule(
        ".successPolicy",
        INVALID,
        "requires indexed completion mode",
        _if_given("successPolicy", INDEXED),
        lambda s: s.success_policy is None or s.indexed,
    ),
    SpecRule(
        ".managedBy",
        INVALID,
        'must be a domain-prefixed path (such as "acme.io/foo")',
        _if_given("managedBy", f'self.managedBy.matches("{_MANAGED_BY}")'),
        lambda s: s.managed_by is None or re.search(_MANAGED_BY, s.managed_by) is not None,
    ),
    SpecRule(
        ".podReplacementPolicy",
        INVALID,
        'supported values: "Failed", when podFailurePolicy is specified',
        _if_given("podReplacementPolicy", "!has(self.podFailurePolicy) || self.podReplacementPolicy == 'Failed'"),
        lambda s: s.pod_failure_policy is None or s.pod_replacement_policy in (None, "Failed"),
    ),
    SpecRule(
        ".template.spec.restartPolicy",
        INVALID,
        'only "Never" is supported when podFailurePolicy is specified',
        _if_given("podFailurePolicy", "self.template.spec.restartPolicy == 'Never'"),
        lambda s: s.pod_failure_policy is None or s.template.spec.restart_policy == "Never",
    ),
    # The lists are maps by name in the CRD.
    SpecRule(".template.spec.containers", INVALID, "a name is used twice", "", lambda s: _once(s.template.spec.containers)),
    SpecRule(
        ".template.spec.initContainers", INVALID, "a name is used twice", "", lambda s: _once(s.template.spec.init_containers or ())
    ),
    SpecRule(
        ".podFailurePolicy.rules",
        INVALID,
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
        INVALID,
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
        INVALID,
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
        INVALID,
        "error parsing succeededIndexes: too large index",
        _if_given(
            "successPolicy",
            "!has(self.completions) || self.successPolicy.rules.all(r, !has(r.succeededIndexes) || r.succeededIndexes == ''"
            f" || !r.succeededIndexes.matches(r'{FORM}')"
            " || int(r.succeededIndexes.find('[0-9]+$')) < self.completions)",
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
        REQUIRED,
        "when manualSelector is true",
        _if_given("manualSelector", "!self.manualSelector || has(self.selector)"),
        lambda s: not s.manual_selector or s.selector is not None,
    ),
    SpecRule(
        ".selector",
        INVALID,
        "`selector` not auto-generated",
        _if_given("selector", "(has(self.manualSelector) && self.manualSelector)"),
        lambda s: s.selector is None or bool(s.manual_selector),
    ),
    SpecRule(
        ".template.metadata",
        INVALID,
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

FAILURE_RULES: Sequence[SpecRule] = (
    SpecRule(
        "",
        INVALID,
        "specifying both OnExitCodes and OnPodConditions is not supported",
        "!has(self.onExitCodes) || !has(self.onPodConditions) || size(self.onPodConditions) == 0",
        lambda rule: rule.on_exit_codes is None or not rule.on_pod_conditions,
    ),
    SpecRule(
        "",
        INVALID,
        "specifying one of OnExitCodes and OnPodConditions is required",
        "has(self.onExitCodes) || (has(self.onPodConditions) && size(self.onPodConditions) > 0)",
        lambda rule: rule.on_exit_codes is not None or bool(rule.on_pod_conditions),
    ),
)

EXIT_RULES: Sequence[SpecRule] = (
    SpecRule(
        ".values",
        INVALID,
        "must not be 0 for the In operator",
        "self.operator != 'In' || !(0 in self.values)",
        lambda codes: codes.operator != "In" or 0 not in codes.values,
    ),
    # The list is a set in the CRD, so that the server refuses repeated values itself.
    SpecRule(".values", INVALID, "must not repeat a value", "", lambda codes: len(set(codes.values)) == len(codes.values)),
    SpecRule(".values", INVALID, "must be ordered", "self.values.isSorted()", lambda codes: codes.values == sorted(codes.values)),
)

_TEXT = "self.succeededIndexes"
_READABLE = f"{_TEXT}.matches(r'{FORM}')"
_FIRST = f"int({_TEXT}.find('^[0-9]+'))"
_LAST = f"int({_TEXT}.find('[0-9]+$'))"
_SEVERAL = f"({_TEXT}.contains(',') || {_TEXT}.contains('-'))"
# The server bounds what a rule may cost by the lengths that the schema states; parts of a text that is split have none. So CEL
# compares the first index with the last one, and the controller all of them.

SUCCESS_RULES: Sequence[SpecRule] = (
    SpecRule(
        "",
        REQUIRED,
        "at least one of succeededCount or succeededIndexes must be specified",
        "has(self.succeededCount) || has(self.succeededIndexes)",
        lambda rule: rule.succeeded_count is not None or rule.succeeded_indexes is not None,
    ),
    SpecRule(
        ".succeededIndexes",
        INVALID,
        "error parsing succeededIndexes: must be indexes and intervals in increasing order, such as 0-3,7",
        _if_given("succeededIndexes", f"({_READABLE} && (!{_SEVERAL} || {_FIRST} < {_LAST}))"),
        lambda rule: not problem_of(rule.succeeded_indexes or "", 10**10),
    ),
    SpecRule(
        ".succeededCount",
        INVALID,
        "must be less than or equal to the number of indexes in the specified succeededIndexes field",
        f"!has(self.succeededCount) || !has(self.succeededIndexes) || !({_READABLE}) || self.succeededCount"
        f" <= ({_TEXT} == '' ? 0 : {_SEVERAL} ? {_LAST} - {_FIRST} + 1 : 1)",
        lambda rule: (
            rule.succeeded_count is None
            or rule.succeeded_indexes is None
            or bool(problem_of(rule.succeeded_indexes, 10**10))
            or rule.succeeded_count <= len(IndexSet.read(rule.succeeded_indexes, 10**10))
        ),
    ),
)
