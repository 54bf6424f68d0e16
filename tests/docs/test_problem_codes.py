"""docs/metrics.md lists the kinds of problems, and which of them leave a fleet ready."""

import re
from pathlib import Path

import msgspec

from raycp.base.problems import ProblemCode, ProblemOwner
from raycp.protocol.status import NOTES

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()


def row(field: str) -> str:
    section = PAGE.partition("### Problems")[2]
    found = re.search(rf"^\| `{field}` \| (.*) \|$", section, re.MULTILINE)
    assert found is not None
    return found[1]


def test_all_codes_are_listed_by_what_they_mean_for_readiness() -> None:
    degrading, _, notes = row("code").partition("without degrading")
    # A silent leader degrades the fleet by a check of its own (``readiness``).
    expected = NOTES - {ProblemCode.LEADER_SILENT}
    assert sorted(re.findall(r"`(\w+)`", notes)) == sorted(expected)
    assert sorted(re.findall(r"`(\w+)`", degrading)) == sorted(set(ProblemCode) - expected)


def test_all_parts_of_an_owner_are_listed() -> None:
    parts = {each.name for each in msgspec.structs.fields(ProblemOwner)}
    assert parts == parts & set(re.findall(r"`(\w+)`", row("owner")))
