"""The fleet file: the desired fleet as YAML, parsed into strict pydantic models; and kubeconfig files, as kubectl reads them.

The path of a file:

- ``load``: reads a file; ``yamltree``: YAML to plain values with the line of each;
- ``fleet``, with ``clusters``, ``controllers``, ``tiers``, ``runtime``, ``observer``, ``pauses``, ``embedded``: the fields, their
  units and defaults, on ``strict``; ``units`` and ``names`` are types of fields;
- ``crosscheck``: rules that span fields; ``files``: files that must exist on this machine;
- ``problems``: every violation as a sentence with file, line, path, value and remedy;
- ``canonical``: the generation of a ``FleetDoc``, the difference between two, and digests that show it without the values.

The path of a kubeconfig: ``kubeconfig`` reads, merges and selects; ``kubeconfig_yaml``: bytes to plain values;
``kubeconfig_model``: its fields and their types.

``schema`` has the JSON schema for editors, ``reference`` the table of all fields in ``docs/fleet-yaml.md``, ``rayenv`` the
settings of Ray that a fleet needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raycp.config.canonical import Change, diff, generation
    from raycp.config.clusters import ClusterSpec
    from raycp.config.controllers import ControllerSpec
    from raycp.config.embedded import EmbeddedSpec
    from raycp.config.fleet import FleetDoc
    from raycp.config.load import load_fleet, parse_fleet
    from raycp.config.problems import ConfigError, Problem
    from raycp.config.schema import fleet_json_schema
    from raycp.config.tiers import TIERS, TierName

__all__ = [
    "TIERS",
    "Change",
    "ClusterSpec",
    "ConfigError",
    "ControllerSpec",
    "EmbeddedSpec",
    "FleetDoc",
    "Problem",
    "TierName",
    "diff",
    "fleet_json_schema",
    "generation",
    "load_fleet",
    "parse_fleet",
]

HOMES = {
    "TIERS": "tiers",
    "Change": "canonical",
    "ClusterSpec": "clusters",
    "ConfigError": "problems",
    "ControllerSpec": "controllers",
    "EmbeddedSpec": "embedded",
    "FleetDoc": "fleet",
    "Problem": "problems",
    "TierName": "tiers",
    "diff": "canonical",
    "fleet_json_schema": "schema",
    "generation": "canonical",
    "load_fleet": "load",
    "parse_fleet": "load",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: an embedded cluster needs one model and not the 0.1 s that all others take."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
