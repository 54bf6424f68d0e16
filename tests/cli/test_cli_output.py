"""Rows as table, wide table, JSON and YAML."""

import json

import yaml

from raycp.cli.output import Column, render, text

ROWS = [
    {"name": "east-1", "ready": True, "lag": 0.25, "labels": {"region": "east"}, "gone": None},
    {"name": "w", "ready": False, "lag": 12.0, "labels": {}, "gone": ["a", "b"]},
]
COLUMNS = [
    Column("NAME", "name"),
    Column("READY", "ready"),
    Column("LAG", "lag", right=True),
    Column("LABELS", "labels", wide=True),
    Column("GONE", lambda row: row["gone"]),
]


def test_rows_as_a_table() -> None:
    assert str(render(ROWS, COLUMNS, "table")).splitlines() == [
        "NAME     READY    LAG   GONE",
        "east-1   yes     0.25   -",
        "w        no        12   a,b",
    ]


def test_wide_has_more_columns() -> None:
    assert "region=east" in str(render(ROWS, COLUMNS, "wide"))


def test_json_and_yaml_carry_everything() -> None:
    assert json.loads(str(render(ROWS, COLUMNS, "json"))) == ROWS
    assert yaml.safe_load(str(render(ROWS, COLUMNS, "yaml"))) == ROWS


def test_no_rows() -> None:
    assert str(render([], COLUMNS, "table", empty="no clusters")) == "no clusters"
    assert json.loads(str(render([], COLUMNS, "json"))) == []
    assert yaml.safe_load(str(render([], COLUMNS, "yaml"))) == []


def test_values_as_cells() -> None:
    assert [text(each) for each in (0, 0.0, 1.5, "", {}, [], True)] == ["0", "0", "1.5", "-", "-", "-", "yes"]
