"""The fleet file: what a fleet should be, as YAML, read into strict pydantic models.

The way of a file: ``load`` reads YAML and keeps where each value stood; ``fleet`` (with ``clusters``, ``controllers``,
``tiers``, ``runtime``, ``embedded``) says which fields there are, in which unit, with which default; ``crosscheck``
holds rules that span fields; ``problems`` turns every violation into a sentence with file, line, path, value, remedy.
What comes out is a ``FleetDoc``: ``canonical`` gives its one stable form, the generation that names it, and the
difference between two.

``units`` has the types of durations and shares, ``schema`` the JSON schema for editors, ``reference`` the table of all
fields that ``docs/fleet-yaml.md`` shows.
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

_HOMES = {
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
    """Imported when asked for: an embedded cluster needs its own model and not the 0.1 s that all the others take."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
