"""All metric families of raycp, grouped by the part that counts on them. ``docs/metrics.md`` lists the same names.

Work-queue families carry client-go's names, so that existing dashboards work; their labels are ``cluster``, ``controller`` and
``tier``. (client-go counts every delayed add as a retry; here ``workqueue_retries_total`` has a ``reason``.)
"""

from raycp.metrics.registry import Counter, Gauge, Histogram, Metrics

QUEUE = ("cluster", "controller", "tier")

FINE_SECONDS = (
    0.0001,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    15.0,
    60.0,
    300.0,
)
"""For queue and work durations: most are below a millisecond, the worst are minutes."""

SLI_SECONDS = (
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip


class QueueSeries:
    """The series of one (cluster, controller, tier); a work queue keeps one per lane and source."""

    __slots__ = (
        "_families", "_key", "_retries",
        "adds", "delayed", "depth", "longest_running", "queue_duration", "unfinished_work", "work_duration",
    )  # fmt: skip

    def __init__(self, families: "WorkQueueMetrics", cluster: str, controller: str, tier: str) -> None:
        key = (cluster, controller, tier)
        self.depth: Gauge = families.depth.labels(*key)
        self.adds: Counter = families.adds.labels(*key)
        self.queue_duration: Histogram = families.queue_duration.labels(*key)
        self.work_duration: Histogram = families.work_duration.labels(*key)
        self.unfinished_work: Gauge = families.unfinished_work.labels(*key)
        self.longest_running: Gauge = families.longest_running.labels(*key)
        self.delayed: Gauge = families.delayed.labels(*key)
        self._key = key
        self._families = families
        self._retries: dict[str, Counter] = {}

    def retry(self, reason: str) -> None:
        """Count one delayed re-add: ``reason`` is error, timeout, interrupted, requeue_after, worker_lost ..."""
        child = self._retries.get(reason)
        if child is None:
            child = self._retries[reason] = self._families.retries.labels(*self._key, reason)
        child.inc()


class WorkQueueMetrics:
    """``workqueue_*``. Depth counts ready items only."""

    def __init__(self, metrics: Metrics) -> None:
        self.depth = metrics.gauge("workqueue_depth", "Ready items in the queue.", QUEUE)
        self.adds = metrics.counter("workqueue_adds_total", "Items that became ready.", QUEUE)
        self.queue_duration = metrics.histogram(
            "workqueue_queue_duration_seconds", "Time between being ready and being handed out.", QUEUE, FINE_SECONDS
        )
        self.work_duration = metrics.histogram(
            "workqueue_work_duration_seconds",
            "Time between being handed out and being acknowledged.",
            QUEUE,
            FINE_SECONDS,
        )
        self.retries = metrics.counter("workqueue_retries_total", "Delayed re-adds, by reason.", (*QUEUE, "reason"))
        self.unfinished_work = metrics.gauge("workqueue_unfinished_work_seconds", "Summed age of all items in work.", QUEUE)
        self.longest_running = metrics.gauge(
            "workqueue_longest_running_processor_seconds", "Age of the oldest item in work.", QUEUE, merge="max"
        )
        self.delayed = metrics.gauge("raycp_queue_delayed_items", "Delayed items.", QUEUE)
        self.oldest_ready = metrics.gauge(
            "raycp_queue_oldest_ready_seconds", "Age of the oldest ready item.", ("tier",), merge="max"
        )
        self._series: dict[tuple[str, str, str], QueueSeries] = {}

    def series(self, cluster: str, controller: str, tier: str) -> QueueSeries:
        """The cached series of one lane and source."""
        key = (cluster, controller, tier)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = QueueSeries(self, cluster, controller, tier)
        return found


class ReconcileMetrics:
    """What workers count. ``result``: success, error, permanent, requeue_after, interrupted, timeout, waiting."""

    def __init__(self, metrics: Metrics) -> None:
        labels = ("controller", "cluster")
        self.total = metrics.counter("raycp_reconcile_total", "Reconciles ended, by result.", (*labels, "result"))
        self.errors = metrics.counter(
            "raycp_reconcile_errors_total", "Reconciles that raised, by kind of error.", (*labels, "error")
        )
        self.seconds = metrics.histogram("raycp_reconcile_time_seconds", "Time in the reconciler.", labels, FINE_SECONDS)
        self.active = metrics.gauge("raycp_reconcile_active", "Reconciles in work.", ("controller", "tier"))
        self.slots = metrics.gauge("raycp_worker_slots", "Slots that workers offer.", ("tier",))
        self.refused_writes = metrics.counter(
            "raycp_fenced_writes_total",
            "Writes refused because epoch, term or permit had ended.",
            ("cluster", "reason"),
        )


class ReflectorMetrics:
    """What informers count, by cluster and kind."""

    def __init__(self, metrics: Metrics) -> None:
        labels = ("cluster", "kind")
        self.lists = metrics.counter("raycp_reflector_lists_total", "Lists begun, by reason.", (*labels, "reason"))
        self.list_seconds = metrics.histogram("raycp_reflector_list_duration_seconds", "Duration of a list.", labels)
        self.watches = metrics.counter("raycp_reflector_watches_total", "Watches begun.", labels)
        self.watch_ends = metrics.counter("raycp_reflector_watch_ends_total", "Watches ended, by reason.", (*labels, "reason"))
        self.events = metrics.counter("raycp_reflector_events_total", "Events received, by type.", (*labels, "type"))
        self.verdicts = metrics.counter(
            "raycp_classify_verdicts_total", "Events classified, by reason.", ("cluster", "controller", "reason")
        )
        self.tier_problems = metrics.counter(
            "raycp_tier_problems_total", "Objects whose tier label or rule names an unknown tier.", ("controller", "cluster")
        )
        self.synced = metrics.gauge("raycp_informer_synced", "1 when the informer is synced.", labels, merge="min")
        self.objects = metrics.gauge("raycp_cache_objects", "Objects in the cache.", labels)
        self.bytes = metrics.gauge("raycp_cache_object_bytes", "Bytes of raw objects in the cache.", labels)
        self.watch_lag = metrics.gauge(
            "raycp_watch_lag_seconds", "Time since the watch last proved to be alive.", labels, merge="max"
        )


class ApiMetrics:
    """What API clients count. ``verb`` is the Kubernetes verb, ``code`` the HTTP status or ``error``."""

    def __init__(self, metrics: Metrics) -> None:
        self.requests = metrics.counter("rest_client_requests_total", "API requests.", ("cluster", "verb", "code"))
        self.seconds = metrics.histogram(
            "rest_client_request_duration_seconds", "Duration of API requests.", ("cluster", "verb"), FINE_SECONDS
        )
        self.budget_wait = metrics.histogram(
            "rest_client_rate_limiter_duration_seconds",
            "Time spent waiting for the client budget.",
            ("cluster",),
            FINE_SECONDS,
        )
        self.throttled = metrics.counter("raycp_api_throttled_total", "Answers 429, after which requests paused.", ("cluster",))
        self.in_flight = metrics.gauge("raycp_api_in_flight", "API requests under way.", ("cluster",))
        self.breaker = metrics.gauge("raycp_cluster_breaker_state", "0 closed, 1 half open, 2 open.", ("cluster",), merge="max")
        self.reachable = metrics.gauge("raycp_cluster_reachable", "1 when the API server answers.", ("cluster",), merge="max")


class SliMetrics:
    """The service-level indicator (law 9). ``kind``: user, away, backlog, system."""

    def __init__(self, metrics: Metrics) -> None:
        labels = ("controller", "cluster", "tier", "kind")
        self.latency = metrics.histogram(
            "raycp_reconcile_latency_seconds",
            "A change received until a reconcile that saw it succeeded.",
            labels,
            SLI_SECONDS,
        )
        self.declared_wait = metrics.counter(
            "raycp_declared_wait_seconds_total",
            "Time that reconcilers declared as waiting for quota or capacity; not part of the latency.",
            ("controller", "cluster", "tier", "wait"),
        )
        self.segments = metrics.counter(
            "raycp_reconcile_latency_segment_seconds_total",
            "The latency by where it was spent: watch_lag, delay, queue, dispatch, work, api.",
            ("controller", "tier", "segment"),
        )
        slo = ("slo", "controller", "tier")
        self.slo_total = metrics.counter("raycp_slo_changes_total", "Changes judged by an objective.", (*slo, "cluster"))
        self.slo_bad = metrics.counter("raycp_slo_bad_changes_total", "Changes that missed their objective.", (*slo, "cluster"))
        self.objective = metrics.gauge(
            "raycp_slo_objective_ratio", "The share that must be within the threshold.", slo, merge="max"
        )
        self.within = metrics.gauge("raycp_slo_threshold_seconds", "The latency that an objective allows.", slo, merge="max")
        self.open_overdue = metrics.gauge("raycp_slo_open_overdue_changes", "Changes under way beyond their threshold.", slo)


class FleetMetrics:
    """Leadership and supervision."""

    def __init__(self, metrics: Metrics) -> None:
        self.epoch = metrics.gauge("raycp_leader_epoch", "The fleet's epoch.", (), merge="max")
        self.incarnation = metrics.gauge("raycp_leader_incarnation", "The leader's incarnation.", (), merge="max")
        self.is_leader = metrics.gauge("leader_election_master_status", "1 where this fleet leads.", ("name",), merge="max")
        self.permit_left = metrics.gauge(
            "raycp_permit_remaining_seconds", "What remains of an actor's permit.", ("role",), merge="min"
        )
        self.term = metrics.gauge("raycp_shard_term", "The term of a shard's primary.", ("shard",), merge="max")
        self.switch_seconds = metrics.histogram(
            "raycp_leader_switch_seconds", "Duration of a switch's phases, by cause.", ("phase", "cause")
        )
        self.switches = metrics.counter("raycp_leader_switches_total", "Switches of leadership or primaries, by cause.", ("cause",))
        self.actors = metrics.gauge("raycp_actors", "Living actors, by role.", ("role",))
        self.pool = metrics.gauge("raycp_pool_workers", "Workers that a tier's pool should have.", ("tier",))
        self.restarts = metrics.counter(
            "raycp_actor_replacements_total", "Actors replaced, by role and reason.", ("role", "reason")
        )
        self.loop_failures = metrics.counter("raycp_loop_failures_total", "Loops that failed and were started again.", ("loop",))
        self.memory = metrics.gauge(
            "raycp_process_resident_memory_bytes", "Resident memory of an actor's process.", ("role", "name")
        )
        self.cpu = metrics.counter("raycp_process_cpu_seconds_total", "CPU time of an actor's process.", ("role", "name"))
        self.loop_lag = metrics.gauge(
            "raycp_event_loop_lag_seconds", "Delay of the actor's event loop.", ("role", "name"), merge="max"
        )
