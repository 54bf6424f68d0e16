"""``raycp debug recorder``: its arguments, and what a record must be about."""

import pytest

from raycp.base.keys import RequestKey
from raycp.cli import main as cli
from raycp.cli.debug import show, wanted
from raycp.driver.flight_recordings import Flight, MergedRecord, RecordingReport
from raycp.metrics.recorder import FlightRecord, Origin

KEY = RequestKey("jobs", "hub", "default", "a")


@pytest.mark.parametrize("since", ["yesterday", "-5m", "5", ""])
def test_a_wrong_duration_is_bad_input_before_anything_is_asked(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["debug", "recorder", f"--since={since}"]) == 2
    error = capsys.readouterr().err
    assert "--since" in error
    assert "write" in error


def test_a_wrong_object_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["debug", "recorder", "--object", "hub/a"]) == 2
    assert "CLUSTER/KIND/NAMESPACE/NAME" in capsys.readouterr().err


def record(subject: RequestKey | str) -> FlightRecord:
    return FlightRecord(0.0, "tick", subject, {})


def test_records_are_chosen_by_object_kind_and_cluster() -> None:
    everything = wanted(None, "", None)
    assert all(everything(record(subject)) for subject in (KEY, "hub", ""))
    of_hub = wanted(None, "hub", None)
    assert [of_hub(record(subject)) for subject in (KEY, "hub", "", "east", KEY._replace(cluster="east"))] == [
        True, True, False, False, False,
    ]  # fmt: skip
    of_job = wanted(("hub", "BatchJob", "default", "a"), "", {"jobs"})
    assert [of_job(record(subject)) for subject in (KEY, KEY._replace(name="b"), KEY._replace(controller="pods"), "hub")] == [
        True, False, False, False,
    ]  # fmt: skip
    assert wanted(("hub", "BatchJob", "default", "a"), "", None)(record(KEY._replace(controller="pods"))), "without a leader to ask"
    of_node = wanted(("hub", "Node", "-", "n0"), "", None)
    assert of_node(record(RequestKey("nodes", "hub", "", "n0")))
    assert not wanted(("hub", "BatchJob", "default", "a"), "east", None)(record(KEY))


def test_the_text_names_processes_and_what_could_not_be_read() -> None:
    origin = Origin(actor="raycp::shard::0::g3", pid=7)
    rows = [MergedRecord(FlightRecord(1_700_000_000.5, "promoted", "", {"term": 2}), origin)]
    reports = [RecordingReport("raycp-shard-0-g3.7.1", origin, False, 1, "ends within a batch: the last 9 bytes were not read")]
    text = show(Flight(rows, reports, ["node abc (10.0.0.1) has no process"]))
    assert text.splitlines() == [
        "22:13:20.500  shard 0 g3 (7)  promoted    term 2",
        "1 records of 1 processes, 1 of them dead; times are UTC",
        "note: raycp-shard-0-g3.7.1: ends within a batch: the last 9 bytes were not read",
        "note: node abc (10.0.0.1) has no process",
    ]
