"""tests/conftest.py on small suites: the second run of failed Ray tests in CI, skips in CI, one target per test."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SUPPORT = Path(__file__).parents[1] / "support"
INI = """
[pytest]
addopts = -q -p no:cacheprovider
markers =
  ray: of Ray
  wide: slow and real
  soak: long
"""
CONFTEST = (SUPPORT.parent / "conftest.py").read_text()
FAILS_ONCE = """
import pathlib, pytest

def first(name):
    mark = pathlib.Path(name)
    if mark.exists():
        return False
    mark.touch()
    return True
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite whose tests may fail once: ``first(NAME)`` is true in the first run only."""
    pytester.makeini(INI)
    pytester.makeconftest(CONFTEST)
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # all of them take long, and only pytest-xdist has a part in it
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin")
    monkeypatch.delenv("RAYCP_SECOND_RUN", raising=False)
    monkeypatch.setenv("RAYCP_FLAKY_LOG", str(pytester.path / "flaky.log"))
    return pytester


def run(suite: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    suite.makepyfile(test_it=FAILS_ONCE + body)
    return suite.runpytest_subprocess(*arguments)


@pytest.mark.parametrize("mark", ["ray", "wide", "soak"])
def test_a_failure_that_does_not_repeat_is_flaky_and_passes(suite: pytest.Pytester, mark: str) -> None:
    result = run(suite, f"@pytest.mark.{mark}\ndef test_a():\n    assert not first('a'), 'the reason'\n\ndef test_b(): pass\n")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*the reason*", "FLAKY test_it.py::test_a", "*1 passed*1 flaky*"])
    assert "failed" not in result.stdout.lines[-1]
    assert (suite.path / "flaky.log").read_text() == "FLAKY test_it.py::test_a\n"


def test_a_failure_that_repeats_fails_the_run(suite: pytest.Pytester) -> None:
    result = run(suite, "@pytest.mark.ray\ndef test_a():\n    assert first('a') and False\n")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*second run of test_it.py::test_a*", "FAILED TWICE test_it.py::test_a", "*1 failed*"])
    assert not (suite.path / "flaky.log").exists()


def test_one_flaky_test_does_not_hide_another_failure(suite: pytest.Pytester) -> None:
    body = "@pytest.mark.ray\ndef test_a():\n    assert not first('a')\n\n@pytest.mark.ray\ndef test_b():\n    assert False\n"
    result = run(suite, body)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAILED TWICE test_it.py::test_b", "FLAKY test_it.py::test_a", "*1 failed*1 flaky*"])


@pytest.mark.parametrize("parallel", [(), ("-n", "2")])
def test_what_starts_processes_may_fail_once_itself_or_by_fixture(suite: pytest.Pytester, parallel: tuple[str, ...]) -> None:
    body = """
import subprocess

@pytest.fixture(scope="module")
def server():
    subprocess.run(["true"], check=True)

def test_uses(server): pass

def test_uses_again(server):
    assert not first("a"), "the reason"

def test_starts():
    subprocess.run(["true"], check=True)
    assert not first("b"), "the reason"
"""
    result = run(suite, body, *parallel)
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(["FLAKY test_it.py::test_uses_again", "FLAKY test_it.py::test_starts", "*1 passed*2 flaky*"])


def test_another_test_has_one_chance_also_beside_one_that_starts_processes(suite: pytest.Pytester) -> None:
    before = "def test_before():\n    import subprocess\n    subprocess.run(['true'], check=True)\n\n"
    result = run(suite, f"{before}def test_a():\n    assert not first('a')\n")
    assert result.ret == 1
    result.stdout.no_fnmatch_line("FLAKY*")


def test_a_directory_named_like_a_mark_is_no_mark(suite: pytest.Pytester) -> None:
    folder = suite.mkdir("soak")
    (folder / "test_it.py").write_text(FAILS_ONCE + "def test_a():\n    assert not first('a')\n")
    assert suite.runpytest_subprocess().ret == 1


def test_outside_ci_nothing_runs_again(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI")
    result = run(suite, "@pytest.mark.ray\ndef test_a():\n    assert not first('a')\n")
    assert result.ret == 1
    result.stdout.no_fnmatch_line("FLAKY*")


def test_a_fixture_that_fails_once_is_flaky_too(suite: pytest.Pytester) -> None:
    body = "@pytest.fixture(scope='module')\ndef made():\n    assert not first('a')\n\n@pytest.mark.ray\ndef test_a(made): pass\n"
    result = run(suite, body)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["FLAKY test_it.py::test_a", "*1 flaky*"])
    assert "error" not in result.stdout.lines[-1]


ONE_FIXTURE = """
@pytest.fixture(scope="module")
def made():
    assert {fine}, "of the fixture"

@pytest.mark.ray
@pytest.mark.parametrize("n", range(7))
def test_a(made, n): pass
"""


def test_tests_that_fail_for_one_fixture_are_one_failure(suite: pytest.Pytester) -> None:
    result = run(suite, ONE_FIXTURE.format(fine="not first('a')"))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*of the fixture*", "FLAKY test_it.py::test_a?0?", "FLAKY test_it.py::test_a?6?", "*7 flaky*"])
    assert str(result.stdout).count("first run of") == 1


def test_a_fixture_that_fails_twice_fails_all_its_tests(suite: pytest.Pytester) -> None:
    result = run(suite, ONE_FIXTURE.format(fine="False"))
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAILED TWICE test_it.py::test_a?0?", "FAILED TWICE test_it.py::test_a?6?", "*7 errors*"])


def test_many_failures_are_no_flakes(suite: pytest.Pytester) -> None:
    body = "@pytest.mark.ray\n@pytest.mark.parametrize('n', range(6))\ndef test_a(n):\n    assert not first(f'a{n}')\n"
    result = run(suite, body)
    assert result.ret == 1
    result.stdout.no_fnmatch_line("FLAKY*")


def test_the_second_run_comes_after_all_other_tests_and_their_fixtures(suite: pytest.Pytester) -> None:
    body = """
@pytest.fixture(scope="module", autouse=True)
def made():
    held = pathlib.Path("held")
    assert not held.exists(), "two runs at once"
    held.touch()
    yield
    held.unlink()

@pytest.mark.ray
def test_a():
    assert not first("a")

def test_b():
    assert not pathlib.Path("second").exists()

@pytest.mark.ray
def test_c(): pass
"""
    result = run(suite, body)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*2 passed*1 flaky*"])


def test_with_two_processes_it_comes_after_both(suite: pytest.Pytester) -> None:
    body = """
import time

@pytest.mark.ray
def test_a():
    assert not first("a"), "the reason"
    assert not pathlib.Path("b").exists(), "not alone"

def test_b():
    pathlib.Path("b").touch()
    limit = time.monotonic() + 30
    while not pathlib.Path("a").exists() and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(1)  # as long as a second run takes to begin
    pathlib.Path("b").unlink()
"""
    result = run(suite, body, "-n", "2")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*the reason*", "FLAKY test_it.py::test_a", "*1 passed*1 flaky*"])


def test_what_cannot_be_encoded_is_printed_escaped(suite: pytest.Pytester) -> None:
    body = "def test_a():\n    import logging\n    logging.warning('said \\ud83d')\n\ndef test_b():\n    assert False\n"
    result = run(suite, body, "-n", "2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*1 failed, 1 passed*"])


def test_in_ci_a_skip_is_a_failure(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "def test_a():\n    pytest.skip('no tool')\n"
    result = run(suite, body)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*was skipped, which CI does not allow*no tool*"])
    monkeypatch.delenv("CI")
    assert suite.runpytest_subprocess().ret == 0


def test_a_test_can_not_belong_to_two_targets(suite: pytest.Pytester) -> None:
    result = run(suite, "@pytest.mark.wide\n@pytest.mark.soak\ndef test_a(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "marked wide and soak: test_it.py::test_a" in str(result.stderr) + str(result.stdout)
