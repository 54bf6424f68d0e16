"""What ``raycp run`` says of a fleet that has come up. The command itself runs in ``tests/runtime``."""

from typing import Any

from raycp.cli.run import summary


def status(*reasons: str) -> dict[str, Any]:
    cluster = {"name": "hub", "kubeconfig": "/h/hub.kubeconfig"}
    return {
        "readiness": "degraded" if reasons else "ready", "reasons": list(reasons), "observer": {"url": "http://10.0.0.1:9090"},
        "clusters": [cluster], "problems": [],
    }  # fmt: skip


def test_a_degraded_fleet_says_why_before_the_addresses() -> None:
    lines = summary(status("cluster east: no answer", "worker standard/0: starting")).splitlines()
    assert lines[:3] == ["it is degraded:", "  - cluster east: no answer", "  - worker standard/0: starting"]
    assert lines[-1] == "kubeconfig of hub: /h/hub.kubeconfig"


def test_a_fleet_that_is_ready_has_nothing_else_to_say() -> None:
    assert summary(status()).splitlines() == [
        "status page and metrics: http://10.0.0.1:9090", "kubeconfig of hub: /h/hub.kubeconfig",
    ]  # fmt: skip
