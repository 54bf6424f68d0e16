"""The generated Prometheus rules: checked and unit-tested by promtool."""

from pathlib import Path
from typing import Any

import yaml
from promtool import promtool

from raycp.slo import Objective, Objectives
from raycp.slo.rules import as_prometheus_rule, rules_yaml

OBJECTIVES = Objectives([Objective("batchjob", "critical", 0.999, 1.0), Objective("*", None, 0.9, 0.25, 7 * 86400.0)])
BURN_RUNBOOK = {"runbook_url": "docs/runbook.md#raycperrorbudgetburn"}
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
        spec["exp_annotations"] = {"summary": summary, **BURN_RUNBOOK}
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
            "exp_annotations": {"summary": fired[long]["annotations"]["summary"], **BURN_RUNBOOK},
        }
        for long, short in (("1d", "2h"), ("3d", "6h"))
    ]


def test_without_traffic_only_the_absence_alert_fires(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules_yaml(OBJECTIVES))
    absent = {
        "exp_labels": {"severity": "page"},
        "exp_annotations": {"summary": "No metrics of the fleet.", "runbook_url": "docs/runbook.md#raycpobserverabsent"},
    }
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


def fires(tmp_path: Path, series: dict[str, str], expected: dict[str, int], at: str) -> None:
    """These series make so many alerts of each name fire at that time."""
    (tmp_path / "rules.yaml").write_text(rules_yaml(OBJECTIVES))
    counts = [
        {
            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
            "eval_time": at,
            "exp_samples": [{"labels": "{}", "value": count}],
        }
        for name, count in expected.items()
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": counts}
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", tmp_path / "tests.yaml")


def slo_series(changes: str, bad: str) -> dict[str, str]:
    return {
        f'raycp_slo_changes_total{{{LABELS},cluster="east"}}': changes,
        f'raycp_slo_bad_changes_total{{{LABELS},cluster="east"}}': bad,
        f"raycp_slo_objective_ratio{{{LABELS}}}": "0.999+0x200",
    }


def test_three_changes_that_missed_burn_no_budget_and_many_do(tmp_path: Path) -> None:
    """Three of three: the share is a thousand times the budget, and nobody is woken."""
    few, many = slo_series("0+0x60 3+0x140", "0+0x60 3+0x140"), slo_series("0+0x60 1+1x140", "0+0x60 1+1x140")
    fires(tmp_path, few, {"RaycpErrorBudgetBurn": 0, "RaycpErrorBudgetExhausted": 0}, "63m")
    fires(tmp_path, few, {"RaycpErrorBudgetBurn": 0, "RaycpErrorBudgetExhausted": 0}, "3h")
    fires(tmp_path, many, {"RaycpErrorBudgetBurn": 4, "RaycpErrorBudgetExhausted": 1}, "110m")


def test_the_fleets_alerts_fire_for_what_lasts_and_not_for_little(tmp_path: Path) -> None:
    here = 'controller="website",cluster="east"'
    ill = {
        f'raycp_reconcile_errors_total{{{here},error="TypeError"}}': "0+6x60",
        f'raycp_reconcile_total{{{here},result="error"}}': "0+6x60",
        f'raycp_reconcile_total{{{here},result="success"}}': "0+2x60",
        f"raycp_poison_convicted{{{here}}}": "1+0x60",
        'raycp_loop_failures_total{loop="sweep"}': "0+2x60",
        'raycp_cluster_reachable{cluster="east"}': "0+0x60",
        'raycp_informer_synced{cluster="east",kind="v1/Pod",role="primary"}': "0+0x60",
        f'workqueue_longest_running_processor_seconds{{{here},tier="high"}}': "400+0x60",
        'raycp_queue_oldest_ready_seconds{tier="high"}': "200+0x60",
        'raycp_actor_replacements_total{role="worker",reason="death"}': "0+1x60",
    }
    names = (
        "RaycpReconcilesFail", "RaycpPoisonConvicted", "RaycpLoopsFail", "RaycpClusterUnreachable", "RaycpInformerNotSynced",
        "RaycpStuckReconcile", "RaycpLaneStarves", "RaycpActorsDie",
    )  # fmt: skip
    fires(tmp_path, ill, dict.fromkeys(names, 1), "40m")
    well = {
        f'raycp_reconcile_errors_total{{{here},error="TypeError"}}': "0+1x60",
        f'raycp_reconcile_total{{{here},result="error"}}': "0+1x60",
        f'raycp_reconcile_total{{{here},result="success"}}': "0+0x60",
        f"raycp_poison_convicted{{{here}}}": "0+0x60",
        'raycp_loop_failures_total{loop="sweep"}': "0+0x20 1+0x40",
        'raycp_cluster_reachable{cluster="east"}': "1+0x60",
        'raycp_informer_synced{cluster="east",kind="v1/Pod",role="primary"}': "1+0x60",
        f'workqueue_longest_running_processor_seconds{{{here},tier="high"}}': "40+0x60",
        'raycp_queue_oldest_ready_seconds{tier="high"}': "2+0x60",
        'raycp_actor_replacements_total{role="worker",reason="death"}': "0+0x20 2+0x40",
    }
    fires(tmp_path, well, dict.fromkeys(names, 0), "30m")


def test_links_to_the_runbook_lead_to_where_it_is_published() -> None:
    groups = yaml.safe_load(rules_yaml(OBJECTIVES, "https://git.example.com/raycp/"))["groups"]
    links = {rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert "https://git.example.com/raycp/docs/runbook.md#raycperrorbudgetburn" in links
    assert all(link.startswith("https://git.example.com/raycp/docs/runbook.md#") for link in links)
