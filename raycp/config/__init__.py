"""The fleet file: what a fleet should be, as YAML, read into strict pydantic models.

The way of a file: ``load`` reads YAML and keeps where each value stood; ``fleet`` (with ``clusters``, ``controllers``,
``tiers``, ``runtime``, ``embedded``) says which fields there are, in which unit, with which default; ``crosscheck``
holds rules that span fields; ``problems`` turns every violation into a sentence with file, line, path, value, remedy.
What comes out is a ``FleetDoc``: ``canonical`` gives its one stable form, the generation that names it, and the
difference between two.

``units`` has the types of durations and shares, ``schema`` the JSON schema for editors, ``reference`` the table of all
fields that ``docs/fleet-yaml.md`` shows.
"""

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
