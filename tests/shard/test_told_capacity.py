"""What the scheduler takes from a shard's word about a member (laws 11 and 12)."""

import pytest

from raycp.protocol.frames import CapacityChanged
from raycp.scheduler.capacity_watch import encode_summary
from raycp.scheduling.capacity import CapacitySummary
from raycp.shard.scheduler_host import taken


def test_a_summary_is_taken_as_it_is() -> None:
    summary = CapacitySummary("east")
    assert taken(CapacityChanged(1, "east", encode_summary(summary), True, "")) == (summary, True, "")
    assert taken(CapacityChanged(2, "east", b"", False, "no answer")) == (None, False, "no answer")


@pytest.mark.parametrize("summary", [b"\xc1", b"\x93\x01", b"<html>", b"\x91" * 10_000])
def test_a_member_whose_summary_can_not_be_read_gets_no_pods_instead_of_any_number(summary: bytes) -> None:
    room, reachable, reason = taken(CapacityChanged(1, "east", summary, True, ""))
    assert (room, reachable) == (None, False)
    assert reason.startswith("what its shard says of its capacity can't be read: ")
