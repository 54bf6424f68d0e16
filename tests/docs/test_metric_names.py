"""Documents, alert rules and dashboards name metrics and labels that exist, and docs/metrics.md lists all that do."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from promtool import promtool

from raycp.metrics.catalog import catalogue
from raycp.metrics.dashboards import DASHBOARDS as GENERATED
from raycp.metrics.dashboards import dashboard, dashboard_json
from raycp.slo import Objective, Objectives
from raycp.slo.rules import rules_yaml

sys.path.insert(0, str(Path(__file__).parent))
from snippets import ROOT, documents

FAMILIES = catalogue()
OURS = r"\b(?:raycp|workqueue|rest_client|leader_election)_[a-z_]+\b"
OBJECTIVES = Objectives([Objective("batchjob", "critical", 0.999, 1.0), Objective("*", None, 0.9, 0.25, 7 * 86400.0)])
RULES = yaml.safe_load(rules_yaml(OBJECTIVES))
DASHBOARDS = sorted((ROOT / "deploy").rglob("*.json"))
MANIFESTS = sorted((ROOT / "deploy").rglob("*.yaml"))
RULE_FILES = [file for file in MANIFESTS if re.search(r"^ *- (?:alert|record):", file.read_text(), re.M)]
KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"}
GROUPINGS = r"\b(by|without|on|ignoring|group_left|group_right)\b\s*\(([^)]*)\)"
FROM_PROMETHEUS = {"le", "job", "instance", "pod", "namespace"}
"""Labels of buckets, and those that a scrape adds."""


class Query(NamedTuple):
    """A PromQL expression, and where it is written."""

    where: str
    expression: str

    def metrics(self) -> set[str]:
        """The names of metrics: identifiers outside of strings, matchers, ranges and groupings that are no function."""
        text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', self.expression)
        text = re.sub(GROUPINGS, " ", text)
        text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text)
        text = re.sub(r"\boffset\s+\w+", " ", text)
        names = re.findall(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])", text)
        return {name for name in names if name.lower() not in KEYWORDS}

    def labels(self) -> set[str]:
        """The labels that it matches or groups by."""
        found = set(re.findall(r'[{,]\s*([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"', self.expression))
        for _, names in re.findall(GROUPINGS, self.expression):
            found |= {name.strip() for name in names.split(",") if name.strip()}
        return found


def rule_queries() -> Iterator[tuple[Query, dict[str, Any]]]:
    for where, groups in [("raycp slo rules", RULES["groups"]), *((str(file), _groups(file)) for file in RULE_FILES)]:
        for group in groups:
            for rule in group["rules"]:
                yield Query(f"{where}: {rule.get('alert') or rule.get('record')}", rule["expr"]), rule


def _groups(file: Path) -> list[dict[str, Any]]:
    documents = [each for each in yaml.safe_load_all(file.read_text()) if each]
    return [group for each in documents for group in each.get("groups") or each.get("spec", {}).get("groups", [])]


def dashboard_queries() -> Iterator[Query]:
    for file in DASHBOARDS:
        for panel in _panels(json.loads(file.read_text())):
            for target in panel.get("targets", []):
                yield Query(f"{file.name}: {panel['title']}", target["expr"])
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                name, label = re.fullmatch(r"label_values\(([^,]+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
                yield Query(f"{file.name}: ${variable['name']}", f"sum by ({label}) ({name})")


def _panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def samples_of(metric: str) -> str:
    """The family of a sample's name; empty where there is none."""
    for suffix in ("", "_bucket", "_sum", "_count"):
        family = FAMILIES.get(metric.removesuffix(suffix) if suffix else metric)
        if family is not None and metric.endswith(suffix) and bool(suffix) == (family.type == "histogram"):
            return family.name
    return ""


RECORDED = {rule["record"] for _, rule in rule_queries() if "record" in rule}


def problems(query: Query) -> list[str]:
    metrics = query.metrics()
    if not metrics:
        return [f"{query.where}: no metric in {query.expression!r}"]
    found = [f"{query.where}: no metric {name}" for name in metrics if not samples_of(name) and name not in RECORDED]
    known = {label for name in metrics if samples_of(name) for label in FAMILIES[samples_of(name)].labels}
    if metrics & RECORDED:
        known |= {"slo", "controller", "tier", "window"}
    return found + [
        f"{query.where}: no label {label} of {', '.join(sorted(metrics))}"
        for label in query.labels() - known - FROM_PROMETHEUS
    ]


@pytest.mark.parametrize(
    ("expression", "metrics", "labels"),
    [
        ('sum by (slo, tier) (rate(raycp_x_total{slo="a b",tier=~"c|d"}[5m])) > 0.5', {"raycp_x_total"}, {"slo", "tier"}),
        ("a:b:c and on (x) absent(d) offset 5m", {"a:b:c", "d"}, {"x"}),
        ("histogram_quantile(0.99, sum by (le) (rate(h_bucket[1m])))", {"h_bucket"}, {"le"}),
        ("1 - (x / y) <= bool 1e-3", {"x", "y"}, set()),
    ],
)
def test_names_are_found_in_queries(expression: str, metrics: set[str], labels: set[str]) -> None:
    query = Query("here", expression)
    assert (query.metrics(), query.labels()) == (metrics, labels)


def test_a_query_of_what_does_not_exist_is_found() -> None:
    assert problems(Query("here", "raycp_cluster_reachable == 0")) == []
    assert problems(Query("here", "raycp_cluster_reachible == 0"))
    assert problems(Query("here", 'raycp_cluster_reachable{shard="0"} == 0'))
    assert problems(Query("here", "sum(raycp_reconcile_latency_seconds)")), "a histogram has no sample of its own name"


def test_alert_rules_name_what_exists() -> None:
    found = [problem for query, _ in rule_queries() for problem in problems(query)]
    assert not found, "\n".join(found)
    assert len(list(rule_queries())) > 10


def test_alerts_show_labels_that_their_metrics_have() -> None:
    for query, rule in rule_queries():
        known = {label for name in query.metrics() if samples_of(name) for label in FAMILIES[samples_of(name)].labels}
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
        assert shown <= known | set(rule.get("labels", {})), query.where


def test_deployed_dashboards_are_the_generated_ones() -> None:
    """``raycp slo dashboards --dir deploy/grafana`` writes them."""
    generated = {f"raycp-{name}.json": dashboard_json(name) for name in GENERATED}
    assert {file.name: file.read_text() for file in DASHBOARDS} == generated


def test_each_panel_has_a_place_of_its_own_and_an_alert_that_exists() -> None:
    alerts = {rule["alert"] for _, rule in rule_queries() if "alert" in rule}
    for name, (_, panels) in GENERATED.items():
        places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in dashboard(name)["panels"]]
        assert len(set(places)) == len(places) > 5
        assert {panel.alert for panel in panels} - {""} <= alerts


def test_dashboards_name_what_exists() -> None:
    queries = list(dashboard_queries())
    found = [problem for query in queries for problem in problems(query)]
    assert not found, "\n".join(found)
    assert len(queries) > 10


def test_promtool_accepts_rules_and_dashboards(tmp_path: Path) -> None:
    variables = {"__rate_interval": "5m", "__range": "1h"}
    records = [
        {"record": f"dashboard:query:{number}", "expr": re.sub(r"\$(\w+)", lambda m: variables.get(m[1], "x"), query.expression)}
        for number, query in enumerate(dashboard_queries())
    ]
    deployed = [group for file in RULE_FILES for group in _groups(file)]
    groups = [*RULES["groups"], *deployed, {"name": "dashboards", "rules": records}]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    assert "SUCCESS" in promtool("check", "rules", file)


def test_documents_name_what_exists() -> None:
    names = {(file, name) for file in documents() for name in re.findall(rf"`({OURS})[`{{]", file.read_text())}
    assert len(names) > 50
    assert not [(str(file.relative_to(ROOT)), name) for file, name in names if name not in FAMILIES]


def test_the_page_of_metrics_lists_all_of_them() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", (ROOT / "docs/metrics.md").read_text(), re.M)
    listed = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), meaning) for name, kind, labels, meaning in rows}
    assert listed == {spec.name: (spec.type, spec.labels, spec.help) for spec in FAMILIES.values()}
