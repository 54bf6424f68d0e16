"""Rules of single kinds, grouped as their Go packages are."""


def load() -> None:
    """Import all rule modules, so that they register."""
    from raycp.embedded.strategy.kinds import cluster, core, pods  # noqa: F401
