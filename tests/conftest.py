"""Rules for the whole suite.

- In CI nothing is skipped: a test whose tool is missing fails there.
- A test belongs to one target: ``make test``, ``make test-wide`` (mark ``wide``) or ``make soak`` (mark ``soak``).
- No example has a deadline: how long it takes is the machine's, and a test that never ends meets the time limit of all tests.
- In CI hypothesis's examples are the same each time, as by its own profile for CI: a change is judged by what it changes. Elsewhere
  each run has others.
- ``--hypothesis-profile nightly`` (``make nightly``): 2 000 examples of each property and model.
- In CI a failed test of Ray or of real processes runs once more (``second_run``).
- In CI a file says which tests have begun and ended (``progress_log``).
"""

import os
from collections.abc import Generator

import progress_log
import pytest
import second_run
from hypothesis import settings

settings.register_profile("raycp", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.register_profile("nightly", deadline=None, max_examples=2000)
settings.load_profile("raycp")


def pytest_configure(config: pytest.Config) -> None:
    if second_run.watches():
        config.pluginmanager.register(second_run.StartedProcesses(), "raycp-started-processes")
    if second_run.wanted(config):
        config.pluginmanager.register(second_run.SecondRun(config), "raycp-second-run")
    if (path := progress_log.wanted()) is not None:
        config.pluginmanager.register(progress_log.ProgressLog(path), "raycp-progress-log")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    both = [item.nodeid for item in items if item.get_closest_marker("wide") and item.get_closest_marker("soak")]
    if both:
        raise pytest.UsageError(f"marked wide and soak: {', '.join(both)}; `make test-wide` or `make soak`, not both")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Generator[None, "pytest.CallInfo[None]", None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    # What a test printed may hold lone surrogates, which no process of pytest-xdist could send.
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    empty = "got empty parameter set" in str(report.longrepr)
    if report.skipped and not empty and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {report.longrepr}"
