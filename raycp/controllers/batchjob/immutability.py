"""What of a job may change, and when: ``ValidateJobUpdate`` of Kubernetes. And the rules that read more than the spec."""

import re
from collections.abc import Sequence
from typing import Any

from raycp.controllers.batchjob.podtemplate import FIXED
from raycp.controllers.batchjob.validation import INDEXED, INVALID, LABEL_FORM, SpecRule

_FIXED_MESSAGE = "field is immutable"


def _fixed(name: str) -> str:
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


def _immutable(name: str, attribute: str) -> SpecRule:
    def same(change: Any) -> bool:
        old, new = change
        return bool(getattr(old, attribute) == getattr(new, attribute))

    return SpecRule(f".{name}", INVALID, _FIXED_MESSAGE, _fixed(name), same)


def _completions_kept(change: Any) -> bool:
    old, new = change
    return bool(new.indexed or old.completions == new.completions)


def _in_tandem(change: Any) -> bool:
    old, new = change
    return not new.indexed or None in (new.completions, old.completions) or new.completions in (old.completions, new.at_once)


IMMUTABLE: Sequence[SpecRule] = (
    _immutable("completionMode", "completion_mode"),
    _immutable("selector", "selector"),
    _immutable("podFailurePolicy", "pod_failure_policy"),
    _immutable("backoffLimitPerIndex", "backoff_limit_per_index"),
    _immutable("managedBy", "managed_by"),
    _immutable("successPolicy", "success_policy"),
    SpecRule(".completions", INVALID, _FIXED_MESSAGE, f"{INDEXED} || ({_fixed('completions')})", _completions_kept),
    SpecRule(
        ".completions",
        INVALID,
        "can only be modified in tandem with spec.parallelism",
        f"!({INDEXED}) || !has(self.completions) || !has(oldSelf.completions) || self.completions == oldSelf.completions"
        " || (has(self.parallelism) ? self.parallelism : 1) == self.completions",
        _in_tandem,
    ),
)
"""``holds`` of these is asked of a pair: the old spec and the new one."""


def _kept(path: str) -> str:
    """That a field below the template is as it was. ``path`` is optional from its last part on."""
    mine, old = f"self.spec.template.spec.{path}", f"oldSelf.spec.template.spec.{path}"
    return f"has({mine}) == has({old}) && (!has({mine}) || {mine} == {old})"


def _kept_affinity(part: str) -> str:
    mine, old = "self.spec.template.spec.affinity", "oldSelf.spec.template.spec.affinity"
    has_mine, had = f"(has({mine}) && has({mine}.{part}))", f"(has({old}) && has({old}.{part}))"
    return f"{has_mine} == {had} && (!{has_mine} || {mine}.{part} == {old}.{part})"


def same_template(old: Any, new: Any, started: bool) -> bool:
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
# Not the length of a text that is put together: what `string` makes of a number has no bound that a server knows.
_HOST_LENGTH = "size(self.metadata.name) + 1 + size(string(self.spec.completions - 1))"

ROOT_RULES: dict[str, Any] = {
    "x-kubernetes-validations": [
        {
            "rule": "self.spec.template == oldSelf.spec.template || ((has(oldSelf.spec.suspend) && oldSelf.spec.suspend)"
            f" && (!has(oldSelf.status) || !has(oldSelf.status.startTime)) && {_TEMPLATE_KEPT})",
            "message": _FIXED_MESSAGE,
            "reason": INVALID,
            "fieldPath": ".spec.template",
        },
        {
            # Of a job that has a status the name can't change any more, nor may it keep that status from being written.
            "rule": "has(self.status) || size(self.metadata.name) <= 63",
            "message": "the name of a job must be no more than 63 characters",
            "reason": INVALID,
            "fieldPath": ".metadata",
        },
        {
            "rule": "has(self.status) || self.spec.completionMode != 'Indexed' || !has(self.spec.completions)"
            f" || self.spec.completions == 0 || ({_HOST_LENGTH} <= 63 && self.metadata.name.matches('^{LABEL_FORM}$'))",
            "message": "will not able to create pod with invalid DNS label",
            "messageExpression": "'metadata.name: will not able to create pod with invalid DNS label: ' + self.metadata.name",
            "reason": INVALID,
            "fieldPath": ".metadata",
        },
    ]
}
"""Rules that read more than the spec: the name, and whether the job has started."""


def name_problem(name: str, spec: Any) -> str:
    """What is wrong with the job's name; empty where nothing is. A Pod's label has it, and an Indexed Pod's host name begins with
    it."""
    if len(name) > 63:
        return "metadata.name: Invalid value: the name of a job must be no more than 63 characters"
    host = f"{name}-{(spec.completions or 1) - 1}"
    if spec.indexed and spec.completions and (len(host) > 63 or not re.fullmatch(LABEL_FORM, name, re.ASCII)):
        return f"metadata.name: Invalid value: will not able to create pod with invalid DNS label: {host}"
    return ""
