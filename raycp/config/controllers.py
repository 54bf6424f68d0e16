"""``spec.controllers``: which reconcilers run, on which clusters, how often and how many at once."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from raycp.config.names import DnsLabel, TextMap
from raycp.config.strict import Strict
from raycp.config.units import Duration, Percent, PositiveDuration

RESYNC = 36000.0
"""Seconds between two looks at an unchanged object where nobody says otherwise: 10 hours, as in controller-runtime."""


class BackoffSpec(Strict):
    """Waiting times between attempts: they double from `min` to `max`, each shifted at random by `jitter`."""

    min: PositiveDuration = 0.1
    """After the first failure."""
    max: PositiveDuration = 2.0
    """Never longer than this."""
    jitter: Percent = 0.2
    """Share of each waiting time that is random, so that those who failed together don't return together."""


class RetrySpec(BackoffSpec):
    """Waiting times of a key whose reconcile failed; only a real change of its object shortens them."""

    min: PositiveDuration = 0.05
    """After the first failure."""
    max: PositiveDuration = 300.0
    """Never longer than this."""


class ControllerSpec(Strict):
    """A controller that the fleet runs: a module of reconcilers, and the terms on which they run."""

    use: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(:[A-Za-z_][A-Za-z0-9_]*)?$")
    """Python module, such as `mycontrollers.echo`; with `:name`, only that controller of the module."""
    name: DnsLabel | None = None
    """Its name in metrics, objectives and keys; the module's own by default. Needed where one module is used twice."""
    clusters: TextMap = {}
    """Labels that a cluster must have, one value or several each, such as `{region: [east, west]}`. Empty: all
    clusters."""
    concurrency: int | None = Field(default=None, ge=1)
    """Reconciles of this controller at the same time over the fleet. By default what the controller declares, else
    only the
    workers' slots limit it."""
    resync: Duration | None = None
    """Every object is looked at again about this often (10 % at random), though nothing changed. `0s`: never. By
    default
    what the controller declares, else 10 hours."""
    spread: Duration | None = None
    """System work of a start or resync is spread over this time at random; by default `timeouts.spread`."""
    reconcile_timeout: PositiveDuration | None = None
    """A reconcile that takes longer is stopped and counts as failed. By default what the controller declares, else
    `timeouts.reconcile`."""
    retry: RetrySpec = RetrySpec()
    """When a failed reconcile is tried again."""
    config: dict[str, Any] = {}
    """Handed to the controller as it stands, as `ctx.config`. No secrets: it is readable by whoever reads the fleet."""

    @property
    def key(self) -> str:
        """What tells it from the others: its name, or what it uses."""
        return self.name or self.use

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a cluster with these labels (``ClusterSpec.all_labels``) is one of its clusters."""
        return all(labels.get(key) in values for key, values in self.clusters.items())
