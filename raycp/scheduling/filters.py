"""Why a cluster gets none of a job's Pods: the filters of ``place``."""

from raycp.scheduling.labels import untolerated
from raycp.scheduling.model import AffinityGroup, Candidate, Rules

Refusal = tuple[str, str]
"""(reason, message)."""


def allowed(candidate: Candidate, rules: Rules) -> bool:
    """Whether the job may run there at all, whatever the cluster's state."""
    if mismatch(candidate, rules) is not None:
        return False
    return not rules.affinities or any(group_mismatch(candidate, group) is None for group in rules.affinities)


def refusal(candidate: Candidate, rules: Rules) -> Refusal | None:
    """Why a cluster does not fit; None where it does."""
    found = mismatch(candidate, rules)
    if found is not None:
        return found
    if not candidate.reachable:
        return "Unreachable", f"not reachable{': ' + candidate.reason if candidate.reason else ''}"
    if candidate.refusal:
        return "Refused", candidate.refusal
    return None


def mismatch(candidate: Candidate, rules: Rules) -> Refusal | None:
    """Why its names, labels, weight or taints exclude it."""
    if rules.clusters and candidate.name not in rules.clusters:
        return "NotNamed", "not among the named clusters"
    for key, value in sorted(rules.selector.items()):
        if candidate.labels.get(key) != value:
            return "LabelMismatch", f"label {key} is not {value!r}"
    for requirement in rules.requirements:
        if not requirement.holds(candidate.labels):
            return "LabelMismatch", f"its labels do not meet {requirement}"
    if rules.weights.get(candidate.name, 1) <= 0:
        return "ZeroWeight", "its weight is 0"
    if candidate.taints and (taint := untolerated(candidate.taints, rules.tolerations)) is not None:
        return "Tainted", f"taint {taint} is not tolerated"
    return None


def group_mismatch(candidate: Candidate, group: AffinityGroup) -> Refusal | None:
    """Why it is not in an affinity group."""
    name = f"affinity group {group.name}" if group.name else "the affinity group"
    if group.clusters and candidate.name not in group.clusters:
        return "NotInAffinity", f"not in {name}"
    for requirement in group.requirements:
        if not requirement.holds(candidate.labels):
            return "NotInAffinity", f"not in {name}: its labels do not meet {requirement}"
    return None
