"""Rights that ``raycp check`` asks for because of what controllers watch."""

from typing import Any

import pytest
from inprocess import fleet_doc

from raycp.base.keys import GVK
from raycp.cli.rights import READ, Use, needs
from raycp.config import FleetDoc
from raycp.config.controllers import ControllerSpec
from raycp.sdk import controller, watch

SECRET, NODE = GVK("", "v1", "Secret"), GVK("", "v1", "Node")


@controller(
    "v1/ConfigMap",
    watches=[watch("v1/Secret", on="hub", field="data.secret"), watch("v1/Node", to=lambda node: [])],
)
async def sample(ctx: Any, obj: Any) -> None: ...


@pytest.mark.parametrize(
    ("cluster", "kind", "watched"), [("hub", SECRET, True), ("hub", NODE, False), ("east", SECRET, False), ("east", NODE, True)]
)
def test_a_watched_kind_is_read_where_it_is_watched(cluster: str, kind: GVK, watched: bool) -> None:
    doc: FleetDoc = fleet_doc(["hub", "east"], ["sample"])
    asked = needs(doc, [Use(ControllerSpec(use="sample"), sample)], doc.cluster(cluster))
    found = [need for need in asked if need.kind == kind and "owner marks" not in need.why]
    assert bool(found) == watched
    assert all(need.verbs == READ for need in found)
