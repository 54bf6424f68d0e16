"""The fleet's condition fits into its record, however much is wrong."""

from raycp.leader.fleet_condition import LONGEST, condition_of
from raycp.protocol.status import FleetStatus, ReadinessState


def test_the_message_of_a_fleet_of_which_much_is_wrong_is_cut_and_says_so() -> None:
    few = FleetStatus(fleet="t", readiness=ReadinessState.DEGRADED, reasons=["cluster a: down", "cluster b: down"])
    assert condition_of(few)["message"] == "cluster a: down; cluster b: down"
    reasons = [f"cluster c{number}: {'down ' * 50}" for number in range(5000)]
    many = condition_of(FleetStatus(fleet="t", readiness=ReadinessState.DEGRADED, reasons=reasons))["message"]
    assert len(many) == LONGEST
    assert many.startswith("cluster c0: down")
    assert many.endswith("... (there are 5000 reasons)")
