"""How a foreground command is asked to end."""

import signal
import subprocess
import sys

import pytest

from raycp.cli.end_signals import Ending

PROGRAM = """
import select
import sys
import time
from raycp.cli.end_signals import Ending

with Ending("it is being taken down") as ending:
    try:
        if {interrupted}:
            print("at work", flush=True)
            while True:
                time.sleep(0.01)
        ending.patient()
        print("waits", flush=True)
        print("came", int(ending.wait()), flush=True)
    except KeyboardInterrupt:
        print("interrupted", int(ending.came), flush=True)
    finally:
        print("drains", flush=True)
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            pass  # no call that blocks: a signal that comes just before one waits for its end
        print("over", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("interrupted", [True, False])
def test_the_first_ends_it_and_the_next_are_told_so(number: signal.Signals, interrupted: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(interrupted=interrupted)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == ("at work\n" if interrupted else "waits\n")
    process.send_signal(number)
    assert process.stdout.readline() == f"{'interrupted' if interrupted else 'came'} {int(number)}\n"
    assert process.stdout.readline() == "drains\n"
    for again in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(again)
        assert process.stderr.readline() == "it is being taken down; SIGKILL would leave processes and files behind\n"
    out, err = process.communicate("\n", timeout=30)
    assert (out, err, process.returncode) == ("over\n", "", 0)


def test_an_end_that_nobody_has_asked_for_is_not_interrupted_either(capsys: pytest.CaptureFixture[str]) -> None:
    """As that of `raycp demo` when its jobs are done, or of `raycp run` after an error."""
    with Ending("it is being taken down") as ending:
        ending.ends()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            assert capsys.readouterr().err == "it is being taken down; SIGKILL would leave processes and files behind\n"


def test_a_terminal_that_ends_ends_nothing_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Ending("it ends") as ending:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == ending._asked
        assert signal.getsignal(signal.SIGTERM) != ending._asked
    finally:
        signal.signal(signal.SIGHUP, before)
