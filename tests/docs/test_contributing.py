"""CONTRIBUTING.md and docs/laws.md name what exists; code and tests refer to documents that exist."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from snippets import ROOT, documents

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
LAWS = (ROOT / "docs/laws.md").read_text()
SOURCES = sorted(file for folder in ("raycp", "tests") for file in (ROOT / folder).rglob("*.py") if file != Path(__file__))
NUMBER = r"\b[Ll]aws? (\d+[a-z]?)\b"
PRIVATE = r"DESIGN|\b[Dd]esign, (?:section|law)|of the design\b|\bthe seed's|what the seed"


def section(title: str) -> str:
    """The text under a heading of CONTRIBUTING.md, up to the next heading of its level."""
    return re.split(r"^## ", CONTRIBUTING.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables' rows, without headings."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines if not set(cells[0].strip()) <= {"-"}]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/laws.md"])
def test_each_path_exists(name: str) -> None:
    paths = re.findall(r"`((?:raycp|tests|docs|scripts|\.ci|deploy)(?:/[\w.\-/]*)?)`", (ROOT / name).read_text())
    assert len(paths) > 20
    assert not [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]


def test_the_map_has_every_room_and_no_other() -> None:
    named = set(re.findall(r"^\| `raycp/(\w+)` \|", CONTRIBUTING, re.MULTILINE))
    assert named == {each.name for each in (ROOT / "raycp").iterdir() if (each / "__init__.py").exists()}


def test_the_map_has_the_layers_of_the_linter() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    wanted = [name for layer in layers for name in layer.split(" | ")]
    paragraph = next(each for each in CONTRIBUTING.split("\n\n") if each.startswith('"And below"')).split("top to bottom:")[1]
    assert re.findall(r"`(\w+)`", paragraph)[: len(wanted)] == wanted


def test_each_question_is_answered_by_at_most_two_files() -> None:
    answers = [cells for cells in rows(section("Where to change what").split("To add something:")[0]) if cells[0] != "question"]
    assert len(answers) >= 10
    for question, files in answers:
        assert 1 <= len(re.findall(r"`raycp/[\w/.]+`", files)) <= 2, question


def test_the_laws_are_numbered() -> None:
    assert re.findall(r"^## (\d+)\. ", LAWS, re.MULTILINE) == [str(number) for number in range(1, 15)]
    assert re.findall(r"^### (6[a-z])\. ", LAWS, re.MULTILINE) == [f"6{letter}" for letter in "abcdefg"]


def test_each_law_that_is_quoted_exists() -> None:
    known = set(re.findall(r"^#{2,3} (\d+[a-z]?)\. ", LAWS, re.MULTILINE))
    quoted = {(file, number) for file in SOURCES for number in re.findall(NUMBER, file.read_text())}
    assert not [(str(file.relative_to(ROOT)), number) for file, number in quoted if number not in known]


def test_nothing_refers_to_a_document_that_is_not_here() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in [*SOURCES, *documents()]
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(PRIVATE, line)
    ]
    assert not found, "\n".join(found)
