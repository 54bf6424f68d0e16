"""SIGTERM to the whole process group of a foreground fleet: what a shell's job control, ``timeout`` and CI runners send."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from rayhouse import House, end_tree, output_until

from raycp.runtime.local_ray import _children_apart


def test_what_is_started_apart_is_in_no_group_of_ours() -> None:
    def start() -> int:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, preexec_fn=lambda: None)  # as Ray starts its processes
        try:
            return os.getsid(child.pid)
        finally:
            assert child.stdin is not None
            child.stdin.close()
            child.wait(5)

    ours = os.getsid(0)
    assert start() == ours
    with _children_apart():
        assert start() != ours
    assert start() == ours


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_signal_to_the_whole_group_takes_the_fleet_down_in_order(tmp_path: Path) -> None:
    house = House(tmp_path)  # its files and environment; its Ray is not started
    path = house.file("group", ["here"], ["fleet_samples:parent"])
    process = house.popen("run", "-c", str(path), "--address", "local")  # leads a group of its own
    try:
        told = output_until(process, "Ctrl-C")
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in each.name() for each in family), told
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
        took = time.monotonic() - begun
        assert process.returncode == 0, told + rest
        assert "fleet group is down" in rest
        assert took < 15, f"{took:.1f} s"
        _, left = psutil.wait_procs(family, timeout=15)
        assert not left
    finally:
        end_tree(process.pid)
        house.stop()
