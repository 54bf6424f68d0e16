"""A cluster's ``qps`` is for the whole fleet, and one worker may use all of it (docs/head-of-line.md)."""

import fleet_samples as samples
import pytest
from inprocess import CLOCK, Stack, holds, stack, until

from raycp.kube.budget import BACKGROUND
from raycp.metrics import Merger


def times(fleet: Stack, cluster: str) -> list[float]:
    return sorted(write.time for write in fleet.writes(cluster, "secrets", "create"))


def most_in(at: list[float], seconds: float) -> int:
    """The highest number of moments in any window of that length."""
    most = first = 0
    for last in range(len(at)):
        while at[last] - at[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


QPS, BURST, COUNT = 50, 50, 250


@pytest.mark.parametrize("busy", [1, 4])
async def test_the_fleet_shares_one_rate_and_can_use_all_of_it(busy: int) -> None:
    limits = {"slow": {"qps": QPS, "burst": BURST}}
    async with stack(["parent"], homes={"hub": "0", "slow": "1"}, workers=4, fields=limits) as fleet:
        for number in range(busy, 4):
            await fleet.worker(number).drain(0.0)
        for number in range(COUNT):
            await fleet.put("slow", "parent", f"p{number}")
        await until(lambda: len(times(fleet, "slow")) == COUNT, 20.0)
        at = times(fleet, "slow")
        for window in (0.1, 0.5, 1.0, 2.0):
            assert most_in(at, window) <= BURST + QPS * window + 2, f"within {window} s"
        page = Merger()
        for number in range(busy):
            page.feed(str(number), fleet.worker(number).metrics.snapshot())
        waits = page.rows("rest_client_rate_limiter_duration_seconds")
        assert [labels for labels, counts in waits if sum(counts[:-1])] == [{"cluster": "slow"}]
        # A stall shorter than the burst's second loses no token, it is only late: so at the best moment of the second half.
        rate = max((number - BURST) / (at[number] - at[BURST]) for number in range(COUNT // 2, COUNT))
        assert rate >= 0.9 * QPS, f"only {rate:.1f} a second of {QPS}"


async def test_a_token_shortage_fails_no_key_and_delays_no_other_cluster() -> None:
    limits = {"slow": {"qps": 5, "burst": 1}}
    async with stack(["parent"], homes={"hub": "0", "slow": "1", "quick": "1"}, workers=2, fields=limits) as fleet:
        for number in range(60):
            await fleet.put("slow", "parent", f"p{number}")
        await until(lambda: fleet.shard("1").guard.state_of("slow")[0] == "throttled")
        assert "wait for a token" in fleet.shard("1").guard.state_of("slow")[1]
        begun = CLOCK.now()
        await fleet.put("quick", "parent", "q")
        await until(lambda: times(fleet, "quick"))
        assert CLOCK.now() - begun < 1.0
        assert len(times(fleet, "slow")) < 50, "long before the last of those that wait for a token"
        await until(lambda: len(times(fleet, "slow")) > 10, 10.0)
        ran = [name for _, cluster, name in samples.RAN if cluster == "slow"]
        assert len(ran) == len(set(ran)), "each was reconciled once: none has failed and been tried again"
        await until(lambda: sum(samples.RUNNING.values()) <= 8)
        assert "slow" not in fleet.shard("1").queue.blocked_clusters(), "the rest waits for its turn, it is not shut out"


async def test_live_work_goes_before_background() -> None:
    limits = {"slow": {"qps": 2, "burst": 1}}
    async with stack(["parent"], homes={"hub": "0", "slow": "1"}, workers=1, fields=limits) as fleet:
        tokens = fleet.shard("1").tokens
        budget = tokens.budget("slow")
        assert budget is not None
        await until(lambda: budget.grant(1) == 1)
        order: list[str] = []
        for number in range(6):
            budget.enqueue(BACKGROUND, lambda number=number: order.append(f"background {number}"))
        await fleet.put("slow", "parent", "live")
        await until(lambda: tokens.wanted("slow"))
        budget.pump()
        await until(lambda: times(fleet, "slow"))
        assert len(order) <= 1, "the worker's ask came last and was answered first"


async def test_a_dead_workers_tokens_return() -> None:
    limits = {"slow": {"qps": 0.05, "burst": 40}}
    async with stack(["gated"], homes={"hub": "0", "slow": "1"}, workers=1, fields=limits) as fleet:
        tokens = fleet.shard("1").tokens
        budget = tokens.budget("slow")
        assert budget is not None
        before = budget.state().tokens
        for number in range(5):
            await fleet.put("slow", "gated", f"g{number}")
        await until(lambda: len(samples.RAN) == 5)
        assert budget.state().tokens <= before - 4, "they carry a token each"
        await fleet.kill("worker", "standard/0")
        await until(lambda: budget.state().tokens >= before - 0.5)


async def test_a_cluster_without_qps_has_no_budget() -> None:
    async with stack(["parent"], homes={"hub": "0", "free": "1"}) as fleet:
        assert not fleet.shard("1").tokens.active
        assert not fleet.worker().clients.token_pools
        await fleet.put("free", "parent", "a")
        await until(lambda: times(fleet, "free"))
        await holds(lambda: fleet.shard("1").tokens.budget("free") is None, 0.05)


async def test_keys_of_other_shards_take_from_the_same_budget() -> None:
    limits = {"slow": {"qps": 30, "burst": 5}}
    homes = {"hub": "0", "slow": "1", "quick": "2"}
    async with stack(["remote"], homes=homes, workers=3, fields=limits) as fleet:
        for number in range(50):
            await fleet.put("hub", "remote", f"r{number}")
        await until(lambda: len(times(fleet, "slow")) == 50, 20.0)
        await until(lambda: len(times(fleet, "quick")) == 50, 20.0)
        at = times(fleet, "slow")
        for window in (0.1, 0.5, 1.0):
            assert most_in(at, window) <= 5 + 30 * window + 2, f"within {window} s"


async def test_a_successor_begins_with_an_empty_bucket() -> None:
    """Its predecessor may just have given out all there was."""
    limits = {"slow": {"qps": 2, "burst": 50}}
    async with stack(["tracked"], homes={"hub": "0", "slow": "1"}, fields=limits) as fleet:

        def tokens() -> float:
            budget = fleet.shard("1").tokens.budget("slow")
            assert budget is not None
            return budget.state().tokens

        assert tokens() > 30, "the first one's is full"
        await fleet.kill("shard", "1")
        await fleet.new_shard("1")
        begun = CLOCK.now()
        await fleet.configure()
        assert tokens() <= 2 * (CLOCK.now() - begun) + 0.1
        await fleet.synced()
