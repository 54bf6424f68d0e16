"""The pytest plugin: fixtures. The package's docstring lists them, ``docs/embedded.md`` shows how to use them."""

import inspect
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from raycp.config.embedded import EmbeddedSpec
from raycp.testkit.clusters import ClusterHandle, EmbeddedHost, NotEmbedded, RealCluster, SharedClock

STEP = 0.05
"""Real seconds between two checks of ``assert_converges``."""
VIRTUAL_STEP = 0.5
"""Virtual seconds between two checks."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("raycp", "clusters for tests")
    group.addoption(
        "--kubeconfig",
        metavar="FILE",
        default=None,
        help="run tests that use embedded_cluster on the real cluster of this kubeconfig",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "embedded(**spec): settings of the embedded clusters of this test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    try:
        return (yield)
    except NotEmbedded:
        pytest.skip("needs an embedded cluster")


def kubectl_binary() -> str:
    """kubectl on PATH, else in ``.tools/bin`` of the working directory."""
    return shutil.which("kubectl") or shutil.which("kubectl", path=str(Path(".tools/bin").resolve())) or "kubectl"


def _real(request: pytest.FixtureRequest) -> Path | None:
    given = request.config.getoption("--kubeconfig")
    return Path(given) if given else None


def _spec(request: pytest.FixtureRequest) -> EmbeddedSpec:
    marker = request.node.get_closest_marker("embedded")
    return EmbeddedSpec.model_validate(marker.kwargs) if marker is not None else EmbeddedSpec()


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> SharedClock:
    """Time that only the test advances: ``await virtual_clock.advance(5)``, or ``virtual_clock.move(5)``."""
    if _real(request) is not None:
        pytest.skip("needs an embedded cluster: a real one has its own time")
    return SharedClock()


@pytest.fixture
def embedded_host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedHost]:
    """The thread on which this test's embedded clusters live."""
    clock = request.getfixturevalue("virtual_clock") if "virtual_clock" in request.fixturenames else None
    host = EmbeddedHost(tmp_path / "clusters", clock, kubectl_binary())
    yield host
    host.close()


@pytest.fixture
def embedded_cluster(request: pytest.FixtureRequest) -> ClusterHandle:
    """One cluster, fresh for each test: ``kubeconfig``, ``kubectl(...)``, ``add_fault(...)``.

    ``@pytest.mark.embedded(nodes=3, pod_runtime="1s")`` configures it; the default is ``embedded: {}``.
    """
    real = _real(request)
    if real is not None:
        return RealCluster(real, kubectl_binary())
    host: EmbeddedHost = request.getfixturevalue("embedded_host")
    return host.start("cluster", _spec(request))


@pytest.fixture
def embedded_fleet(request: pytest.FixtureRequest) -> Callable[[int], list[Any]]:
    """``embedded_fleet(3)``: that many clusters, the first of them named ``hub``."""
    if _real(request) is not None:
        pytest.skip("needs embedded clusters: a kubeconfig names only one")
    host: EmbeddedHost = request.getfixturevalue("embedded_host")

    def start(n: int) -> list[Any]:
        names = ["hub", *(f"member-{i}" for i in range(1, n))][:n]
        return [host.start(name, _spec(request)) for name in names]

    return start


@pytest.fixture
def assert_converges(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``assert_converges(check, within=10)``: passes as soon as ``check()`` is true (and raises nothing).

    ``check`` may be a coroutine function; then await the result. With ``virtual_clock``, ``within`` is virtual time, which is
    advanced while waiting. Raises ``AssertionError`` with the last answer or error of ``check``.
    """
    clock: SharedClock | None = None
    if "virtual_clock" in request.fixturenames:
        clock = request.getfixturevalue("virtual_clock")

    def converge(check: Callable[[], Any], within: float = 10.0) -> Awaitable[Any] | Any:
        return _await(check, within, clock) if inspect.iscoroutinefunction(check) else _poll(check, within, clock)

    return converge


def _poll(check: Callable[[], Any], within: float, clock: SharedClock | None) -> Any:
    end = (clock.now() if clock else time.monotonic()) + within
    while True:
        answer, error = None, None
        try:
            answer = check()
        except Exception as raised:
            error = raised
        if error is None and answer:
            return answer
        if (clock.now() if clock else time.monotonic()) >= end:
            raise AssertionError(f"did not converge within {within:g} s: {error or answer!r}") from error
        if clock is not None:
            clock.move(VIRTUAL_STEP)
        else:
            time.sleep(STEP)


async def _await(check: Callable[[], Awaitable[Any]], within: float, clock: SharedClock | None) -> Any:
    import asyncio

    end = (clock.now() if clock else time.monotonic()) + within
    while True:
        answer, error = None, None
        try:
            answer = await check()
        except Exception as raised:
            error = raised
        if error is None and answer:
            return answer
        if (clock.now() if clock else time.monotonic()) >= end:
            raise AssertionError(f"did not converge within {within:g} s: {error or answer!r}") from error
        await (clock.advance(VIRTUAL_STEP) if clock is not None else asyncio.sleep(STEP))


@pytest.fixture
def fleet_running(request: pytest.FixtureRequest, embedded_fleet: Callable[[int], list[Any]]) -> Callable[..., Any]:
    """``with fleet_running(controllers=["mycontrollers.echo"], clusters=3) as fleet:`` runs raycp over embedded clusters.

    The first cluster is the hub. ``fleet.clusters`` are the handles.
    """
    from raycp.driver.tested_fleet import run_fleet  # imports Ray, which most tests with this plugin do without

    def start(controllers: list[str], clusters: int = 2, **settings: Any) -> AbstractContextManager[Any]:
        return run_fleet(embedded_fleet(clusters), controllers, settings)

    return start
