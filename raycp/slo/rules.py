"""The objectives as Prometheus rules: recorded error ratios, and the same burn alerts that the observer evaluates.

``raycp slo rules`` prints them; ``as_prometheus_rule`` wraps them for the Prometheus operator.
"""

from typing import Any

import yaml

from raycp.base.problems import runbook_of
from raycp.slo.budget import BURN_ALERTS, FEWEST
from raycp.slo.objectives import Objective, Objectives, seconds_text

RATE_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_BY = "slo, controller, tier"


def _ratio(window: str, select: str = "") -> str:
    bad = f"sum by ({_BY}) (rate(raycp_slo_bad_changes_total{select}[{window}]))"
    total = f"sum by ({_BY}) (rate(raycp_slo_changes_total{select}[{window}]))"
    return f"{bad} / {total}"


def _records(objectives: Objectives) -> list[dict[str, Any]]:
    """One record per window with the ratios of all objectives; the budget's record has its window as a label."""
    records: list[dict[str, Any]] = [{"record": f"slo:raycp_bad_changes:ratio_rate{w}", "expr": _ratio(w)} for w in RATE_WINDOWS]
    allowed = f"(1 - max by ({_BY}) (raycp_slo_objective_ratio))"
    for window in sorted({o.window for o in objectives}):
        text = seconds_text(window)
        names = "|".join(o.name for o in objectives if o.window == window)
        select = f'{{slo=~"{names}"}}'
        expr = f"1 - ({_ratio(text, select)}) / {allowed}"
        records.append({"record": "slo:raycp_error_budget_remaining:ratio", "expr": expr, "labels": {"window": text}})
    return records


def _enough(select: str, window: str) -> str:
    """A condition: so many changes have missed the objective that it is worth telling."""
    return f"sum by ({_BY}) (increase(raycp_slo_bad_changes_total{select}[{window}])) >= {FEWEST}"


def _alerts(objective: Objective, base: str) -> list[dict[str, Any]]:
    select = f'{{slo="{objective.name}"}}'
    # the series have these labels too; setting them here makes each alert rule unique
    same = {"slo": objective.name, "controller": objective.controller, "tier": objective.tier or "all"}
    alerts: list[dict[str, Any]] = []
    for alert in BURN_ALERTS:
        limit = f"{alert.threshold(objective):.10g}"
        long, short = (f"slo:raycp_bad_changes:ratio_rate{w}{select}" for w in (alert.long, alert.short))
        alerts.append(
            {
                "alert": "RaycpErrorBudgetBurn",
                "expr": f"{long} > {limit} and {short} > {limit} and {_enough(select, alert.long)}",
                "labels": {**same, "severity": alert.severity, "long_window": alert.long, "short_window": alert.short},
                "annotations": {
                    "summary": f"{objective.name}: the error budget burns {alert.factor(objective):.3g} times too fast",
                    "description": (
                        f"{{{{ $value | humanizePercentage }}}} of the changes of the last {alert.long} took longer "
                        f"than {seconds_text(objective.within)} or failed; the objective allows "
                        f"{100 * objective.budget:.4g} %. `raycp slo` shows where the time goes, "
                        "`raycp why` shows a single object."
                    ),
                    "runbook_url": base + runbook_of("RaycpErrorBudgetBurn"),
                },
            }
        )
    alerts.append(
        {
            "alert": "RaycpErrorBudgetExhausted",
            "expr": (
                f"slo:raycp_error_budget_remaining:ratio{select} <= 0 and on ({_BY}) "
                f"{_enough(select, seconds_text(objective.window))}"
            ),
            "for": "5m",
            "labels": {**same, "severity": "ticket"},
            "annotations": {
                "summary": f"{objective.name}: no error budget left in {seconds_text(objective.window)}",
                "runbook_url": base + runbook_of("RaycpErrorBudgetExhausted"),
            },
        }
    )
    return alerts


def _fleet_alerts(base: str) -> list[dict[str, Any]]:
    def alert(name: str, expr: str, hold: str, severity: str, summary: str) -> dict[str, Any]:
        return {
            "alert": name,
            "expr": expr,
            "for": hold,
            "labels": {"severity": severity},
            "annotations": {"summary": summary, "runbook_url": base + runbook_of(name)},
        }

    return [
        alert("RaycpObserverAbsent", "absent(raycp_leader_epoch)", "1m", "page", "No metrics of the fleet."),
        alert(
            "RaycpClusterUnreachable", "raycp_cluster_reachable == 0", "2m", "ticket",
            "Cluster {{ $labels.cluster }} does not answer."
        ),
        alert(
            "RaycpInformerNotSynced", "raycp_informer_synced == 0", "5m", "ticket",
            "The informer of {{ $labels.kind }} in {{ $labels.cluster }} is not synced.",
        ),
        alert(
            "RaycpStuckReconcile", "workqueue_longest_running_processor_seconds > 300", "1m", "ticket",
            "A reconcile of {{ $labels.controller }} in {{ $labels.cluster }} is {{ $value | humanizeDuration }} old.",
        ),
        alert(
            "RaycpLaneStarves", "raycp_queue_oldest_ready_seconds > 120", "2m", "ticket",
            "The oldest ready item of lane {{ $labels.tier }} has been waiting for {{ $value | humanizeDuration }}.",
        ),
        alert(
            "RaycpActorsDie", 'sum by (role) (increase(raycp_actor_replacements_total{reason=~"death|silence"}[15m])) > 3',
            "1m", "ticket", "{{ $value | humanize }} actors of role {{ $labels.role }} have died within 15 minutes.",
        ),
        alert(
            "RaycpReconcilesFail",
            "sum by (controller) (increase(raycp_reconcile_errors_total[10m])) >= 20 and sum by (controller) "
            "(increase(raycp_reconcile_errors_total[10m])) > 0.5 * sum by (controller) (increase(raycp_reconcile_total[10m]))",
            "2m", "ticket", "More than half of the reconciles of {{ $labels.controller }} fail.",
        ),
        alert(
            "RaycpPoisonConvicted", "raycp_poison_convicted > 0", "1m", "ticket",
            "{{ $value | humanize }} objects of {{ $labels.controller }} in {{ $labels.cluster }} end their workers.",
        ),
        alert(
            "RaycpLoopsFail", "sum by (loop) (increase(raycp_loop_failures_total[15m])) >= 10", "1m", "ticket",
            "The loop {{ $labels.loop }} has failed {{ $value | humanize }} times within 15 minutes.",
        ),
    ]  # fmt: skip


def rule_groups(objectives: Objectives, base: str = "") -> list[dict[str, Any]]:
    """A group of recorded ratios, one of alerts per objective, and one for the fleet's health. ``base``: the address of the
    project's files, to which the alerts' links to the runbook are relative."""
    groups: list[dict[str, Any]] = []
    if len(objectives):
        groups.append({"name": "raycp-slo", "interval": "30s", "rules": _records(objectives)})
    groups += [{"name": f"raycp-slo-{o.name}", "interval": "30s", "rules": _alerts(o, base)} for o in objectives]
    groups.append({"name": "raycp-fleet", "rules": _fleet_alerts(base)})
    return groups


def rules_yaml(objectives: Objectives, base: str = "") -> str:
    """A Prometheus rules file."""
    return yaml.safe_dump({"groups": rule_groups(objectives, base)}, sort_keys=False, width=1000)


def as_prometheus_rule(objectives: Objectives, fleet: str, namespace: str = "monitoring", base: str = "") -> str:
    """The rules as a ``PrometheusRule`` of the Prometheus operator."""
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": f"raycp-{fleet}", "namespace": namespace, "labels": {"app.kubernetes.io/name": "raycp"}},
        "spec": {"groups": rule_groups(objectives, base)},
    }
    return yaml.safe_dump(manifest, sort_keys=False, width=1000)
