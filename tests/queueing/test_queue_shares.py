"""Shares, lending, ``maxWait``, fairness: the queue in a simulation with virtual time."""

import heapq
import itertools
from collections import Counter, defaultdict
from random import Random

import pytest
from hand_clock import HandClock

from raycp.base.keys import RequestKey
from raycp.queueing import KeyBackoff, LanePolicy, QueuePolicy, WorkQueue


class Simulation:
    """Workers with slots that take ``work(key)`` seconds for each item, and streams of keys."""

    def __init__(self, policy: QueuePolicy, pools: dict[str, tuple[int, str | None]], work) -> None:
        self.clock = HandClock(start=0.0)
        self.queue = WorkQueue(policy, self.clock, rng=Random(3))
        self.free = {worker: slots for worker, (slots, _) in pools.items()}
        self.pools = pools
        self.work = work
        self.ends: list[tuple[float, int, str, RequestKey, str]] = []
        self.arrivals: list[tuple[float, int, float, dict]] = []
        self.order = itertools.count()
        self.used: Counter[str] = Counter()
        self.used_by_space: Counter[tuple[str, str]] = Counter()
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.handed: list[tuple[float, str, RequestKey]] = []
        self.fails: set[str] = set()

    def stream(self, every: float, tier: str, start: float = 0.0, end: float = 1e9, *, cluster="c", namespace="n",
               controller="k", priority: int = 100) -> None:  # fmt: skip
        spec = {"tier": tier, "cluster": cluster, "namespace": namespace, "controller": controller, "end": end,
                "priority": priority}  # fmt: skip
        heapq.heappush(self.arrivals, (start, next(self.order), every, spec))

    def flood(self, count: int, tier: str, **where) -> None:
        self.stream(0.0, tier, **where)
        *_, spec = self.arrivals[-1] if len(self.arrivals) == 1 else max(self.arrivals, key=lambda each: each[1])
        spec["count"] = count

    def run(self, until: float) -> None:
        while True:
            now = self.clock.now()
            while self.arrivals and self.arrivals[0][0] <= now:
                at, _, every, spec = heapq.heappop(self.arrivals)
                for _ in range(spec.get("count", 1)):
                    name = f"{spec['tier']}-{next(self.order)}"
                    key = RequestKey(spec["controller"], spec["cluster"], spec["namespace"], name)
                    self.queue.add(key, tier=spec["tier"], priority=spec["priority"], reason="update")
                if every and at + every < spec["end"]:
                    heapq.heappush(self.arrivals, (at + every, next(self.order), every, spec))
            for worker, (_, prefer) in self.pools.items():
                if self.free[worker]:
                    slots = self.pools[worker][0]
                    for item in self.queue.pull(worker, self.free[worker], prefer=prefer, slots=slots):
                        self.free[worker] -= 1
                        self.waits[item.tier].append(item.waited)
                        self.handed.append((now, item.tier, item.key))
                        seconds = self.work(item.key)
                        used = min(seconds, until - now)
                        self.used[item.tier] += used
                        self.used_by_space[item.key.cluster, item.key.namespace] += used
                        heapq.heappush(self.ends, (now + seconds, next(self.order), worker, item.key, item.tier))
            upcoming = [each[0][0] for each in (self.arrivals, self.ends) if each]
            if self.queue.delayed and any(self.free.values()):
                upcoming.append(self.queue.next_due())
            following = max(min(upcoming, default=until), now)
            if following >= until or not upcoming:
                self.clock.time = until
                return
            self.clock.time = following
            while self.ends and self.ends[0][0] <= following:
                _, _, worker, key, _ = heapq.heappop(self.ends)
                self.free[worker] += 1
                if key.cluster in self.fails:
                    self.queue.retry(worker, key)
                else:
                    self.queue.done(worker, key)


def share_of(sim: Simulation, tier: str, slots: int, seconds: float) -> float:
    return sim.used[tier] / (slots * seconds)


@pytest.mark.parametrize("slots", [1, 2, 10, 32])
def test_all_lanes_saturated_get_at_least_their_shares(slots):
    sim = Simulation(QueuePolicy(), {"w": (slots, None)}, lambda key: 0.02)
    for tier in ("critical", "high", "standard", "background"):
        sim.flood(12_000, tier)
    sim.run(6.0)
    for lane in sim.queue.policy.lanes:
        assert share_of(sim, lane.name, slots, 6.0) >= lane.share - 0.02, lane.name


@pytest.mark.parametrize(("critical", "background"), [(0.005, 0.005), (0.005, 0.1), (0.1, 0.005), (0.05, 2.0)])
def test_share_is_of_slots_whatever_the_work_takes(critical, background):
    sim = Simulation(QueuePolicy(), {"w": (10, None)}, lambda key: critical if key.name.startswith("critical") else background)
    sim.flood(60_000, "critical")
    sim.flood(20_000, "background")
    sim.run(20.0)
    # 40 : 10 of what both have: 80 % and 20 %.
    assert share_of(sim, "background", 10, 20.0) >= 0.16
    assert share_of(sim, "critical", 10, 20.0) >= 0.72


def test_critical_saturated_for_a_minute_starves_nobody():
    """The row of ``starvation`` in the targets: background's share and its longest wait."""
    sim = Simulation(QueuePolicy(), {"w": (10, None)}, lambda key: 0.005)
    for index in range(3):
        sim.stream(0.001, "critical", cluster=f"c{index}")  # 3 000/s for 2 000/s of capacity
    sim.stream(0.01, "background")  # 100/s, 5 % of the slots: less than its share of 10 %
    sim.run(60.0)
    assert share_of(sim, "background", 10, 60.0) >= 0.0495
    assert max(sim.waits["background"]) <= 1.0, "far below its maxWait of 60 s"
    assert len(sim.waits["background"]) >= 5_990


def test_idle_capacity_is_lent_and_given_back():
    sim = Simulation(QueuePolicy(), {"w": (10, None)}, lambda key: 0.01)
    sim.flood(8_000, "background")
    sim.stream(0.01, "critical", start=2.0)
    sim.run(6.0)
    assert share_of(sim, "background", 10, 6.0) > 0.85, "lent"
    assert max(sim.waits["critical"]) <= 0.0101, "given back as soon as one slot ends"


def test_what_was_borrowed_is_not_held_against_a_lane_for_more_than_a_second():
    sim = Simulation(QueuePolicy(), {"w": (10, None)}, lambda key: 0.01)
    sim.flood(60_000, "background")
    sim.stream(0.0008, "critical", start=30.0)
    sim.run(40.0)
    background = sorted(at for at, tier, _ in sim.handed if tier == "background" and at >= 30.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise([30.0, *background])]
    assert max(gaps) <= 1.0


def test_a_reserved_worker_serves_its_tier_first_and_lends_the_rest():
    sim = Simulation(QueuePolicy(), {"own": (4, "critical"), "any": (4, None)}, lambda key: 0.01)
    sim.flood(10_000, "standard")
    sim.stream(0.005, "critical", start=1.0)
    sim.run(3.0)
    assert max(sim.waits["critical"]) <= 0.0101
    assert sum(sim.used.values()) >= 0.98 * 8 * 3.0, "no slot idles while there is work"


def test_max_wait_holds_even_where_all_workers_are_reserved_for_a_saturated_tier():
    sim = Simulation(QueuePolicy(), {"own": (10, "critical")}, lambda key: 0.01)
    sim.stream(0.0005, "critical")
    sim.stream(0.02, "high")  # 50/s * 10 ms = 5 % of the slots; its share is 25 %
    sim.run(20.0)
    assert max(sim.waits["high"]) <= 5.0 + 0.05
    assert len(sim.waits["high"]) >= 700


def test_max_wait_never_lifts_a_backlog_over_live_items_of_its_lane():
    policy = QueuePolicy((LanePolicy("only", 1.0, 0.5),), default="only")
    sim = Simulation(policy, {"w": (4, None)}, lambda key: 0.01)
    sim.flood(5_000, "only", priority=40)
    sim.stream(0.02, "only", start=1.0, namespace="live")
    sim.run(6.0)
    live = [at for at, _, key in sim.handed if key.namespace == "live"]
    assert len(live) >= 240
    assert max(later - earlier for earlier, later in itertools.pairwise(live)) <= 0.041


def test_namespaces_and_clusters_share_slots_not_counts():
    """One namespace with long work, one with short: each gets half of the slots; so do clusters, however many
    namespaces they have."""
    sim = Simulation(QueuePolicy(), {"w": (8, None)}, lambda key: 0.5 if key.namespace == "slow" else 0.005)
    sim.flood(2_000, "standard", namespace="slow")
    sim.flood(20_000, "standard", namespace="fast")
    sim.run(10.0)
    assert 0.4 <= sim.used_by_space["c", "slow"] / 80.0 <= 0.6
    sim = Simulation(QueuePolicy(), {"w": (8, None)}, lambda key: 0.005)
    for index in range(20):
        sim.flood(1_000, "standard", cluster="many", namespace=f"n{index}")
    sim.flood(20_000, "standard", cluster="one")
    sim.run(5.0)
    assert 0.45 <= sim.used_by_space["one", "n"] / 40.0 <= 0.55


def test_a_flood_in_one_namespace_does_not_delay_the_others():
    def waits(flood: bool) -> list[float]:
        sim = Simulation(QueuePolicy(), {"w": (10, None)}, lambda key: 0.005)
        if flood:
            sim.flood(5_000, "standard", namespace="noisy", start=0.5)
        for index in range(4):
            sim.stream(0.037 + index * 0.001, "standard", namespace=f"quiet{index}")
        sim.run(4.0)
        due = {key: None for _, _, key in sim.handed if key.namespace != "noisy"}
        assert len(due) > 380
        return sorted(sim.waits["standard"]) if not flood else []

    assert waits(flood=False)[-1] <= 0.005
    waits(flood=True)
    sim = Simulation(QueuePolicy(), {"w": (10, None)}, lambda key: 0.005)
    sim.flood(5_000, "standard", namespace="noisy", start=0.5)
    sim.stream(0.037, "standard", namespace="quiet")
    starts: dict[str, float] = {}
    add = sim.queue.add

    def noting(key, **how):
        starts[key.name] = sim.clock.now()
        return add(key, **how)

    sim.queue.add = noting
    sim.run(4.0)
    quiet = [at - starts[key.name] for at, _, key in sim.handed if key.namespace == "quiet"]
    assert len(quiet) > 100
    assert max(quiet) <= 0.0051, "the next slot that ends is theirs"


def test_a_cluster_that_hangs_takes_its_part_of_the_slots_and_no_more():
    policy = QueuePolicy(cluster_in_flight=3)
    sim = Simulation(policy, {"w": (12, None)}, lambda key: 60.0 if key.cluster == "dead" else 0.005)
    sim.flood(500, "critical", cluster="dead")
    for index in range(4):
        sim.stream(0.01, "critical", cluster=f"c{index}")
    sim.run(10.0)
    served = [key for _, _, key in sim.handed if key.cluster != "dead"]
    assert len(served) >= 3_990
    others = [each for each in sim.waits["critical"] if each < 1.0]
    assert len([each for each in others if each > 0.005]) == 0
    sim.queue.limit_cluster("dead", 0, "breaker open")
    assert sim.queue.blocked_clusters() == {"dead": "breaker open"}
    assert sim.queue.oldest_ready()["critical"] == 0.0, "what can't be served lifts no lane"


def test_retries_take_a_quarter_of_the_lane_at_most():
    policy = QueuePolicy(backoff=KeyBackoff(0.001, 0.002, 0.0))
    sim = Simulation(policy, {"w": (16, None)}, lambda key: 0.01)
    sim.fails.add("broken")
    sim.flood(400, "standard", cluster="broken")
    sim.stream(0.001, "standard", start=1.0, cluster="fine")  # 10 of 16 slots
    sim.run(5.0)
    late = [(at, key) for at, _, key in sim.handed if at > 1.0]
    broken = sum(key.cluster == "broken" for _, key in late) * 0.01 / (4.0 * 16)
    assert 0.2 <= broken <= 0.25 + 0.01
    assert sum(key.cluster == "fine" for _, key in late) >= 3_980


def test_concurrency_of_a_controller_is_kept_and_fair():
    policy = QueuePolicy(concurrency={"capped": 2})
    sim = Simulation(policy, {"w": (10, None)}, lambda key: 0.01)
    for index in range(30):
        sim.flood(40, "standard", controller="capped", namespace=f"n{index}")
    for index in range(30):
        sim.stream(0.1, "standard", controller="free", namespace=f"n{index}", start=index * 0.0033)
    sim.run(5.0)
    counts = Counter(key.namespace for _, _, key in sim.handed if key.controller == "capped")
    assert sum(counts.values()) >= 0.95 * 2 * 5.0 / 0.01, "both of its slots are used all the time"
    assert max(counts.values()) - min(counts.values()) <= 3
    assert sum(key.controller == "free" for _, _, key in sim.handed) >= 1_450
