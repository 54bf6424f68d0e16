"""Rules of single kinds, grouped as their Go packages are."""


def load() -> None:
    """Import all rule modules, so that they register."""
    from raycp.embedded.strategy.kinds import (  # noqa: F401
        batch,
        cluster,
        core,
        pods,
        services,
        workloads,
    )
