"""Grafana dashboards over raycp's metrics: ``deploy/grafana``, and what ``raycp slo dashboards`` writes. Pure.

Five, by what one asks: are objectives met (``slo``), is work done (``queues``), who leads and lives (``leadership``), how are the
clusters (``clusters``), how are jobs (``jobs``). A panel is a title, a unit and its queries; a test holds all of them against the
families that exist. Each has the variables ``datasource`` and ``cluster``; links lead from one to the others.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raycp.base.problems import runbook_of

CLUSTER = 'cluster=~"$cluster"'
JOBS = f'controller="batchjob",{CLUSTER}'
RATE = "[$__rate_interval]"

WIDE, HIGH, ACROSS = 8, 8, 3
"""Grid units of a panel, and panels in a row."""

SCHEMA = 39
"""Grafana's version of the dashboard schema (Grafana 11)."""


class Panel(NamedTuple):
    """``queries``: legend and PromQL. ``alert``: the alert of ``raycp slo rules`` that is about it."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    text: str = ""
    alert: str = ""


def _p99(family: str, by: str, matching: str) -> str:
    return f"histogram_quantile(0.99, sum by (le, {by}) (rate({family}_bucket{{{matching}}}{RATE})))"


def _rate(family: str, by: str, matching: str = CLUSTER) -> str:
    return f"sum by ({by}) (rate({family}{{{matching}}}{RATE}))"


DASHBOARDS: Mapping[str, tuple[str, Sequence[Panel]]] = {
    "slo": (
        "raycp: service level",
        (
            Panel(
                "Error budget left", "percentunit", [("{{slo}} {{window}}", "slo:raycp_error_budget_remaining:ratio")],
                "Recorded by the rules of `raycp slo rules`.", "RaycpErrorBudgetExhausted",
            ),
            Panel(
                "Bad changes, share of an hour", "percentunit", [("{{slo}}", "slo:raycp_bad_changes:ratio_rate1h")],
                "Recorded by the rules of `raycp slo rules`.", "RaycpErrorBudgetBurn",
            ),
            Panel("Overdue changes", "short", [("{{slo}}", "sum by (slo) (raycp_slo_open_overdue_changes)")]),
            Panel(
                "Latency of users' changes, p99", "s",
                [("{{controller}} {{tier}}",
                  _p99("raycp_reconcile_latency_seconds", "controller, tier", f'kind=~"user|away",{CLUSTER}'))],
                "Exemplars name the change, as CLUSTER@RESOURCEVERSION, and the object: `raycp why` shows its steps.",
            ),
            Panel(
                "Where the time goes", "s",
                [("{{segment}}", f"sum by (segment) (rate(raycp_reconcile_latency_segment_seconds_total{RATE}))")],
            ),
            Panel("Changes", "ops", [("{{slo}}", _rate("raycp_slo_changes_total", "slo"))]),
        ),
    ),
    "queues": (
        "raycp: queues and controllers",
        (
            Panel("Ready keys", "short", [("{{tier}}", f"sum by (tier) (workqueue_depth{{{CLUSTER}}})")]),
            Panel("Oldest ready key", "s", [("{{tier}}", "raycp_queue_oldest_ready_seconds")], alert="RaycpLaneStarves"),
            Panel(
                "Slots in use", "short", [("busy", "sum(raycp_reconcile_active)"), ("offered", "sum(raycp_worker_slots)")]
            ),
            Panel("Time in the queue, p99", "s", [("{{tier}}", _p99("workqueue_queue_duration_seconds", "tier", CLUSTER))]),
            Panel("Reconciles", "ops", [("{{result}}", _rate("raycp_reconcile_total", "result"))]),
            Panel(
                "Errors", "ops", [("{{controller}} {{error}}", _rate("raycp_reconcile_errors_total", "controller, error"))],
                "`raycp errors` lists the objects.", "RaycpReconcilesFail",
            ),
            Panel(
                "Time in the reconciler, p99", "s",
                [("{{controller}}", _p99("raycp_reconcile_time_seconds", "controller", CLUSTER))],
            ),
            Panel(
                "Longest reconcile at work", "s",
                [("{{controller}}", f"max by (controller) (workqueue_longest_running_processor_seconds{{{CLUSTER}}})")],
                alert="RaycpStuckReconcile",
            ),
            Panel(
                "Objects that end workers", "short",
                [("{{controller}} suspects", f"sum by (controller) (raycp_poison_suspects{{{CLUSTER}}})"),
                 ("{{controller}} convicted", f"sum by (controller) (raycp_poison_convicted{{{CLUSTER}}})")],
                alert="RaycpPoisonConvicted",
            ),
        ),
    ),
    "leadership": (
        "raycp: leadership and processes",
        (
            Panel("Permit that ends first", "s", [("{{role}}", "raycp_permit_remaining_seconds")]),
            Panel(
                "Epoch and terms", "short", [("epoch", "raycp_leader_epoch"), ("term of shard {{shard}}", "raycp_shard_term")]
            ),
            Panel("Switches", "short", [("{{cause}}", f"sum by (cause) (increase(raycp_leader_switches_total{RATE}))")]),
            Panel(
                "Duration of a switch's phases, p99", "s",
                [("{{phase}}, {{cause}}",
                  "histogram_quantile(0.99, sum by (le, phase, cause) (rate(raycp_leader_switch_seconds_bucket[$__range])))")],
            ),
            Panel("Actors", "short", [("{{role}}", "raycp_actors")]),
            Panel(
                "Actors that ended", "short",
                [("{{role}} {{reason}}", f"sum by (role, reason) (increase(raycp_actor_replacements_total{RATE}))")],
                alert="RaycpActorsDie",
            ),
            Panel(
                "Loops that failed", "short", [("{{loop}}", f"sum by (loop) (increase(raycp_loop_failures_total{RATE}))")],
                alert="RaycpLoopsFail",
            ),
            Panel(
                "Refused writes of old epochs, terms and permits", "short",
                [("{{reason}}", f"sum by (reason) (increase(raycp_fenced_writes_total{RATE}))")],
            ),
            Panel("Delay of event loops", "s", [("{{role}} {{name}}", "raycp_event_loop_lag_seconds")]),
            Panel(
                "CPU", "percentunit",
                [("{{role}} {{name}}", f"sum by (role, name) (rate(raycp_process_cpu_seconds_total{RATE}))")],
            ),
            Panel("Memory", "bytes", [("{{role}} {{name}}", "raycp_process_resident_memory_bytes")]),
        ),
    ),
    "clusters": (
        "raycp: clusters",
        (
            Panel(
                "Unreachable, or breaker open", "short",
                [("{{cluster}} unreachable", f"raycp_cluster_reachable{{{CLUSTER}}} == 0"),
                 ("{{cluster}} breaker", f"raycp_cluster_breaker_state{{{CLUSTER}}} > 0")],
                alert="RaycpClusterUnreachable",
            ),
            Panel(
                "Informers that are not synced", "short",
                [("{{cluster}} {{kind}}", f"raycp_informer_synced{{{CLUSTER}}} == 0")], alert="RaycpInformerNotSynced",
            ),
            Panel("API requests in flight", "short", [("{{cluster}}", f"sum by (cluster) (raycp_api_in_flight{{{CLUSTER}}})")]),
            Panel(
                "Duration of API requests, p99", "s",
                [("{{cluster}}", _p99("rest_client_request_duration_seconds", "cluster", CLUSTER))],
            ),
            Panel(
                "API answers that are no success", "reqps",
                [("{{cluster}} {{code}}", _rate("rest_client_requests_total", "cluster, code", f'{CLUSTER},code!~"2.."'))],
            ),
            Panel(
                "Wait for the client budget, p99", "s",
                [("{{cluster}}", _p99("rest_client_rate_limiter_duration_seconds", "cluster", CLUSTER))],
            ),
            Panel(
                "Age of the last sign of a watch", "s",
                [("{{cluster}} {{kind}}", f'max by (cluster, kind) (raycp_watch_lag_seconds{{{CLUSTER},role="shard"}})')],
            ),
            Panel(
                "Lists and watch ends by reason", "ops",
                [("list {{reason}}", _rate("raycp_reflector_lists_total", "reason")),
                 ("watch end {{reason}}", _rate("raycp_reflector_watch_ends_total", "reason"))],
            ),
            Panel(
                "Objects in the cache", "short",
                [("{{cluster}}", f'sum by (cluster) (raycp_cache_objects{{{CLUSTER},role="shard"}})')],
            ),
        ),
    ),
    "jobs": (
        "raycp: jobs",
        (
            Panel("Reconciles of BatchJobs", "ops", [("{{result}}", _rate("raycp_reconcile_total", "result", JOBS))]),
            Panel(
                "Errors", "ops", [("{{error}}", _rate("raycp_reconcile_errors_total", "error", JOBS))],
                "`raycp errors` lists the jobs.",
            ),
            Panel(
                "Latency of users' changes, p99", "s",
                [("{{tier}}", _p99("raycp_reconcile_latency_seconds", "tier", f'kind=~"user|away",{JOBS}'))],
            ),
            Panel(
                "Waiting for quota or capacity", "s",
                [("{{wait}}", _rate("raycp_declared_wait_seconds_total", "wait", JOBS))],
                "Jobs' summed time of waiting per second: how many jobs wait, on average.",
            ),
            Panel("Jobs that are due", "short", [("{{tier}}", f"sum by (tier) (workqueue_depth{{{JOBS}}})")]),
            Panel("Jobs at work", "short", [("{{tier}}", 'sum by (tier) (raycp_reconcile_active{controller="batchjob"})')]),
            Panel(
                "API requests of reconcilers", "reqps",
                [("{{cluster}} {{verb}}", _rate("rest_client_requests_total", "cluster, verb"))],
                "Of all controllers.",
            ),
        ),
    ),
}  # fmt: skip


def dashboard(name: str, base: str = "") -> dict[str, Any]:
    """One of ``DASHBOARDS`` as Grafana imports it. ``base``: the address of the project's files, for links to the runbook."""
    title, panels = DASHBOARDS[name]
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "title": title,
        "uid": f"raycp-{name}",
        "schemaVersion": SCHEMA,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "tags": ["raycp"],
        "links": [{"type": "dashboards", "tags": ["raycp"], "asDropdown": False, "keepTime": True, "title": "raycp"}],
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "cluster",
                    "type": "query",
                    "datasource": source,
                    "query": "label_values(raycp_cluster_reachable, cluster)",
                    "includeAll": True,
                    "multi": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                    "refresh": 2,
                },
            ]
        },
        "panels": [_panel(number, panel, source, base) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel, source: dict[str, str], base: str) -> dict[str, Any]:
    text = panel.text
    if panel.alert:
        text = f"{text} Alert {panel.alert}: {base}{runbook_of(panel.alert)}".strip()
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": text,
        "datasource": source,
        "gridPos": {"h": HIGH, "w": WIDE, "x": number % ACROSS * WIDE, "y": number // ACROSS * HIGH},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend, "exemplar": "_bucket" in query}
            for place, (legend, query) in enumerate(panel.queries)
        ],
    }


def dashboard_json(name: str, base: str = "") -> str:
    """Its file."""
    return json.dumps(dashboard(name, base), indent=1) + "\n"
