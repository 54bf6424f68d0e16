"""``Queue`` objects that can't be what they say hold their jobs back, with a reason."""

from typing import Any

import msgspec
import pytest
from test_scheduler_wakes import obj

from raycp.scheduler.queue_table import QueueTable

CPU = {"name": "cpu", "nominalQuota": 4}


@pytest.mark.parametrize(
    ("flavors", "words"),
    [
        (
            [{"name": "default", "resources": [CPU, {"name": "cpu", "nominalQuota": 6}]}],
            "spec.flavors[0].resources[1].name: 'cpu' is there twice",
        ),
        (
            [{"name": "default", "resources": [CPU]}, {"name": "default", "resources": [CPU]}],
            "spec.flavors[1].name: 'default' is there twice",
        ),
        ([{"name": "default", "resources": [{"name": "cpu", "nominalQuota": -1}]}], "out of range"),
    ],
)
def test_a_queue_whose_quotas_contradict_each_other_admits_nothing(flavors: list[dict[str, Any]], words: str) -> None:
    """The cohort would lend both, and more would be used than there is."""
    table = QueueTable()
    assert table.replace([obj("raycp.io/v1alpha1", "Queue", {"name": "q"}, {"flavors": flavors})])
    assert words in table.problems["q"]
    assert table.specs["q"].stop == "Hold"
    assert table.replace([obj("raycp.io/v1alpha1", "Queue", {"name": "q"}, {"flavors": flavors[:1]})]) == (len(flavors) > 1)


def test_a_queue_that_is_no_queue_is_one_that_admits_nothing() -> None:
    table = QueueTable()
    table.replace([obj("raycp.io/v1alpha1", "Queue", {"name": "q"}, {"flavors": msgspec.json.decode("[[]]")})])
    assert table.specs["q"].stop == "Hold"
    assert table.problems["q"].startswith("spec.flavors[0]")
