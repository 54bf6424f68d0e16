"""raycp.bench.ports."""

from raycp.bench.ports import free_port


def test_a_port_is_given_once() -> None:
    """What the first is for may not listen yet: Ray does not start on one port for two of its processes."""
    assert len({free_port() for _ in range(400)}) == 400
