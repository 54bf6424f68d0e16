"""A Ray head that stops answering under a command that is connected to it, and before one that is not (law 14)."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rayhouse import House, end_tree, house

pytestmark = pytest.mark.ray

ASKS_FOR_EVER = """
import time
from ray.util import list_named_actors
from raycp.cli.fleets import at_ray

with at_ray({address!r}):
    print("connected", flush=True)
    while True:
        list_named_actors(all_namespaces=True)
        time.sleep(0.05)
"""


def gcs_of(at: House) -> psutil.Process:
    marks = ("gcs_server", at.temp)
    return next(
        process
        for process in psutil.process_iter(["cmdline"])
        if all(any(mark in part for part in process.info["cmdline"] or ()) for mark in marks)
    )


def test_a_head_that_falls_silent_ends_the_commands_that_ask_it(tmp_path: Path) -> None:
    with house(tmp_path) as at:
        program = ASKS_FOR_EVER.format(address=at.address)
        connected = subprocess.Popen(
            [sys.executable, "-c", program], env=at.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert connected.stdout is not None
            assert connected.stdout.readline() == "connected\n"
            gcs = gcs_of(at)
            gcs.suspend()
            try:
                _, said = connected.communicate(timeout=60)
                assert connected.returncode == 1, said
                assert f"the Ray at {at.address} does not answer any more" in said
                assert f"no Ray answers at {at.address}" in at.raycp("status", "--address", at.address, expect=1, timeout=60)
            finally:
                gcs.resume()
            assert "no fleet runs" in at.raycp("status", "--address", at.address, expect=1)
        finally:
            end_tree(connected.pid)
