"""Warnings and errors of the log are in the flight recorder, without what they must not carry."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from printed_log import printed

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.tasks import Task
from raycp.metrics.log import bind
from raycp.metrics.recorder import FlightRecord, FlightRecorder, Origin, RecorderDir, SegmentFiles, SegmentReader
from raycp.metrics.recorder.log_feed import LogFeed
from raycp.sdk.reconcile_log import reconcile_log

LOGGER = "raycp.test.feed"
log = logging.getLogger(LOGGER)


class Fed:
    """A recorder that the log feeds."""

    def __init__(self, directory: Path) -> None:
        self.directory = RecorderDir(directory)
        self.recorder = FlightRecorder(VirtualClock(), SegmentFiles(directory, Origin(actor="a")))
        self.feed = LogFeed(self.recorder)
        self.feed.install()

    def records(self, *, logger: str = LOGGER, text: str = "") -> list[FlightRecord]:
        """Those of one logger; with ``text`` in theirs. Tasks and threads that other tests have left log as well."""
        self.recorder.flush()
        try:
            (raw,) = self.directory.read(self.recorder.stem)
        except KeyError:
            return []
        found = list(SegmentReader(io.BytesIO(raw)))
        return [record for record in found if record.fields.get("logger") == logger and text in str(record.fields["text"])]


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Fed]:
    with printed("error", io.StringIO()):
        made = Fed(tmp_path)
        try:
            yield made
        finally:
            made.feed.remove()
            made.recorder.cut()


def test_warnings_are_kept_whatever_level_is_printed_and_less_is_not(fed: Fed) -> None:
    log.info("nothing")
    log.warning("shard %s is late", "0", extra={"cluster": "east"})
    log.error("worse")
    first, second = fed.records()
    assert (first.what, first.subject, first.fields) == ("warning", "east", {"logger": LOGGER, "text": "shard 0 is late"})
    assert (second.what, second.fields["text"]) == ("error", "worse")


def test_a_line_about_a_reconcile_has_its_key_and_the_changes_id(fed: Fed) -> None:
    task = Task(1, RequestKey("echo", "east", "default", "a"), "high", "update", 2, 1, "0", 1, 1, 0.0, None)
    with bind(change="c-17"):
        reconcile_log("echo", task).warning("not yet")
    (record,) = fed.records(logger="raycp.controller.echo", text="not yet")
    assert record.subject == RequestKey("echo", "east", "default", "a")
    assert record.fields == {
        "logger": "raycp.controller.echo", "text": "not yet", "change": "c-17", "attempt": 2, "tier": "high", "reason": "update",
    }  # fmt: skip


def test_of_an_exception_its_class_first_line_and_place_are_kept_and_no_traceback(fed: Fed) -> None:
    value = "hunter22"
    try:
        raise RuntimeError(f"login failed with password: {value}")
    except RuntimeError:
        log.exception("it failed for %s", "Bearer abcdefgh12345")
    (record,) = fed.records()
    assert record.fields["error"] == "RuntimeError: login failed with password: [redacted]"
    assert record.fields["frame"].startswith("test_log_feed.py:")
    assert not {"hunter22", "abcdefgh12345", "Traceback"} & set(str(record).replace("'", " ").split())
    assert "hunter22" not in str(record)
    assert "abcdefgh12345" not in str(record)


def test_a_record_that_can_not_be_formatted_is_kept_and_disturbs_nobody(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # of pytest's own handler

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    log.warning("%d", "no number")
    log.warning("mute", exc_info=Mute())
    log.warning("next")
    first, second, third = fed.records()
    assert first.fields["text"].startswith("%d (its arguments")
    assert (second.fields["error"], third.fields["text"]) == ("Mute: Mute", "next")


def test_what_no_task_retrieved_is_kept(fed: Fed) -> None:
    logging.getLogger("asyncio").error("Task exception was never retrieved: of this test")
    (record,) = fed.records(logger="asyncio", text="of this test")
    assert record.what == "error"
