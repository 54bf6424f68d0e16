"""The documentation's pictures of the status page: small, shown or linked, and each made again by a test of the page."""

import re
from pathlib import Path

import pytest
from pictures import LARGEST

ROOT = Path(__file__).parents[2]
PICTURES = sorted((ROOT / "docs" / "figures").glob("console-*.png"))
STATES = {"idle", "storm", "crashing", "one-down", "200-clusters", "phone", "jobs", "failing", "story", "hour"}


def name_of(picture: Path) -> str:
    return picture.stem.removeprefix("console-")


def test_each_state_has_its_picture() -> None:
    assert {name_of(picture) for picture in PICTURES} >= STATES


@pytest.mark.parametrize("picture", PICTURES, ids=name_of)
def test_a_picture_is_small_mentioned_and_made_by_a_test(picture: Path) -> None:
    found = picture.read_bytes()
    assert found[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(found) <= LARGEST
    assert found[25] == 3, "colours of a palette (PNG, 11.2.2 IHDR)"
    assert f"(figures/{picture.name})" in (ROOT / "docs" / "metrics.md").read_text()
    tests = "".join(file.read_text() for file in (ROOT / "tests" / "observer").glob("test_page_*.py"))
    assert re.search(rf'photograph\(\w+, "{name_of(picture)}"\)', tests), "make it anew: see docs/metrics.md"
