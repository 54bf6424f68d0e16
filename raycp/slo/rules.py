"""The objectives as Prometheus rules: recorded error ratios, and the same burn alerts that the observer evaluates.

``raycp slo rules`` prints them; ``as_prometheus_rule`` wraps them for the Prometheus operator.
"""

from typing import Any

import yaml

from raycp.slo.budget import BURN_ALERTS
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


def _alerts(objective: Objective) -> list[dict[str, Any]]:
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
                "expr": f"{long} > {limit} and {short} > {limit}",
                "labels": {**same, "severity": alert.severity, "long_window": alert.long, "short_window": alert.short},
                "annotations": {
                    "summary": f"{objective.name}: the error budget burns {alert.factor(objective):.3g} times too fast",
                    "description": (
                        f"{{{{ $value | humanizePercentage }}}} of the changes of the last {alert.long} took longer "
                        f"than {seconds_text(objective.within)} or failed; the objective allows "
                        f"{100 * objective.budget:.4g} %. `raycp slo` shows where the time goes, "
                        "`raycp why` shows a single object."
                    ),
                },
            }
        )
    alerts.append(
        {
            "alert": "RaycpErrorBudgetExhausted",
            "expr": f"slo:raycp_error_budget_remaining:ratio{select} <= 0",
            "for": "5m",
            "labels": {**same, "severity": "ticket"},
            "annotations": {"summary": f"{objective.name}: no error budget left in {seconds_text(objective.window)}"},
        }
    )
    return alerts


def _fleet_alerts() -> list[dict[str, Any]]:
    def alert(name: str, expr: str, hold: str, severity: str, summary: str) -> dict[str, Any]:
        return {
            "alert": name,
            "expr": expr,
            "for": hold,
            "labels": {"severity": severity},
            "annotations": {"summary": summary},
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
    ]  # fmt: skip


def rule_groups(objectives: Objectives) -> list[dict[str, Any]]:
    """A group of recorded ratios, one of alerts per objective, and one for the fleet's health."""
    groups: list[dict[str, Any]] = []
    if len(objectives):
        groups.append({"name": "raycp-slo", "interval": "30s", "rules": _records(objectives)})
    groups += [{"name": f"raycp-slo-{o.name}", "interval": "30s", "rules": _alerts(o)} for o in objectives]
    groups.append({"name": "raycp-fleet", "rules": _fleet_alerts()})
    return groups


def rules_yaml(objectives: Objectives) -> str:
    """A Prometheus rules file."""
    return yaml.safe_dump({"groups": rule_groups(objectives)}, sort_keys=False, width=1000)


def as_prometheus_rule(objectives: Objectives, fleet: str, namespace: str = "monitoring") -> str:
    """The rules as a ``PrometheusRule`` of the Prometheus operator."""
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": f"raycp-{fleet}", "namespace": namespace, "labels": {"app.kubernetes.io/name": "raycp"}},
        "spec": {"groups": rule_groups(objectives)},
    }
    return yaml.safe_dump(manifest, sort_keys=False, width=1000)
