"""Where the fleet plugs into the test kit: ``raycp.driver.tested_fleet.run_fleet`` is found by name, for only the fleet
imports Ray.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol

HOME = "raycp.driver.tested_fleet"


class Fleet(Protocol):
    """A fleet that runs, as ``fleet_running`` gives it."""

    clusters: Sequence[Any]


class FleetRunner(Protocol):
    """``run_fleet(clusters, controllers, settings)``: the first cluster is the hub; ``settings`` go into the fleet's
    spec."""

    def __call__(
        self, clusters: Sequence[Any], controllers: Sequence[str], settings: dict[str, Any]
    ) -> AbstractContextManager[Fleet]: ...


def fleet_runner() -> FleetRunner:
    """The fleet's runner. Raises ``ImportError`` where the fleet is not installed."""
    runner: FleetRunner = import_module(HOME).run_fleet
    return runner
