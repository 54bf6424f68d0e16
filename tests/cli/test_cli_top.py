"""``raycp top``: the head of its view."""

from raycp.cli.top import show


def overview(**leader: float) -> dict[str, object]:
    return {
        "status": {"fleet": "t", "ready": False, "plan": 7, "reasons": ["shard 0: no permit"], "leader": {"epoch": 2, **leader}}
    }


def test_the_state_of_the_fleet_comes_first() -> None:
    assert str(show(overview(), "table")) == "fleet t (not ready), epoch 2, plan 7\n  - shard 0: no permit"


def test_a_silent_leader_is_shown() -> None:
    shown = str(show(overview(silentSince=1_700_000_000.0), "table"))
    assert shown.splitlines()[0].endswith("plan 7; the leader has been silent since 22:13:20 UTC")
