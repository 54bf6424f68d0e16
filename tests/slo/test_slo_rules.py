"""The generated Prometheus rules: checked and unit-tested by promtool."""

from pathlib import Path
from typing import Any

import yaml
from promtool import promtool

from raycp.slo import Objective, Objectives
from raycp.slo.rules import as_prometheus_rule, rules_yaml

OBJECTIVES = Objectives([Objective("batchjob", "critical", 0.999, 1.0), Objective("*", None, 0.9, 0.25, 7 * 86400.0)])
LABELS = 'slo="batchjob-critical-1s",controller="batchjob",tier="critical"'


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules_yaml(OBJECTIVES))
    assert "SUCCESS" in promtool("check", "rules", tmp_path / "rules.yaml")


def _alert(at: str, name: str, expected: list[dict[str, Any]]) -> dict[str, Any]:
    return {"eval_time": at, "alertname": name, "exp_alerts": expected}


def test_burn_alerts_fire_and_end_after_recovery(tmp_path: Path) -> None:
    """100 changes a minute: two hours without misses, an hour with 5 % missed (50 times the budget), then none again."""
    (tmp_path / "rules.yaml").write_text(rules_yaml(OBJECTIVES))
    labels = {"slo": "batchjob-critical-1s", "controller": "batchjob", "tier": "critical"}
    page = {"exp_labels": {**labels, "severity": "page", "long_window": "1h", "short_window": "5m"}}
    slow = {"exp_labels": {**labels, "severity": "page", "long_window": "6h", "short_window": "30m"}}
    tests = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f'raycp_slo_changes_total{{{LABELS},cluster="east"}}', "values": "0+100x300"},
                    {
                        "series": f'raycp_slo_bad_changes_total{{{LABELS},cluster="east"}}',
                        "values": "0+0x120 5+5x59 300+0x120",
                    },
                ],
                "promql_expr_test": [
                    {
                        "expr": 'slo:raycp_bad_changes:ratio_rate5m{slo="batchjob-critical-1s"}',
                        "eval_time": "2h30m",
                        "exp_samples": [{"labels": f"slo:raycp_bad_changes:ratio_rate5m{{{LABELS}}}", "value": 0.05}],
                    }
                ],
            }
        ],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", tmp_path / "tests.yaml")
    # which alerts fire when: promtool compares annotations too, so the generated ones are read back
    groups = yaml.safe_load(rules_yaml(OBJECTIVES))["groups"]
    fired = {r["labels"].get("long_window"): r for r in groups[1]["rules"] if r.get("alert") == "RaycpErrorBudgetBurn"}
    for spec in (page, slow):
        summary = fired[spec["exp_labels"]["long_window"]]["annotations"]["summary"]
        spec["exp_annotations"] = {"summary": summary}
    stripped = yaml.safe_load(rules_yaml(OBJECTIVES))
    for group in stripped["groups"]:
        for rule in group["rules"]:
            rule.get("annotations", {}).pop("description", None)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(stripped))
    tests["tests"][0]["alert_rule_test"] = [  # type: ignore[index]
        _alert("1h59m", "RaycpErrorBudgetBurn", []),
        _alert("2h2m", "RaycpErrorBudgetBurn", []),
        _alert("2h50m", "RaycpErrorBudgetBurn", [page, slow, *_tickets(fired, labels)]),
        _alert("4h", "RaycpErrorBudgetBurn", _tickets(fired, labels)),
    ]
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", tmp_path / "tests.yaml")


def _tickets(fired: dict[str, Any], labels: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "exp_labels": {**labels, "severity": "ticket", "long_window": long, "short_window": short},
            "exp_annotations": {"summary": fired[long]["annotations"]["summary"]},
        }
        for long, short in (("1d", "2h"), ("3d", "6h"))
    ]


def test_without_traffic_only_the_absence_alert_fires(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules_yaml(OBJECTIVES))
    absent = {"exp_labels": {"severity": "page"}, "exp_annotations": {"summary": "No metrics of the fleet."}}
    tests = {
        "rule_files": ["rules.yaml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": f'raycp_slo_changes_total{{{LABELS},cluster="east"}}', "values": "7+0x60"}],
                "alert_rule_test": [
                    _alert("30m", "RaycpErrorBudgetBurn", []),
                    _alert("30m", "RaycpErrorBudgetExhausted", []),
                    _alert("30m", "RaycpObserverAbsent", [absent]),
                ],
            }
        ],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", tmp_path / "tests.yaml")


def test_the_prometheus_rule_has_the_same_groups() -> None:
    manifest = yaml.safe_load(as_prometheus_rule(OBJECTIVES, "demo"))
    assert manifest["kind"] == "PrometheusRule"
    assert manifest["metadata"]["name"] == "raycp-demo"
    assert manifest["spec"]["groups"] == yaml.safe_load(rules_yaml(OBJECTIVES))["groups"]


def test_a_window_of_another_length_gets_its_own_record() -> None:
    records = yaml.safe_load(rules_yaml(OBJECTIVES))["groups"][0]["rules"]
    budgets = {r["labels"]["window"]: r["expr"] for r in records if "budget" in r["record"]}
    assert set(budgets) == {"7d", "30d"}
    assert "all-all-250ms" in budgets["7d"]


def test_without_objectives_only_fleet_alerts_remain() -> None:
    assert [g["name"] for g in yaml.safe_load(rules_yaml(Objectives()))["groups"]] == ["raycp-fleet"]
