"""What controllers and clusters did lately: rates and p99 of the last minute, out of the merged metrics."""

import math

import pytest
from page_views import JOB, NAMES, PageFleet, failure, fleet

from raycp.observer.activity import PACE, WINDOW, quantile


async def test_a_controller_at_work() -> None:
    page = PageFleet(fleet(NAMES), [failure("hub", "a"), failure("east-1", "a"), failure("east-1", "a")])
    before = await page.view.controllers()
    assert [row["per_second"] for row in before] == [None, None], "one sample is no rate"
    await page.work(30, failed=3, seconds=10.0)
    job, website = await page.view.controllers()
    assert (job["name"], job["kind"], job["clusters"], job["objects"]) == ("batchjob", JOB, 1, 400), (
        "a standby's objects count once"
    )
    assert (job["per_second"], job["errors_per_second"], job["ready"], job["failing"]) == (3.0, 0.3, 3, 0)
    assert (website["objects"], website["per_second"], website["failing"]) == (2000, 15.0, 2)
    assert 0.01 < website["p99_seconds"] <= 0.025, "in the bucket of 0.02 s"


async def test_a_cluster_under_requests() -> None:
    page = PageFleet(fleet(NAMES))
    await page.work(30, failed=3, seconds=10.0)
    hub, east, *_ = await page.view.clusters()
    assert (hub["name"], hub["requests_per_second"], hub["errors_per_second"], hub["in_flight"]) == ("hub", 7.2, 0.6, 2)
    assert (east["name"], east["requests_per_second"], east["errors_per_second"]) == ("east-1", 3.6, 0.3), "a conflict is no error"
    assert 0.0025 < east["p99_seconds"] <= 0.005


async def test_what_is_over_is_forgotten() -> None:
    page = PageFleet(fleet(NAMES))
    await page.work(30, failed=3)
    assert (await page.view.controllers())[0]["per_second"] == 3.0
    await page.clock.advance(WINDOW - 10.0)
    assert (await page.view.controllers())[0]["per_second"] == 0.5
    await page.clock.advance(PACE)
    (row, _) = await page.view.controllers()
    assert (row["per_second"], row["errors_per_second"], row["p99_seconds"]) == (0.0, 0.0, None)


async def test_what_was_counted_before_an_observer_began_is_no_rate() -> None:
    page = PageFleet(fleet(NAMES))
    late = page.reports.pop(next(iter(page.reports)))
    assert (await page.view.controllers())[0]["per_second"] is None
    await page.work(30_000, seconds=2.0)
    page.reports[late.member.actor_name] = late
    await page.view.controllers()
    await page.clock.advance(2.0)
    assert (await page.view.controllers())[0]["per_second"] == 0.0


@pytest.mark.parametrize(
    ("counts", "found"),
    [([], None), ([0, 0, 0], None), ([100, 0, 0], 0.99), ([0, 100, 0], 1.99), ([98, 0, 2], 2.0), ([50, 49, 1], 2.0)],
)
def test_a_quantile_is_interpolated_as_prometheus_does(counts: list[float], found: float | None) -> None:
    known = quantile(0.99, counts, (1.0, 2.0))
    assert known == found or (known is not None and found is not None and math.isclose(known, found))
