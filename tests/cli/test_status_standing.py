"""``raycp status`` of a fleet beside which another stands by."""

from raycp.cli.status import standing


def test_what_stands_by_is_shown_with_lag_and_cache() -> None:
    beside = {
        "generation": "0a1b",
        "warm": False,
        "reasons": ["worker standard/0: starting"],
        "observer": {"url": "http://127.0.0.1:1"},
        "standbys": [{"standby": "0/0", "state": "standby", "lagSeconds": 0.0123, "cachedBytes": 2_500_000, "pid": 1, "node": "n"}],
    }
    shown = standing(beside, "table")
    assert "standing by (not warm): generation 0a1b, observer http://127.0.0.1:1" in shown
    assert "worker standard/0: starting" in shown
    assert "0.012 s" in shown
    assert "2.5 MB" in shown


def test_one_whose_leader_does_not_answer_is_shown() -> None:
    assert "does not answer" in standing({"warm": False, "reasons": ["its leader does not answer: gone"]}, "table")
