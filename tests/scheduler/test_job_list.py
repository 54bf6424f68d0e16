"""``JobList``: pages of the hub's jobs: filters, order, cuts; what it costs; what each row says."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import FAILED, FITS_NOWHERE, PHASES, QUOTA, WAITS, HubCache, batch_job, condition, many_jobs, pods, some_jobs

from raycp.base.clock import VirtualClock
from raycp.base.objects import Obj
from raycp.protocol.job_query import PAGE_LIMIT, JobQuery, read_query
from raycp.scheduler import job_list
from raycp.scheduler.job_list import KEPT_FOR, MOST_ASKING, PART, JobList
from raycp.scheduler.job_rows import SHOWN_CLUSTERS, job_line, job_row
from raycp.scheduling.admissions import JobWait

FIELDS = [
    "phase", "active", "ready", "succeeded", "failed", "startTime", "clusters", "conditions", "admission", "name", "assigned",
    "type", "status", "reason", "message", "state", "queue", "parallelism", "completions", "reachable",
]  # fmt: skip


def made(jobs: list[Obj], clock: VirtualClock | None = None) -> tuple[JobList, HubCache]:
    cache = HubCache(jobs)
    queue_of = lambda namespace: "nightly" if namespace == "default" else ""  # noqa: E731
    return JobList(cache, queue_of, lambda *key: WAITS.get(key), clock or VirtualClock()), cache


async def names(jobs: JobList, **query: Any) -> list[str]:
    found = await jobs.answer(JobQuery(**query))
    assert found is not None
    return [row["name"] for row in found["items"]]


async def test_failing_ones_and_those_that_wait_come_first() -> None:
    jobs, _ = made(some_jobs())
    assert await names(jobs) == ["purge", "resize", "index", "fresh", "train", "import", "render", "report"]
    assert await names(jobs, order="newest", limit=2) == ["fresh", "index"]
    assert await names(jobs, order="oldest", limit=2) == ["report", "import"]
    assert await names(jobs, order="failures", limit=2) == ["import", "purge"]
    assert await names(jobs, order="name", limit=3) == ["fresh", "import", "index"], "by namespace, then name"


async def test_filters() -> None:
    jobs, _ = made(some_jobs())
    assert await names(jobs, phase="Queued") == ["train"]
    assert await names(jobs, queue="research") == ["train"]
    assert await names(jobs, queue="nightly", phase="Failed") == ["import"], "the queue of its namespace"
    assert await names(jobs, queue="-") == []
    assert await names(jobs, name="Default/RE") == ["resize", "render", "report"]
    assert await names(jobs, find="west-2 fail") == ["purge", "import"], "clusters, phases, reasons: each word somewhere"
    assert await names(jobs, find="noclusterfits") == ["index"]
    assert await names(jobs, find="nightly complete") == ["report"]
    assert await names(made([batch_job("alone", namespace="x")])[0], queue="-") == ["alone"]


async def test_counts_are_of_all_jobs_whatever_is_asked() -> None:
    jobs, cache = made(some_jobs())
    found = await jobs.answer(JobQuery(phase="Running", limit=1))
    assert found is not None
    assert (found["total"], found["matching"], len(found["items"]), found["listed"]) == (8, 2, 1, True)
    assert found["phases"] == {
        "New": 1, "Queued": 1, "Pending": 1, "Running": 2, "Failing": 1, "Complete": 1, "Failed": 1
    }  # fmt: skip
    assert found["queues"] == {"nightly": 7, "research": 1}
    cache.listed = False
    found = await jobs.answer(JobQuery(limit=0))
    assert found is not None
    assert (found["items"], found["listed"]) == ([], False)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1100), st.integers(0, 100), st.sampled_from(["attention", "name", "newest", "oldest", "failures"]))
def test_pages_are_parts_of_the_sorted_whole(offset: int, limit: int, order: Any) -> None:
    whole, page = _both(offset, limit, order)
    assert page == whole[offset : offset + limit]


_JOBS = many_jobs(2 * PART + 7, ["east-1", "west-1", "west-2"])


def _both(offset: int, limit: int, order: Any) -> tuple[list[str], list[str]]:
    async def ask() -> tuple[list[str], list[str]]:
        jobs, _ = made(_JOBS)
        whole: list[str] = []
        while len(part := await names(jobs, order=order, offset=len(whole), limit=PAGE_LIMIT)) > 0:
            whole += part
        return whole, await names(jobs, order=order, offset=offset, limit=limit)

    whole, page = asyncio.run(ask())
    keys = {job.meta.name: job_line(job) for job in _JOBS}
    if order == "failures":
        assert [keys[name].failed for name in whole] == sorted((line.failed for line in keys.values()), reverse=True)
    assert sorted(whole) == sorted(keys), "each job once"
    return whole, page


async def test_only_what_has_changed_is_decoded_again_and_what_is_gone_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    real = job_list.job_line
    monkeypatch.setattr(job_list, "job_line", lambda obj: decoded.append(obj.meta.name) or real(obj))
    jobs, cache = made(many_jobs(250, ["east-1"]))
    await names(jobs)
    assert len(decoded) == 250
    decoded.clear()
    cache.jobs[3] = batch_job("job-00003", "Failing", rv=9000, namespace="team-03")
    gone = cache.jobs.pop(7).meta.name
    assert (await names(jobs))[0] == "job-00003"
    assert decoded == ["job-00003"]
    assert gone not in await names(jobs, name=gone)


async def test_others_have_the_loop_after_each_slice() -> None:
    """A count of turns that another task got, not a time. A large job counts as several, and so does a long search."""
    small, large = many_jobs(2000, ["east-1"]), [batch_job(f"l{at}", spec={"x": "y" * 64_000}) for at in range(100)]
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def turns_of(jobs: JobList, **query: Any) -> int:
        before = turns
        await names(jobs, **query)
        return turns - before

    task = asyncio.create_task(other())
    jobs, _ = made(small)
    first, again = await turns_of(jobs), await turns_of(jobs, offset=1990)
    search = await turns_of(jobs, find="a b c d e f g h i j k l m n o p")
    assert await turns_of(made(large)[0], limit=0) >= 20
    task.cancel()
    assert first >= 10, "2 000 jobs of 1 kB are decoded"
    assert 4 <= again < first, "a look costs less, and is not free"
    assert search > again


async def test_what_is_kept_is_dropped_when_nobody_asks() -> None:
    clock = VirtualClock()
    jobs, cache = made(some_jobs(), clock)
    await names(jobs)
    await clock.advance(KEPT_FOR)
    assert not jobs.expire()
    await clock.advance(1.0)
    assert jobs.expire()
    assert len(await names(jobs)) == 8
    assert cache.looked == 2, "and nothing looks at the jobs by itself"


async def test_too_many_questions_at_once_get_no_answer() -> None:
    jobs, _ = made(many_jobs(300, ["east-1"]))
    answers = await asyncio.gather(*(jobs.answer(JobQuery(limit=1)) for _ in range(MOST_ASKING + 3)))
    assert sum(answer is None for answer in answers) == 3
    assert await jobs.answer(JobQuery()) is not None


# rows


def row(obj: Obj, wait: JobWait | None = None) -> dict[str, Any]:
    return job_row(job_line(obj), "", wait)


def why(obj: Obj, wait: JobWait | None = None) -> tuple[str, str]:
    found = row(obj, wait)["why"]
    return found["reason"], found["message"]


def test_pods_by_cluster() -> None:
    spec = {"parallelism": 9, "completions": 30}
    busy = pods("a", "0-3,7,9-10", active=5, ready=4, succeeded=2, failed=1, reachable=False, message="no route")
    admitted = {"state": "Admitted", "clusters": {"a": 7, "b": 2}}
    found = row(batch_job("j", "Running", spec=spec, active=5, clusters=[busy], admission=admitted))
    assert (found["parallelism"], found["completions"], found["active"]) == (9, 30, 5)
    assert found["clusters"] == [
        {"name": "a", "wanted": 7, "admitted": 7, "active": 5, "ready": 4, "succeeded": 2, "failed": 1, "reachable": False,
         "message": "no route"},
        {"name": "b", "wanted": 0, "admitted": 2, "active": 0, "ready": 0, "succeeded": 0, "failed": 0, "reachable": True,
         "message": ""},
    ]  # fmt: skip
    many = row(batch_job("j", "Running", clusters=[pods(f"c{at}", active=at) for at in range(SHOWN_CLUSTERS + 9)]))
    assert len(many["clusters"]) == SHOWN_CLUSTERS
    assert many["moreClusters"] == 9
    assert many["clusters"][0]["name"] == f"c{SHOWN_CLUSTERS + 8}", "most Pods first"


LOST = condition("ClustersReachable", "False", "ClusterUnreachable", "can't reach a")


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (batch_job("j"), ("NotReconciled", "no reconcile has seen it yet")),
        (batch_job("j", "Pending", conditions=[FITS_NOWHERE]), (FITS_NOWHERE["reason"], FITS_NOWHERE["message"])),
        (batch_job("j", "Queued", admission=QUOTA, conditions=[FITS_NOWHERE]), ("WaitingForQuota", QUOTA["message"])),
        (batch_job("j", "Failed", conditions=[FITS_NOWHERE, FAILED]), (FAILED["reason"], FAILED["message"])),
        (batch_job("j", "Complete", conditions=[FITS_NOWHERE]), ("", "")),
        (batch_job("j", "Suspended", conditions=[FITS_NOWHERE]), ("Suspended", "the job is suspended")),
        (batch_job("j", "Running", conditions=[condition("PodsReady", "False", "NotAllReady")]), ("", "")),
        (batch_job("j", "Running", conditions=[LOST]), ("ClusterUnreachable", "can't reach a")),
        (batch_job("j", "Strange"), ("NotReconciled", "no reconcile has seen it yet")),
    ],
)
def test_why(obj: Obj, expected: tuple[str, str]) -> None:
    assert why(obj) == expected


def test_what_the_scheduler_says_now_is_newer_than_what_the_job_was_told() -> None:
    queued = batch_job("j", "Queued", admission=QUOTA)
    found = row(queued, JobWait("BehindHead", "3 jobs are before it", 4, 9))["why"]
    assert found == {"reason": "BehindHead", "message": "3 jobs are before it", "position": 4, "pending": 9}
    assert why(queued, JobWait("", "")) == ("WaitingForQuota", QUOTA["message"])
    over = batch_job("j", "Failed", conditions=[FAILED])
    assert why(over, JobWait("NoRoom", "none")) == (FAILED["reason"], FAILED["message"])


def test_a_job_that_cannot_be_read_is_shown_as_such() -> None:
    broken = msgspec.structs.replace(some_jobs()[0], raw=b'{"spec": {"parallelism": "many"}}')
    assert job_line(broken).phase == "New"
    found = row(broken)
    assert found["why"]["reason"] == "Unreadable"
    assert "parallelism" in found["why"]["message"]
    assert {*found} >= {*row(batch_job("j"))} - {"parallelism", "completions"}


def test_long_texts_of_others_are_cut() -> None:
    assert len(why(batch_job("j", "Pending", conditions=[condition("Scheduled", "False", "X", "y" * 9000)]))[1]) == 400


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"phase": "running"}, "phase is 'running': use one of New, Queued"),
        ({"order": "size"}, "order is 'size': use one of attention, name"),
        ({"limit": "1000"}, "limit"),
        ({"offset": "-1"}, "offset"),
        ({"offset": "ten"}, "offset"),
        ({"name": "x" * 300}, "name"),
        ({"phases": "Running"}, "there is no parameter 'phases': use name, find, phase"),
    ],
)
def test_a_query_that_cannot_be_read_says_what_it_may_be(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_query(parameters)


def test_a_query_from_an_address() -> None:
    found = read_query({"name": "a", "phase": "", "limit": "7", "offset": "14", "queue": "-"})
    assert found == JobQuery(name="a", limit=7, offset=14, queue="-")


def test_each_phase_of_the_samples_is_one_that_is_known() -> None:
    assert {job_line(job).phase for job in _JOBS} == set(PHASES)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8) | st.sampled_from(["0-3,7", "9-1", "1-1-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=8), st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=4))
def test_whatever_a_status_holds_there_is_a_row_that_json_can_hold(status: dict[str, Any], spec: dict[str, Any]) -> None:
    """One job that somebody has damaged takes no page away."""
    raw = msgspec.json.encode({"spec": spec, "status": status})
    line = job_line(msgspec.structs.replace(batch_job("j"), raw=raw))
    msgspec.json.encode(job_row(line, "", None))
