"""Kubernetes' e2e specs of API priority and fairness: the API operations in flowcontrol.go of test/e2e/apimachinery."""

import pytest
from e2e_driver import E2eClient, Object
from e2e_operations import support_operations

FLOW: Object = {
    "matchingPrecedence": 10000,
    "priorityLevelConfiguration": {"name": "global-default"},
    "distinguisherMethod": {"type": "ByUser"},
    "rules": [
        {
            "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
    ],
}
LEVEL: Object = {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}


def _shares(number: int) -> Object:
    return {"limited": {"nominalConcurrencyShares": number}}


@pytest.mark.parametrize(
    ("kind", "plural", "spec", "patch", "update"),
    [
        pytest.param(
            "FlowSchema",
            "flowschemas",
            FLOW,
            {"matchingPrecedence": 9999},
            {"matchingPrecedence": 9000},
            id="should support FlowSchema API operations",
        ),
        pytest.param(
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
            LEVEL,
            _shares(4),
            _shares(6),
            id="should support PriorityLevelConfiguration API operations",
        ),
    ],
)
async def test_operations(e2e: E2eClient, kind: str, plural: str, spec: Object, patch: Object, update: Object) -> None:
    await support_operations(e2e, "flowcontrol.apiserver.k8s.io/v1", kind, plural, spec, patch, update, status=True)
