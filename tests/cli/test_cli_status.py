"""``raycp status`` of a fleet that has a standby fleet."""

from raycp.cli.status import show_standby


def test_a_standby_fleet_is_shown_with_lag_and_cache() -> None:
    beside = {
        "generation": "0a1b",
        "warm": False,
        "reasons": ["worker standard/0: starting"],
        "observer": {"url": "http://127.0.0.1:1"},
        "standbys": [{"standby": "0/0", "state": "standby", "lagSeconds": 0.0123, "cachedBytes": 2_500_000, "pid": 1, "node": "n"}],
    }
    shown = str(show_standby(beside, "table"))
    assert "standby fleet (not warm): generation 0a1b, observer http://127.0.0.1:1" in shown
    assert "worker standard/0: starting" in shown
    assert "0.012 s" in shown
    assert "2.5 MB" in shown


def test_a_standby_fleet_whose_leader_does_not_answer_is_shown() -> None:
    assert "does not answer" in str(show_standby({"warm": False, "reasons": ["its leader does not answer: gone"]}, "table"))
