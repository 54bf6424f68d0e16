"""All metric families of raycp, grouped by the part that counts on them. ``docs/metrics.md`` lists the same names.

Work-queue families carry client-go's names, so that existing dashboards work; their labels are ``cluster``, ``controller`` and
``tier``. (client-go counts every delayed add as a retry; here ``workqueue_retries_total`` has a ``reason``.)
"""

from http import HTTPStatus

from raycp.base.loop_names import LoopName
from raycp.metrics.cells import Counter, Histogram, Spec
from raycp.metrics.labels import OTHER, Label
from raycp.metrics.registry import Metrics

CLUSTER, CONTROLLER, TIER, KIND = Label("cluster"), Label("controller"), Label("tier"), Label("kind")
SHARD, SLO, NAME = Label("shard"), Label("slo"), Label("name")
ROLE = Label.of("role", "leader", "shard", "standby", "worker", "observer", "embedded")
REASON = Label.few("reason", 50)
CAUSE = Label.few("cause", 20)
PHASE = Label.of("phase", "drain", "leaderless", "ramp_up", "backlog")
LOOP = Label.of("loop", *(name.value for name in LoopName))
RESULT = Label.of("result", "success", "requeue_after", "waiting", "error", "permanent", "interrupted")
ERROR = Label.few("error", 100)
"""The class of an error: the names of its authors' exceptions, so bounded by number only."""
WAIT = Label.few("wait", 50)
"""What reconcilers declare that they wait for: a word of the author's."""
VERB = Label.of("verb", "get", "list", "create", "update", "patch", "delete")
CODE = Label.of("code", "error", *(str(status.value) for status in HTTPStatus))
FENCE = Label.of("reason", "permit", "epoch", "term")
SPANS = Label.of("result", "exported", "failed", "dropped")
_EVENTS = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")
QUEUE = (CLUSTER, CONTROLLER, TIER)
INFORMER = (CLUSTER, KIND)
PROCESS = (ROLE, NAME)

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

    __slots__ = ("_families", "_key", "_retries", "adds", "queue_duration", "work_duration")

    def __init__(self, families: "WorkQueueMetrics", cluster: str, controller: str, tier: str) -> None:
        key = (cluster, controller, tier)
        self.adds: Counter = families.adds.labels(*key)
        self.queue_duration: Histogram = families.queue_duration.labels(*key)
        self.work_duration: Histogram = families.work_duration.labels(*key)
        self._key = key
        self._families = families
        self._retries: dict[str, Counter] = {}

    def retry(self, reason: str) -> None:
        """Count one delayed re-add: ``reason`` is ``error``, ``requeue_after`` or a word of ``raycp.classify.Reason``."""
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
        self.retries = metrics.counter("workqueue_retries_total", "Delayed re-adds, by reason.", (*QUEUE, REASON))
        self.unfinished_work = metrics.gauge("workqueue_unfinished_work_seconds", "Summed age of all items in work.", QUEUE)
        self.longest_running = metrics.gauge(
            "workqueue_longest_running_processor_seconds", "Age of the oldest item in work.", QUEUE, merge="max"
        )
        self.delayed = metrics.gauge("raycp_queue_delayed_items", "Delayed items.", QUEUE)
        self.oldest_ready = metrics.gauge(
            "raycp_queue_oldest_ready_seconds", "Age of the oldest ready item.", (TIER,), merge="max"
        )
        self._series: dict[tuple[str, str, str], QueueSeries] = {}

    def series(self, cluster: str, controller: str, tier: str) -> QueueSeries:
        """The cached series of one lane and source."""
        key = (cluster, controller, tier)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = QueueSeries(self, cluster, controller, tier)
        return found

    def drop(self, cluster: str) -> None:
        """The cluster left: its series start anew if it comes back."""
        for key in [key for key in self._series if key[0] == cluster]:
            del self._series[key]


class ReconcileMetrics:
    """What workers count."""

    def __init__(self, metrics: Metrics) -> None:
        labels = (CONTROLLER, CLUSTER)
        self.total = metrics.counter("raycp_reconcile_total", "Reconciles ended, by result.", (*labels, RESULT))
        self.errors = metrics.counter(
            "raycp_reconcile_errors_total", "Reconciles that failed, by class of error.", (*labels, ERROR)
        )
        self.seconds = metrics.histogram("raycp_reconcile_time_seconds", "Time in the reconciler.", labels, FINE_SECONDS)
        self.active = metrics.gauge("raycp_reconcile_active", "Reconciles in work.", (CONTROLLER, TIER))
        self.slots = metrics.gauge("raycp_worker_slots", "Slots that workers offer, by the tier of their pool.", (TIER,))
        self.refused_writes = metrics.counter(
            "raycp_fenced_writes_total",
            "Writes refused because epoch, term or permit had ended.",
            (CLUSTER, FENCE),
        )


class HandoutMetrics:
    """What shards count of hand-outs that went wrong. ``where``: queue, ledger, worker, credit."""

    def __init__(self, metrics: Metrics) -> None:
        self.recovered = metrics.counter(
            "raycp_handouts_recovered_total",
            "Hand-outs and slots that had been lost by a fault of raycp, and were recovered, by where they were lost.",
            (Label.of("where", "queue", "ledger", "worker", "credit"),),
        )
        self.too_large = metrics.gauge(
            "raycp_keys_too_large", "Keys whose object or children are too large to reconcile.", (CONTROLLER, CLUSTER)
        )


class PoisonMetrics:
    """What shards count of keys that end worker processes (law 11)."""

    def __init__(self, metrics: Metrics) -> None:
        labels = (CONTROLLER, CLUSTER)
        self.suspects = metrics.gauge(
            "raycp_poison_suspects", "Objects that run alone, since two workers died with them in flight.", labels
        )
        self.convicted = metrics.gauge(
            "raycp_poison_convicted", "Objects whose reconcile ended a worker alone: they run alone, with backoff.", labels
        )
        self.convictions = metrics.counter(
            "raycp_poison_convictions_total", "Deaths of workers for which one object is the known cause.", labels
        )


class _ByEvent(dict[str, Counter]):
    """A counter per type of event, as the server spells it; one for all that it should not send."""

    def __init__(self, other: Counter) -> None:
        super().__init__()
        self._other = other

    def __missing__(self, event: str) -> Counter:
        return self._other


class ReflectorSeries:
    """The series of one (cluster, kind); a reflector keeps it. ``received`` by the watch's type of event.

    Reasons of a list: ``start``, or what ended the watch or list before it, a word of ``raycp.cache.counts``.
    """

    __slots__ = ("_families", "_key", "list_seconds", "received", "watches")

    def __init__(self, families: "ReflectorMetrics", cluster: str, kind: str) -> None:
        self._families = families
        self._key = (cluster, kind)
        self.list_seconds: Histogram = families.list_seconds.labels(cluster, kind)
        self.watches: Counter = families.watches.labels(cluster, kind)
        self.received = _ByEvent(families.events.labels(cluster, kind, OTHER))
        self.received |= {event: families.events.labels(cluster, kind, event.lower()) for event in _EVENTS}

    def list_begun(self, reason: str) -> None:
        """Count a list that begins."""
        self._families.lists.labels(*self._key, reason).inc()

    def watch_ended(self, reason: str) -> None:
        """Count a watch that has ended."""
        self._families.watch_ends.labels(*self._key, reason).inc()


class ReflectorMetrics:
    """What informers count, by cluster and kind, and what follows from their events."""

    def __init__(self, metrics: Metrics) -> None:
        self.lists = metrics.counter("raycp_reflector_lists_total", "Lists begun, by reason.", (*INFORMER, REASON))
        self.list_seconds = metrics.histogram("raycp_reflector_list_duration_seconds", "Duration of a list.", INFORMER)
        self.watches = metrics.counter("raycp_reflector_watches_total", "Watches begun.", INFORMER)
        self.watch_ends = metrics.counter("raycp_reflector_watch_ends_total", "Watches ended, by reason.", (*INFORMER, REASON))
        self.events = metrics.counter(
            "raycp_reflector_events_total",
            "Events received by watches, by type.",
            (*INFORMER, Label.of("type", *map(str.lower, _EVENTS))),
        )
        self.verdicts = metrics.counter(
            "raycp_classify_verdicts_total", "Events classified, by reason.", (CLUSTER, CONTROLLER, REASON)
        )
        self.tier_problems = metrics.counter(
            "raycp_tier_problems_total", "Objects whose tier label or rule names an unknown tier.", (CONTROLLER, CLUSTER)
        )
        role = Label.of("role", "shard", "standby")
        self.synced = metrics.gauge("raycp_informer_synced", "1 when the informer is synced.", (*INFORMER, role), merge="min")
        self.objects = metrics.gauge("raycp_cache_objects", "Objects in the cache.", (*INFORMER, role))
        self.bytes = metrics.gauge("raycp_cache_object_bytes", "Bytes of raw objects in the cache.", (*INFORMER, role))
        self.watch_lag = metrics.gauge(
            "raycp_watch_lag_seconds", "Time since the watch last proved to be alive.", (*INFORMER, role), merge="max"
        )
        self.refused = metrics.gauge(
            "raycp_informer_refused", "1 while the API server is well but refuses this kind.", (*INFORMER, role), merge="max"
        )
        self.unreadable = metrics.gauge(
            "raycp_cache_unreadable_objects", "Objects left out because they cannot be read.", (*INFORMER, role)
        )
        self.folded = metrics.counter(
            "raycp_reflector_folded_events_total", "Events of a flood that were outdated when they were read.", (CLUSTER,)
        )

    def series(self, cluster: str, kind: str) -> ReflectorSeries:
        """The series of one informer."""
        return ReflectorSeries(self, cluster, kind)


class ApiMetrics:
    """What API clients count. ``verb`` is the Kubernetes verb, ``code`` the HTTP status or ``error``."""

    def __init__(self, metrics: Metrics) -> None:
        self.requests = metrics.counter("rest_client_requests_total", "API requests of reconcilers.", (CLUSTER, VERB, CODE))
        self.seconds = metrics.histogram(
            "rest_client_request_duration_seconds", "Duration of API requests of reconcilers.", (CLUSTER, VERB), FINE_SECONDS
        )
        self.budget_wait = metrics.histogram(
            "rest_client_rate_limiter_duration_seconds",
            "Time spent waiting for the client budget.",
            (CLUSTER,),
            FINE_SECONDS,
        )
        self.throttled = metrics.counter("raycp_api_throttled_total", "Answers 429, after which requests paused.", (CLUSTER,))
        self.in_flight = metrics.gauge("raycp_api_in_flight", "API requests under way, without watches.", (CLUSTER,))
        self.breaker = metrics.gauge("raycp_cluster_breaker_state", "0 closed, 1 half open, 2 open.", (CLUSTER,), merge="max")
        self.reachable = metrics.gauge("raycp_cluster_reachable", "1 when the API server answers.", (CLUSTER,), merge="max")


class SliMetrics:
    """The service-level indicator (law 9)."""

    def __init__(self, metrics: Metrics) -> None:
        kind = Label.of("kind", "user", "away", "backlog", "system")
        self.latency = metrics.histogram(
            "raycp_reconcile_latency_seconds",
            "A change received until a reconcile that saw it succeeded.",
            (CONTROLLER, CLUSTER, TIER, kind),
            SLI_SECONDS,
        )
        self.declared_wait = metrics.counter(
            "raycp_declared_wait_seconds_total",
            "Time that reconcilers declared as waiting for quota or capacity; not part of the latency.",
            (CONTROLLER, CLUSTER, TIER, WAIT),
        )
        self.segments = metrics.counter(
            "raycp_reconcile_latency_segment_seconds_total",
            "The latency by where it was spent: watch_lag, delay, queue, dispatch, work, api.",
            (CONTROLLER, TIER, Label.of("segment", "watch_lag", "delay", "queue", "dispatch", "work", "api")),
        )
        slo = (SLO, CONTROLLER, TIER)
        self.slo_total = metrics.counter("raycp_slo_changes_total", "Changes judged by an objective.", (*slo, CLUSTER))
        self.slo_bad = metrics.counter("raycp_slo_bad_changes_total", "Changes that missed their objective.", (*slo, CLUSTER))
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
        self.is_leader = metrics.gauge("leader_election_master_status", "1 where this fleet leads.", (NAME,), merge="max")
        self.permit_left = metrics.gauge(
            "raycp_permit_remaining_seconds", "What remains of the permit that ends first.", (ROLE,), merge="min"
        )
        self.term = metrics.gauge("raycp_shard_term", "The term of a shard's primary.", (SHARD,), merge="max")
        self.switch_seconds = metrics.histogram(
            "raycp_leader_switch_seconds", "Duration of a switch's phases, by cause.", (PHASE, CAUSE)
        )
        self.switches = metrics.counter("raycp_leader_switches_total", "Switches of leadership or primaries, by cause.", (CAUSE,))
        self.actors = metrics.gauge("raycp_actors", "Living actors, by role.", (ROLE,))
        self.pool = metrics.gauge("raycp_pool_workers", "Workers that a tier's pool should have.", (TIER,))
        self.restarts = metrics.counter(
            "raycp_actor_replacements_total", "Actors that ended and were to be replaced, by role and reason.", (ROLE, REASON)
        )
        self.loop_failures = metrics.counter("raycp_loop_failures_total", "Loops that failed and were started again.", (LOOP,))
        self.memory = metrics.gauge("raycp_process_resident_memory_bytes", "Resident memory of an actor's process.", PROCESS)
        self.cpu = metrics.counter("raycp_process_cpu_seconds_total", "CPU time of an actor's process.", PROCESS)
        self.loop_lag = metrics.gauge(
            "raycp_event_loop_lag_seconds", "Delay of the actor's event loop.", PROCESS, merge="max"
        )


class TraceMetrics:
    """What becomes of spans, where traces are exported."""

    def __init__(self, metrics: Metrics) -> None:
        self.spans = metrics.counter(
            "raycp_trace_spans_total",
            "Spans that the collector took, that it did not take, and that were dropped since too many waited.",
            (SPANS,),
        )


GROUPS = (
    WorkQueueMetrics,
    ReconcileMetrics,
    HandoutMetrics,
    ReflectorMetrics,
    ApiMetrics,
    SliMetrics,
    FleetMetrics,
    PoisonMetrics,
    TraceMetrics,
)


def catalogue() -> dict[str, Spec]:
    """The shapes of all families, by name."""
    metrics = Metrics()
    for group in GROUPS:
        group(metrics)
    return {family.spec.name: family.spec for family in metrics.families()}
