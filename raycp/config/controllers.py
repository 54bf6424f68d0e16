"""``spec.controllers``: the fleet's reconcilers, their clusters, resync and concurrency."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from raycp.config.clusters import KubeconfigRef
from raycp.config.names import DnsLabel, TextMap
from raycp.config.strict import Strict
from raycp.config.units import Duration, Percent, PositiveDuration

RESYNC = 36000.0
"""Default seconds between two reconciles of an unchanged object: 10 hours, as in controller-runtime."""


class BackoffSpec(Strict):
    """Delays between attempts: they double from `min` to `max`, each randomised by `jitter`."""

    min: PositiveDuration = 0.1
    """Delay after the first failure."""
    max: PositiveDuration = 2.0
    """Longest delay."""
    jitter: Percent = 0.2
    """Random share of each delay, so that attempts that failed together are not retried together."""


class RetrySpec(BackoffSpec):
    """Delays of a key whose reconcile failed; only a real change of its object shortens them."""

    min: PositiveDuration = 0.05
    """Delay after the first failure."""
    max: PositiveDuration = 300.0
    """Longest delay."""


class ControllerSpec(Strict):
    """A controller that the fleet runs: a module of reconcilers, and its settings."""

    use: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(:[A-Za-z_][A-Za-z0-9_]*)?$")
    """Python module, such as `mycontrollers.echo`; with `:name`, only that controller of the module."""
    name: DnsLabel | None = None
    """Its name in metrics, objectives and keys; by default the module's own. Required if one module is used twice."""
    clusters: TextMap = {}
    """Labels that a cluster must have, one value or several each, such as `{region: [east, west]}`. Empty: all clusters."""
    concurrency: int | None = Field(default=None, ge=1)
    """Concurrent reconciles of this controller over the fleet. By default what the controller declares; without that only
    the workers' slots limit it."""
    resync: Duration | None = None
    """Period after which an unchanged object is reconciled again, ±10 % at random. `0s`: never. By default what the controller
    declares, else 10 hours."""
    spread: Duration | None = None
    """Time over which system work of a start or resync is randomly spread; by default `timeouts.spread`."""
    reconcile_timeout: PositiveDuration | None = None
    """Time after which a reconcile is cancelled and counts as failed. By default what the controller declares, else
    `timeouts.reconcile`."""
    retry: RetrySpec = RetrySpec()
    """When a failed reconcile is retried."""
    credentials: dict[str, KubeconfigRef] = {}
    """Its own credentials, by cluster: its requests there are made as the user of that kubeconfig's context, and no longer with the
    cluster's own credentials. The server stays that of the cluster."""
    config: dict[str, Any] = {}
    """Passed to the controller unchanged, as `ctx.config`. No secrets: everyone who can read the fleet can read it."""

    @property
    def key(self) -> str:
        """What identifies it in the file: its name, or its module."""
        return self.name or self.use

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a cluster with these labels (``ClusterSpec.all_labels``) is one of its clusters."""
        return all(labels.get(key) in values for key, values in self.clusters.items())
