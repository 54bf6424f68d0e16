"""Regions and zones of clusters."""

from typing import Literal

from raycp.scheduling.model import Candidate


def domain_of(candidate: Candidate, topology: Literal["cluster", "region", "zone"]) -> str | None:
    """The cluster's name, region or zone; None where it has no such label."""
    if topology == "cluster":
        return candidate.name
    return candidate.labels.get(f"topology.kubernetes.io/{topology}") or candidate.labels.get(topology)
