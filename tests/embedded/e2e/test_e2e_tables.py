"""Kubernetes' e2e specs of Tables: table_conversion.go in test/e2e/apimachinery."""

import asyncio

import pytest
from e2e_driver import E2eClient, Object, Refused
from e2e_fixtures import BASELINE

OLD_TABLE = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def _table(e2e: E2eClient, path: str) -> Object:
    """A Table of the old version, whose rows have a cell for each column, the first of which is the name."""
    table: Object = await e2e.typed("GET", path, Accept=OLD_TABLE)
    assert (table["apiVersion"], table["kind"]) == ("meta.k8s.io/v1beta1", "Table")
    columns = table["columnDefinitions"]
    assert all(len(row["cells"]) == len(columns) for row in table["rows"])
    assert columns[0]["name"] == "Name"
    # what a printer of tables needs, besides
    assert all(isinstance(each["priority"], int) and each["type"] for each in columns)
    return table


async def test_pod_details(e2e: E2eClient) -> None:
    """should return pod details"""
    pods = f"/api/v1/namespaces/{await e2e.namespace('tables', **BASELINE)}/pods"
    container = {
        "name": "agnhost-container",
        "image": "agnhost",
        "args": ["porter"],
        "ports": [{"containerPort": 8080}],
        "env": [{"name": "SERVE_PORT_8080", "value": "foo"}],
        "securityContext": {},
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    await e2e.typed("POST", pods, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod-1"}, "spec": spec})
    table = await _table(e2e, f"{pods}/pod-1")
    assert len(table["columnDefinitions"]) > 2
    assert [row["cells"][0] for row in table["rows"]] == ["pod-1"]


async def test_chunks(e2e: E2eClient) -> None:
    """should return chunks of table results for list calls"""
    templates = f"/api/v1/namespaces/{await e2e.namespace('tables', **BASELINE)}/podtemplates"
    inner = {"spec": {"containers": [{"name": "test", "image": "test2"}]}}
    made = (
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": f"template-{number:04}"}, "template": inner}
        for number in range(20)
    )
    await asyncio.gather(*(e2e.typed("POST", templates, each) for each in made))
    first = await _table(e2e, f"{templates}?limit=2")
    assert [row["cells"][0] for row in first["rows"]] == ["template-0000", "template-0001"]
    assert first["metadata"]["resourceVersion"]
    assert first["metadata"]["continue"]
    rest = await _table(e2e, f"{templates}?continue={first['metadata']['continue']}")
    assert rest["rows"][0]["cells"][0] == "template-0002"


async def test_nodes(e2e: E2eClient) -> None:
    """should return generic metadata details across all namespaces for nodes"""
    table = await _table(e2e, "/api/v1/nodes")
    assert len(table["columnDefinitions"]) >= 2
    assert len(table["rows"]) == 3
    assert table["metadata"]["resourceVersion"]


async def test_a_review_has_no_table(e2e: E2eClient) -> None:
    """should return a 406 for a backend which does not implement metadata"""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}},
    }
    with pytest.raises(Refused) as refused:
        await e2e.typed("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, Accept=TABLE)
    assert refused.value.status["code"] == 406
