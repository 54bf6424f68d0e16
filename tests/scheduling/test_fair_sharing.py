"""Dominant resource fairness (Ghodsi et al., 2011) of what the queues of a cohort borrow, against shares that are computed here
from the rule alone, in fractions."""

from collections import Counter
from fractions import Fraction
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raycp.scheduling.admission import Admission
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.model import Candidate
from raycp.scheduling.queues import FlavorQuotas, FlavorResource, QueueSpec
from raycp.scheduling.quota import QuotaLedger

RESOURCES = ("cpu", "gpu", "mem")
FLAVORS = ("small", "large")
PODS = 12
"""Jobs of each queue."""

Amounts = dict[str, int]
amounts = st.fixed_dictionaries({name: st.integers(0, 4) for name in RESOURCES})
weights = st.sampled_from([0.5, 1.0, 2.0, 4.0])


def flavor(name: str, nominal: Amounts, lends: Amounts | None = None) -> FlavorQuotas:
    return FlavorQuotas(name, tuple(FlavorResource(each, nominal[each], None, (lends or {}).get(each)) for each in RESOURCES))


class Rule:
    """Queues of one cohort and what they use, by queue, flavor and resource."""

    def __init__(self, queues: list[QueueSpec], fleet: Amounts) -> None:
        self.queues = {each.name: each for each in queues}
        self.fleet = fleet
        self.used: Counter[tuple[str, str, str]] = Counter()

    def charge(self, queue: str, flavor: str, amounts: Amounts, sign: int = 1) -> None:
        for resource, amount in amounts.items():
            self.used[queue, flavor, resource] += sign * amount

    def share(self, queue: str) -> tuple[Fraction, Fraction]:
        """(of what the cohort lends, of what the fleet has): the largest part, over resources, divided by the weight."""
        borrowed, lent, used = Counter[str](), Counter[str](), Counter[str]()
        for name, spec in self.queues.items():
            for each in spec.flavors:
                for quota in each.resources:
                    lent[quota.name] += quota.nominal if quota.lending_limit is None else min(quota.nominal, quota.lending_limit)
                    if name == queue:
                        used[quota.name] += self.used[name, each.name, quota.name]
                        borrowed[quota.name] += max(0, self.used[name, each.name, quota.name] - quota.nominal)
        weight = Fraction(self.queues[queue].weight)
        over = max(Fraction(borrowed[name], lent[name]) if lent[name] else Fraction(0) for name in RESOURCES)
        return over / weight, max(Fraction(used[name], self.fleet[name]) for name in RESOURCES) / weight

    def fits(self, queue: str, flavor: str, amounts: Amounts) -> bool:
        """Whether the cohort has that left, if each lends all of its own."""
        for resource, amount in amounts.items():
            total = sum(
                quota.nominal for spec in self.queues.values() for quota in spec.flavors[0].resources if quota.name == resource
            )
            if amount > total - sum(self.used[name, flavor, resource] for name in self.queues):
                return False
        return True


@settings(max_examples=150)
@given(
    st.lists(st.tuples(weights, amounts, amounts, amounts), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(FLAVORS), amounts, st.booleans()), max_size=20),
)
def test_a_share_is_the_dominant_part_of_what_is_borrowed_whatever_the_order_and_what_is_kept(
    specs: list[tuple[float, Amounts, Amounts, Amounts]], steps: list[tuple[int, str, Amounts, bool]]
) -> None:
    queues = [
        QueueSpec(f"q{at}", (flavor("small", small, lends), flavor("large", large)), "one", weight)
        for at, (weight, small, large, lends) in enumerate(specs)
    ]
    fleet = dict.fromkeys(RESOURCES, 50)
    rule, ledger = Rule(queues, fleet), QuotaLedger()
    ledger.set_queues(queues)
    ledger.set_fleet(fleet)
    for at, kind, used, kept in steps:
        name = f"q{at % len(queues)}"
        before = rule.share(name)
        if kept:  # for a job that waits: nobody else may use it, and it is in no share
            ledger.keep(name, kind, used)
        else:
            ledger.charge(name, kind, used)
            rule.charge(name, kind, used)
        assert rule.share(name) >= before  # whoever gets more is never nearer to the next
        for queue in queues:
            assert ledger.share(queue.name) == tuple(map(float, rule.share(queue.name)))
    for at, kind, used, kept in sorted(steps, key=str):
        (ledger.keep if kept else ledger.charge)(f"q{at % len(queues)}", kind, used, -1)
    assert [ledger.share(queue.name) for queue in queues] == [(0.0, 0.0)] * len(queues)


@settings(max_examples=60)
@given(st.lists(st.tuples(weights, amounts, amounts), min_size=2, max_size=4), amounts)
def test_each_admission_goes_to_the_queue_with_the_least_share_and_shares_differ_by_one_job_at_most(
    specs: list[tuple[float, Amounts, Amounts]], lent: Amounts
) -> None:
    """Progressive filling, until the queue whose turn it is finds nothing left."""
    wants = {f"q{at}": want for at, (_, _, want) in enumerate(specs)}
    assume(all(any(want.values()) for want in wants.values()))
    queues = [QueueSpec(f"q{at}", (flavor("small", own),), "one", weight) for at, (weight, own, _) in enumerate(specs)]
    queues.append(QueueSpec("lender", (flavor("small", {name: 5 * amount for name, amount in lent.items()}),), "one"))
    capacity = declared_capacity("east", [DeclaredNodes(20, {"pods": 110, **dict.fromkeys(RESOURCES, 100)})])
    rule = Rule(queues, dict.fromkeys(RESOURCES, 2000))
    admission = Admission()
    admission.set_queues(queues, 0.0)
    admission.set_cluster(Candidate("east"), capacity, 0.0)
    waiting = Counter(dict.fromkeys(wants, PODS))
    for name, want in wants.items():
        for number in range(PODS):
            admission.submit(JobDemand(f"{name}-{number}", "ns", f"{name}-{number}", 0.0, 1, want, name), None, 0.0)
    last: dict[str, Any] = {}
    while +waiting:
        least = min(rule.share(name) for name in +waiting)
        next_ones = [name for name in +waiting if rule.share(name) == least]
        if not all(rule.fits(name, "small", wants[name]) for name in next_ones):
            break
        (decision,) = admission.decide(0.0, 1)
        name = decision.record.queue
        assert (decision.kind, name in next_ones) == ("Admit", True), (decision, next_ones)
        last[name] = rule.share(name)
        rule.charge(name, "small", wants[name])
        waiting[name] -= 1
    for name in +waiting:
        assert all(share <= rule.share(name) for share in last.values()), name  # without its last job, nobody has more
