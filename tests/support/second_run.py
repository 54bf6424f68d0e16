"""A failed test of Ray or of real processes runs once more, alone, at the end of a CI run.

Such tests depend on the scheduling of processes on a loaded machine. They are those with a mark of ``MARKERS``, and those that
started a process themselves or use a fixture that did. A test that passes the second time is reported as a line
``FLAKY tests/...::name`` and does not fail the run; a test that fails twice fails it. Tests of a file that all failed for its
one fixture run together: they are one failure. Active only where ``CI=true``. If ``RAYCP_FLAKY_LOG`` names a file, the lines
are appended to it as well.
"""

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

MARKERS = frozenset({"ray", "wide", "soak"})
"""Marks of tests that may run twice."""

LIMIT = 5
"""With more failures than this the change is at fault: nothing runs again."""

NESTED = "RAYCP_SECOND_RUN"
"""Set in the environment of a second run, so that it does not start a third."""


ELIGIBLE = "may_run_twice"
"""The attribute of a report, as it travels between the processes of pytest-xdist, that says whether its test is such a one."""

STARTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty"})
"""Python's audit events for a process that starts."""


def wanted(config: pytest.Config, environment: "os._Environ[str]" = os.environ) -> bool:
    """Whether failed tests of this session run again: not by a process of pytest-xdist, beside which others still run."""
    return environment.get("CI") == "true" and NESTED not in environment and not hasattr(config, "workerinput")


def watches(environment: "os._Environ[str]" = os.environ) -> bool:
    """Whether this process, of pytest-xdist or not, notes which of its tests start processes."""
    return environment.get("CI") == "true" and NESTED not in environment


class StartedProcesses:
    """The plugin that writes into each test's report whether it may run twice. Register it in ``pytest_configure``."""

    def __init__(self) -> None:
        self._count = 0
        self._fixtures: set[tuple[str, str]] = set()
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: object) -> None:
        self._count += event in STARTS

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: "pytest.FixtureDef[object]") -> Generator[None, None, None]:
        before = self._count
        yield
        if self._count != before:
            self._fixtures.add((fixturedef.baseid, fixturedef.argname))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, None, None]:
        self._before = self._count
        yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, "pytest.CallInfo[None]", None]:
        outcome = yield
        setattr(outcome.get_result(), ELIGIBLE, self._may_run_twice(item))  # type: ignore[attr-defined]

    def _may_run_twice(self, item: pytest.Item) -> bool:
        if self._count != self._before or any(each.name in MARKERS for each in item.iter_markers()):
            return True
        used = set(getattr(item, "fixturenames", ()))
        return any(name in used and item.nodeid.startswith(place) for place, name in self._fixtures)


class SecondRun:
    """The plugin. Register it in ``pytest_configure``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._eligible: set[str] = set()
        self._failed: dict[str, list[pytest.TestReport]] = {}
        self._flaky: list[str] = []
        self._twice: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.setdefault(report.nodeid, []).append(report)
            if getattr(report, ELIGIBLE, False):
                self._eligible.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        failures = self._failures()
        again = [nodeids for nodeids in failures if self._eligible.issuperset(nodeids)]
        if exitstatus != pytest.ExitCode.TESTS_FAILED or not again or len(failures) > LIMIT:
            return
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        for nodeids in again:
            if reporter is not None:
                reporter.write_line(f"second run of {' '.join(nodeids)}")
            code, output = self._run(nodeids)
            if code == 0:
                self._flaky.extend(nodeids)
            else:
                self._twice.update(dict.fromkeys(nodeids, output))
        if len(self._flaky) == len(self._failed):
            session.exitstatus = pytest.ExitCode.OK
        self._move_reports()
        self._log()

    def _failures(self) -> list[list[str]]:
        """The failed tests. Those of a file for which its fixture failed have one text, and are together: pytest makes such a
        fixture once."""
        found: dict[tuple[str, ...], list[str]] = {}
        for nodeid, reports in self._failed.items():
            first = reports[0]
            cause = (nodeid.partition("::")[0], first.longreprtext) if first.when == "setup" else (nodeid,)
            found.setdefault(cause, []).append(nodeid)
        return list(found.values())

    def _run(self, nodeids: list[str]) -> tuple[int, str]:
        """A pytest process of its own for one failure's tests; its exit code and output."""
        command = [sys.executable, "-m", "pytest", *nodeids]
        done = subprocess.run(
            command, cwd=self._config.rootpath, env={**os.environ, NESTED: "1"}, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def _move_reports(self) -> None:
        """Count flaky tests as such in pytest's summary, not as failed ones."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        for outcome in ("failed", "error"):
            kept = [each for each in reporter.stats.get(outcome, []) if each.nodeid not in self._flaky]
            reporter.stats.pop(outcome, None)
            if kept:
                reporter.stats[outcome] = kept
        if self._flaky:
            reporter.stats["flaky"] = [self._failed[nodeid][0] for nodeid in self._flaky]

    def _log(self) -> None:
        path = os.environ.get("RAYCP_FLAKY_LOG")
        if path and self._flaky:
            with Path(path).open("a") as file:
                file.writelines(f"FLAKY {nodeid}\n" for nodeid in self._flaky)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        told: set[str] = set()
        for nodeid in self._flaky:
            if self._failed[nodeid][0].longreprtext in told:
                continue
            told.add(self._failed[nodeid][0].longreprtext)
            terminalreporter.write_sep("=", f"first run of {nodeid}")
            for report in self._failed[nodeid]:
                terminalreporter.write_line(report.longreprtext)
                for title, content in report.sections:
                    terminalreporter.write_sep("-", title)
                    terminalreporter.write_line(content)
        for output, nodeid in {output: nodeid for nodeid, output in self._twice.items()}.items():
            terminalreporter.write_sep("=", f"second run of {nodeid}")
            terminalreporter.write_line(output)
        for nodeid in self._twice:
            terminalreporter.write_line(f"FAILED TWICE {nodeid}")
        for nodeid in self._flaky:
            terminalreporter.write_line(f"FLAKY {nodeid}")
