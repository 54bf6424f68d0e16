"""The status page in a real browser: what fails is what one sees first, in words; every section filled; no script error.

Needs Debian's chromium (``make tools``). Where it is missing the tests are skipped, and fail when ``CI=true``. With
``RAYCP_SCREENSHOTS=FOLDER`` pictures of the page are written there; those in ``docs/figures`` are made so.
"""

import re
import statistics
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from browser import Tab, browser
from job_samples import QUEUES, JobShard, batch_job, condition, many_jobs, pods, some_jobs
from page_tab import photograph, shown
from page_views import JOB, NAMES, SINCE, PageFleet, crashing_fleet, failing_fleet, failure, fleet, objective, one_down, suspect

from raycp.base.problems import FleetProblem, ProblemCode, ProblemOwner
from raycp.observer.job_pages import FRESH

PHONE = 390
HELLO = f"hub/{JOB}/default/hello"
RED = {"light": "rgb(180, 35, 24)", "dark": "rgb(249, 112, 102)"}
LISTED = 26 * 50
"""Failing objects that a fleet with 200 clusters and 26 shards lists at most."""

PICTURE = {"width": 1060, "height": 700}
"""A window for the documentation."""

BUSY = {"critical": 3, "standard": 140, "background": 612}


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(tmp_path_factory.mktemp("chromium")) as address:
        yield address


async def said(page: Tab) -> str:
    """The first line."""
    return f"{await page.text('#glyph')} {await page.text('#sentence')}"


JOBS = "document.querySelectorAll('#jobs tbody tr').length"
ROWS = "[...document.querySelectorAll('#jobs tbody tr')]"

WIDEST = (
    "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    ".map(e => e.outerHTML.slice(0, 90))"
)
"""What sticks out of the window."""


async def fits(page: Tab) -> bool:
    return bool(await page.eval("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


async def open_sections(page: Tab) -> list[str]:
    found: list[str] = await page.eval("[...document.querySelectorAll('section>details[open]')].map(e => e.parentNode.id)")
    return found


def busy(jobs: JobShard | None = None) -> PageFleet:
    """Work in all lanes, one cluster of five is down, one objective has spent its budget, one controller fails."""
    slo = [objective("batchjob", "critical", 1.0, 12, 0.75), objective("echo", "all", 10.0, 61, -0.27)]
    return PageFleet(one_down(), failing_fleet()[1], failing=400, slo=slo, lanes=BUSY, jobs=jobs)


async def test_an_idle_fleet(devtools: str) -> None:
    idle = PageFleet(fleet(NAMES), slo=[objective("batchjob", "critical", 1.0, 0, 1.0)])
    async with shown(devtools, idle, **PICTURE) as (page, _):
        assert await said(page) == "✓ Ready: nothing fails in 5 clusters"
        assert await page.text("#said[role=status]") == "Ready: nothing fails in 5 clusters", "for screen readers"
        assert await page.eval("document.title") == "✓ Ready: nothing fails in 5 clusters · production"
        assert await open_sections(page) == ["controllers", "clusters", "slo"], "what is idle folds"
        assert (await page.text("header")).startswith("raycp production leader on node-4 · epoch 3 as of 13:41:00 UTC")
        await page.eval("document.querySelector('#workers summary').click()")
        assert "standard/1 running 0 / 32" in await page.text("#workers")
        await photograph(page, "idle")


async def test_every_section_is_filled(devtools: str) -> None:
    page = busy()
    await page.measured(3, failed=3)
    async with shown(devtools, page) as (tab, _):
        await tab.until("document.querySelectorAll('#controllers polyline').length === 4")
        assert await open_sections(tab) == ["attention", "hour", "controllers", "clusters", "slo", "lanes", "past"]
        for name in ("story", "leadership", "shards", "workers"):
            await tab.eval(f"document.querySelector('#{name} summary').click()")
        text = {name: await tab.text(f"#{name}") for name in ("tiles", *await open_sections(tab))}
        assert "400 objects failing 4 / 5 clusters reachable 4 / 5 clusters synced" in text["tiles"]
        assert "90 / 96 slots busy" in text["tiles"]
        assert "397 failing objects more" in text["attention"], "some of many that fail alike are listed"
        assert "website v1/ConfigMap 5 2,000 ≥ 3 15 1.5 25 ms 0 15" in text["controllers"]
        assert "batchjob batch.raycp.io/v1alpha1/BatchJob 1 400 0 3 0.3" in text["controllers"]
        assert "hub reachable yes 214 7.2 0.6 5.0 ms 2 200 ms ago 0 v1.36.2" in text["clusters"]
        assert "region=east" in text["clusters"]
        assert "raycp.io/cluster" not in text["clusters"]
        assert "batchjob, critical 99.9 % in 1.0 s" in text["slo"]
        assert "-27.0 % 1.5× 1.5× page" in text["slo"]
        assert "19 ms" in text["slo"]
        assert "background 612" in text["lanes"]
        assert await tab.eval("document.querySelectorAll('#past polygon').length") == 4
        assert "epoch 3 incarnation 2 holder node-4/leader lock configMap" in text["leadership"]
        assert "12:11:00 shard 0 death 3 4 – 180 ms 12 ms 40 ms node-1/shard" in text["leadership"]
        assert "0 running 4 1 3" in text["shards"]
        assert "standard/0 running 30 / 32" in text["workers"]


async def test_a_storm_in_the_background_is_no_alarm(devtools: str) -> None:
    """All slots work off a backlog, and the fleet is ready: lanes are open, the live tiers are short."""
    slo = [objective("batchjob", "critical", 1.0, 2, 0.96)]
    page = PageFleet(fleet(NAMES), slo=slo, lanes={"critical": 2, "standard": 41, "background": 48_612})
    await page.work(3000)
    async with shown(devtools, page, **PICTURE) as (tab, _):
        assert await said(tab) == "✓ Ready: nothing fails in 5 clusters"
        assert "48,655 ready in lanes 90 / 96 slots busy" in await tab.text("#tiles")
        assert await open_sections(tab) == ["controllers", "clusters", "slo", "lanes", "past"]
        widths = await tab.eval("[...document.querySelectorAll('#lanes .bar i')].map(e => parseFloat(e.style.width))")
        assert widths[-1] == 100
        assert max(widths[:-1]) < 1
        await tab.until("document.querySelectorAll('#past polygon').length === 4")
        for name in ("controllers", "clusters", "slo"):
            await tab.eval(f"document.querySelector('#{name} summary').click()")
        await photograph(tab, "storm")


async def test_a_failing_controller_is_seen_first(devtools: str) -> None:
    page = PageFleet(*failing_fleet())
    await page.work(30, failed=3)
    async with shown(devtools, page, **PICTURE) as (tab, server):
        sentence = "Failing: controller website, 3 objects in 3 clusters since 13:38 UTC: TypeError at website.py:40"
        assert await tab.text("#sentence") == sentence
        assert await tab.eval("document.title") == f"✕ {sentence} · production"
        row = (
            "failing west-1/v1/ConfigMap/default/c TypeError: 'NoneType' object is not subscriptable at website.py:40 website "
            "13:38:00 (3 min) 2 in 2 s"
        )
        assert row in await tab.text("#attention")
        link = "[...document.querySelectorAll('#attention a')].find(a => a.textContent.startsWith('west-1'))"
        assert await tab.eval(f"{link}.href") == f"{server.url}/#west-1/v1/ConfigMap/default/c"
        await photograph(tab, "failing")


async def test_a_row_leads_to_its_story(devtools: str) -> None:
    page = PageFleet(fleet(NAMES), [failure("hub", "hello", object=HELLO, controller="batchjob", next_try=None)])
    async with shown(devtools, page) as (tab, server):
        assert "when it changes" in await tab.text("#attention")
        await tab.eval("document.querySelector('#attention a').click()")
        await tab.until("document.querySelectorAll('#timeline ol.steps > li').length === 5")
        assert await tab.eval("location.href") == f"{server.url}/#{HELLO}"
        assert await tab.eval("document.querySelector('#object').value") == HELLO
        assert await tab.eval("document.querySelector('#objects').children[0].value") == HELLO, "offered for completion"


@pytest.mark.parametrize("scheme", RED)
async def test_workers_that_all_crash_are_red_and_not_ready(devtools: str, scheme: str) -> None:
    async with shown(devtools, PageFleet(crashing_fleet()), dark=scheme == "dark", **PICTURE) as (page, _):
        assert (await said(page)).startswith("✕ Not ready: worker critical/0, worker standard/0, worker standard/1: starting")
        assert "the last 4 workers died within 2 s of their start" in await page.text("#details")
        assert await page.eval("getComputedStyle(document.querySelector('#sentence')).color") == RED[scheme]
        assert (await page.eval("document.title")).startswith("✕ Not ready: ")
        assert "CrashLoop" in await page.text("#attention")
        assert "3 of 3 workers not ready" in await page.text("#workers")
        if scheme == "light":
            await photograph(page, "crashing")


async def test_a_cluster_that_is_down(devtools: str) -> None:
    async with shown(devtools, PageFleet(one_down()), **PICTURE) as (page, _):
        assert (await said(page)).startswith("! Degraded: cluster west-2: connection refused")
        assert await page.text("#clusters tbody tr:first-child") == (
            "west-2 unreachable breaker open connection refused: https://10.0.7.1:6443, tried again in 8 s no 602 – – – 0 41.0 s "
            "ago 0 v1.36.2 region=west"
        )
        await page.eval("document.querySelector('#attention a').click()")
        assert await page.eval("location.search") == "?find=west-2"
        assert await page.eval("document.querySelectorAll('#clusters tbody tr').length") == 1
        await photograph(page, "one-down")


def many(down: int, failing: int = 0, jobs: JobShard | None = None) -> PageFleet:
    names = ["hub", *(f"edge-{number:03}" for number in range(1, 200))]
    status = fleet(names)
    reason = "connection refused"
    for at in range(200 - down, 200):
        gone: dict[str, Any] = {"reachable": False, "synced": False, "breaker": "open", "reason": reason}
        status.clusters[at] = msgspec.structs.replace(status.clusters[at], **gone)
    problems = [
        FleetProblem(ProblemCode.CLUSTER_UNREACHABLE, ProblemOwner(cluster=row.name), reason, SINCE)
        for row in status.clusters
        if not row.reachable
    ]
    listed = [failure(names[at % 200], f"c{at}") for at in range(min(failing, LISTED))]
    return PageFleet(msgspec.structs.replace(status, problems=problems), listed, failing, jobs=jobs)


async def test_two_hundred_clusters(devtools: str) -> None:
    rows = "document.querySelectorAll('#clusters tbody tr').length"
    async with shown(devtools, many(down=2), **PICTURE) as (page, _):
        assert "2 unreachable, 2 not synced, of 200" in await page.text("#clusters")
        assert (await page.text("#clusters tbody tr:first-child")).startswith("edge-198 unreachable")
        assert await page.eval(rows) == 25
        await photograph(page, "200-clusters")
        await page.eval("document.querySelector('#clusters button').click()")
        assert await page.eval(rows) == 200
        assert await fits(page)
    async with shown(devtools, many(down=0), "/?find=edge-117") as (page, _):
        assert await page.eval(rows) == 1, "a filter opens what folds"
        assert "edge-117" in await page.text("#clusters")
        await page.eval("document.querySelector('#find').value = ''; filter('')")
        assert "clusters" not in await open_sections(page)


@pytest.mark.wide
async def test_a_large_fleet_in_trouble_is_shown_within_a_second(devtools: str) -> None:
    """200 clusters, five of them down, and 10 000 failing objects: from the request of the page until its tables are filled."""
    large = many(down=5, failing=10_000)
    await large.measured(3, failed=3)
    seconds = []
    for _ in range(5):
        async with shown(devtools, large) as (page, _server):
            assert "10,000 objects failing" in await page.text("#tiles")
            seconds.append(await page.eval("performance.getEntriesByName('shown')[0].startTime / 1000"))
    print(f"seconds until shown: {seconds}")
    assert statistics.median(seconds) <= 1.0, seconds


@pytest.mark.parametrize("width", [PHONE, 320, 768, 1300])
async def test_it_fits_the_window(devtools: str, width: int) -> None:
    name = "a" * 180
    long_job = batch_job(name, "Failing", namespace="b" * 63, failed=12_345, clusters=[pods("c" * 63, failed=12_345)])
    page = busy(JobShard([*some_jobs(), long_job], QUEUES))
    long = failure("hub", "x" * 253, cause="ApiError 403: " + "y" * 180, controller="a-controller-with-a-long-name")
    page.reports[next(iter(page.reports))].report.failures.append(long)
    await page.measured(2, failed=3)
    async with shown(devtools, page, f"/#{HELLO}", width=width, height=844) as (tab, _):
        await tab.until("document.querySelectorAll('#timeline li').length > 1")
        await tab.until(f"{JOBS} === 9")
        await tab.until("document.querySelectorAll('#hour svg.curve').length === 4")
        for name in ("changes", "leadership", "shards", "workers"):
            await tab.eval(f"document.querySelector('#{name} summary').click()")
        assert await fits(tab), await tab.eval(WIDEST)
        if width == PHONE:
            await photograph(tab, "phone")


async def test_the_story_of_an_object_has_its_own_address(devtools: str) -> None:
    async with shown(devtools, PageFleet(fleet(NAMES)), f"/#{HELLO}", width=1060, height=640) as (page, _):
        await page.until("document.querySelectorAll('#timeline ol.steps > li').length === 5")
        story = await page.text("#timeline")
        assert "controller batchjob: not queued now" in story
        assert re.search(r"13:40:50\.7\d\d received reason update, tier critical, delay 0, why field spec.qosTier", story), story
        assert "+100 ms handed out worker standard/0, attempt 1, waited 0.2 ms" in story
        assert "failed ApiError 403: pods is forbidden" in story
        assert "create /api/v1/namespaces/default/pods in east-1: 201 in 4.0 ms" in story
        await photograph(page, "story")
        await page.eval("(e => { e.value = 'FORBIDDEN'; e.dispatchEvent(new Event('input')); })(document.querySelector('#steps'))")
        assert await page.eval("document.querySelectorAll('#timeline ol.steps > li').length") == 1
        await page.eval("location.hash = 'hub/BatchJob'")
        await page.until("document.querySelector('#timeline').innerText.includes('Write CLUSTER/KIND/NAMESPACE/NAME')")


async def test_an_unknown_object(devtools: str) -> None:
    """A 404 is shown; it is the one message that Chromium itself writes to the console."""
    async with shown(devtools, PageFleet(fleet(NAMES)), "/#hub/v1/Pod/default/nobody") as (page, _):
        await page.until("document.querySelector('#timeline').innerText === 'no recent step of this object is known'")
        assert all("404" in each for each in page.errors)
        page.errors.clear()


async def test_the_keyboard_reaches_everything(devtools: str) -> None:
    async with shown(devtools, PageFleet(*failing_fleet())) as (page, _):
        await page.press("/")
        assert await page.eval("document.activeElement.id") == "find"
        await page.press("w")
        assert await page.eval("location.search") == "?find=w", "a key goes where one types"
        await page.press("Tab")
        assert await page.eval("document.activeElement.parentNode.parentNode.id") == "attention"
        await page.press("Enter")
        await page.until("!document.querySelector('#attention details').open")
        await page.press("Enter")
        await page.until("document.querySelector('#attention details').open")
        await page.press("Tab")
        focused = await page.eval("document.activeElement.textContent")
        assert focused == "hub/v1/ConfigMap/default/a"
        before = await page.eval("last.ticks")
        await page.until(f"last.ticks > {before}")
        assert await page.eval("document.activeElement.textContent") == focused, "an update takes no focus away"


async def test_an_observer_that_ends_is_unknown(devtools: str) -> None:
    async with shown(devtools, PageFleet(fleet(NAMES))) as (page, server):
        await server.stop()
        await page.until("document.body.dataset.live === 'no'")
        await page.eval("filter('west'); filter(''); hour.recall()")  # what draws the last answer again
        await page.until("document.querySelector('#hour').innerText.includes('the history can')")
        assert (await said(page)).startswith("? Unknown: the observer does not answer: ")
        assert "What is shown is as of" in await page.text("#details")
        assert (await page.eval("document.title")).startswith("? Unknown")
        page.errors.clear()  # Chromium tells of the refused connection


async def test_an_empty_fleet_is_shown_as_such(devtools: str) -> None:
    async with shown(devtools, PageFleet(None)) as (page, _):
        assert (await said(page)).startswith("✕ Not ready: the leader has not sent its status to the observer yet")
        assert "no leader" in await page.text("header")
        assert "the leader has not sent its status" in await page.text("#attention")
        for name in ("slo", "workers"):
            await page.eval(f"document.querySelector('#{name} summary').click()")
        assert "has no objectives yet" in await page.text("#slo")
        assert "none" in await page.text("#workers")


async def test_a_standby_fleet(devtools: str) -> None:
    async with shown(devtools, PageFleet(fleet(NAMES, following="raycp-blue", leader=msgspec.UNSET))) as (page, _):
        assert await said(page) == "✓ Ready: stands by for raycp-blue, and may take over"
        assert "stands by for raycp-blue" in await page.text("header")
        await page.eval("document.querySelector('#leadership summary').click()")
        assert "stands by for raycp-blue" in await page.text("#leadership")


MARKUP = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"


async def test_hostile_texts_stay_texts(devtools: str) -> None:
    told = f"{MARKUP}\u202etxt\u0007"
    row = failure("hub", "a", object=f"hub/v1/ConfigMap/default/{told}", cause=f"TypeError: {told}", controller=told, frame=told)
    problem = FleetProblem(ProblemCode.OTHER, ProblemOwner(cluster=told), told, 1.0)
    reached = {"reason": told, "labels": {told: told}, "version": told}
    status = fleet(NAMES, fleet=told, problems=[problem], suspects=[suspect(object=told, controller=told, reason=told)])
    status.clusters[1] = msgspec.structs.replace(status.clusters[1], synced=False, **reached)
    status.controllers[0] = msgspec.structs.replace(status.controllers[0], name=told, kind=told)
    slo = [objective(told, told, 1.0, 61, -0.27)]
    status.controllers.append(fleet(NAMES).controllers[0])
    cause = condition("Scheduled", "False", told, told)
    job = batch_job(told, "Pending", namespace=told, spec={"queue": told}, conditions=[cause], clusters=[pods(told, failed=1)])
    queue = QUEUES[0] | {"name": told, "cohort": told, "problem": told, "head": {"job": told, "reason": told, "message": told}}
    jobs = JobShard([job], [queue])
    async with shown(devtools, PageFleet(status, [row], slo=slo, jobs=jobs), f"/?find=%3Cimg#{HELLO}") as (page, _):
        await page.until(f"{JOBS} === 1 && document.querySelectorAll('#queues tbody tr').length === 1")
        assert "<img src=x" in await page.text("#jobs-table")
        await page.until("document.querySelectorAll('#timeline li').length > 1")
        assert "TypeError: <img src=x onerror='window.hit=1'><script>window.hit=1</script>\\u202etxt\\u0007" in await page.text(
            "#attention"
        )
        assert await page.eval("document.images.length + document.scripts.length") == 1, "the page's own script"
        assert await page.eval("window.hit === undefined")
        assert "\u202e" not in await page.text("body")
        assert "\\u202e" in await page.eval("document.title")


async def test_jobs_and_queues(devtools: str) -> None:
    """Failing ones and those that wait come first; each leads to its story; Pods by cluster as bars; what waits says why."""
    page = PageFleet(fleet(NAMES), jobs=JobShard(some_jobs(), QUEUES))
    async with shown(devtools, page, width=1060, height=1000) as (tab, server):
        await tab.until(f"{JOBS} === 8")
        assert await tab.text("#jobs .digest") == "8 jobs: 1 new, 1 queued, 1 pending, 2 running, 1 failing, 1 complete, 1 failed"
        names = await tab.eval("[...document.querySelectorAll('#jobs tbody a.mono')].map(e => e.textContent)")
        assert names[:4] == ["default/purge", "default/resize", "default/index", "default/fresh"]
        assert names[-1] == "default/report"
        texts = await tab.eval(f"{ROWS}.map(e => e.innerText.replace(/\\s+/g, ' '))")
        rows = {text.split(" ")[0]: text for text in texts}
        assert "NoClusterFits: no cluster has room for 8 Pods with 4 CPUs each" in rows["default/index"]
        assert "BehindHead: 2 jobs are before it, the first is research/big 3 of 14 in its queue" in rows["research/train"]
        told = "west-1 4 of 4 active, 7 succeeded, 1 failed east-1 4 of 4 active, 6 succeeded 13 / 20 1 91 min"
        assert told in rows["default/render"]
        assert "unreachable, 3 failed" in rows["default/purge"]
        bar = f"{ROWS}.find(e => e.innerText.includes('default/render')).querySelector('.bar')"
        widths = await tab.eval(f"[...{bar}.children].map(e => Math.round(12 * parseFloat(e.style.width) / 100))")
        assert widths == [7, 4, 0, 1], "succeeded, ready, active and not ready, failed"
        queues = await tab.text("#queues")
        assert "research company 14 41 cpu 410 of 400, 10 borrowed memory 980Gi of 1600Gi gpu nvidia.com/gpu 12 of 16" in queues
        assert "research/big: needs 64 cpu of flavor default, 0 are free" in queues
        assert "it is held (stopPolicy)" in queues
        assert await tab.eval("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#jobs .body'))"), "no column is cut"
        await tab.eval("document.querySelector('#jobs').scrollIntoView()")
        await photograph(tab, "jobs")
        await tab.eval("[...document.querySelectorAll('#jobs a.mono')].find(e => e.textContent === 'default/render').click()")
        assert await tab.eval("location.href") == f"{server.url}/#hub/{JOB}/default/render"
        await tab.until("document.querySelector('#timeline').innerText.includes('no recent step')")
        tab.errors.clear()  # the 404


async def test_jobs_are_filtered_sorted_and_paged_by_their_address(devtools: str) -> None:
    page = PageFleet(fleet(NAMES), jobs=JobShard(many_jobs(300, NAMES[1:]), QUEUES))
    async with shown(devtools, page, "/?phase=Running&order=name") as (tab, server):
        await tab.until(f"{JOBS} === 50")
        assert await tab.text("#jobs-at") == "1 to 50 of 60"
        assert await tab.text("#jobs tbody tr:first-child td") == "team-00/job-00000"
        await tab.eval("document.querySelector('#jobs-next').click()")
        await tab.until(f"{JOBS} === 10")
        assert await tab.eval("location.search") == "?phase=Running&order=name&page=2"
        choose = "(e => { e.value = 'queue-3'; e.dispatchEvent(new Event('change')); })"
        await tab.eval(f"{choose}(document.querySelector('#jobs-queue'))")
        await tab.until("document.querySelector('#jobs tbody').innerText.includes('queue-3')")
        assert await tab.eval("location.search") == "?phase=Running&order=name&queue=queue-3"
        await tab.until("0 < jobs.data.matching && jobs.data.matching < 10")  # one of this queue is among the rows before, too
        await tab.open(f"{server.url}/?job=job-0004&page=9")
        await tab.until(f"{JOBS} === 10")
        assert await tab.eval("location.search") == "?job=job-0004", "a page that is no more leads to the last"
        assert await tab.eval("document.querySelector('#jobs-name').value") == "job-0004"
        await tab.open(f"{server.url}/?find=suspended+team-18")
        await tab.until("document.querySelector('#jobs tbody')?.innerText.includes('Suspended')")
        assert await tab.eval(JOBS) == await tab.eval("jobs.data.matching")


async def test_jobs_that_change_are_shown_without_reloading_what_did_not(devtools: str) -> None:
    jobs = JobShard(some_jobs())
    page = PageFleet(fleet(NAMES), jobs=jobs)
    async with shown(devtools, page) as (tab, _):
        await tab.until(f"{JOBS} === 8")
        assert await tab.eval("document.querySelector('#queues').hidden"), "there is none"
        first = "document.querySelector('#jobs tbody tr')"
        await tab.eval(f"{first}.dataset.kept = 'yes'")
        jobs.cache.jobs[-1] = batch_job("fresh", "Running", rv=2, at=5000, active=1)
        await page.clock.advance(FRESH)
        await tab.until("document.querySelector('#jobs .digest').textContent.includes('3 running')")
        assert await tab.eval(f"{first}.dataset.kept") == "yes"
        await page.clock.advance(FRESH)
        tag = await tab.eval("jobs.tag")
        await tab.eval("askJobs()")
        assert await tab.eval("jobs.tag") == tag, "the answer was: not modified"
        jobs.silent = True
        await page.clock.advance(FRESH)
        await tab.eval("askJobs()")
        await tab.until("!document.querySelector('#jobs-problem').hidden")
        assert "the fleet runs no BatchJob: what is shown is older" in await tab.text("#jobs-problem")
        assert await tab.eval(JOBS) == 8
        tab.errors.clear()  # Chromium tells of the 503


async def test_a_fleet_without_batchjob_has_no_section_of_jobs_and_asks_for_none(devtools: str) -> None:
    status = fleet(NAMES)
    page = PageFleet(msgspec.structs.replace(status, controllers=status.controllers[1:]), jobs=JobShard(some_jobs(), QUEUES))
    async with shown(devtools, page) as (tab, _):
        await tab.until("last.ticks >= 2")
        assert await tab.eval("document.querySelector('#jobs').hidden && document.querySelector('#queues').hidden")
        assert page.jobs.cache.looked == 0
    standby = PageFleet(fleet(NAMES, following="raycp-blue", leader=msgspec.UNSET), jobs=JobShard(some_jobs(), QUEUES))
    async with shown(devtools, standby) as (tab, _):
        await tab.until("last.ticks >= 2")
        assert standby.jobs.cache.looked == 0, "its hub's shard is a standby"
    idle = PageFleet(fleet(NAMES), jobs=JobShard([batch_job("old", "Complete")]))
    async with shown(devtools, idle) as (tab, _):
        await tab.until("document.querySelector('#jobs .digest').textContent === '1 job: 1 complete'")
        assert "jobs" not in await open_sections(tab), "what is over folds"


@pytest.mark.wide
async def test_a_large_fleet_with_ten_thousand_jobs_is_shown_within_a_second(devtools: str) -> None:
    """200 clusters, five of them down: from the request of the page until its tables, that of the jobs too, are filled."""
    names = ["hub", *(f"edge-{number:03}" for number in range(1, 200))]
    seconds, jobs = [], many_jobs(10_000, names[1:])
    for _ in range(5):
        large = many(down=5, jobs=JobShard(jobs, QUEUES))
        async with shown(devtools, large) as (page, _server):
            await page.until(f"{JOBS} === 50")
            assert "10,000 jobs: " in await page.text("#jobs .digest")
            seconds.append(await page.eval("performance.getEntriesByName('jobs')[0].startTime / 1000"))
    print(f"seconds until shown: {seconds}")
    assert statistics.median(seconds) <= 1.0, seconds
