"""docs/runbook.md has a paragraph for each kind of problem and for each alert, and both link to it."""

import re

import pytest
import yaml
from snippets import ROOT

from raycp.base.problems import FLEET, FleetProblem, ProblemCode
from raycp.slo import Objective, Objectives
from raycp.slo.rules import rules_yaml

PAGE = (ROOT / "docs/runbook.md").read_text()
RULES = yaml.safe_load(rules_yaml(Objectives([Objective("*", None, 0.99, 0.25, 7 * 86400.0)])))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
SECTIONS = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S))


@pytest.mark.parametrize("name", [*ProblemCode, *ALERTS])
def test_each_has_a_paragraph_of_what_it_is_and_what_to_do(name: str) -> None:
    what, _, do = SECTIONS[name].partition("What to do: ")
    assert len(what.split()) > 5
    assert len(do.split()) > 5 or "](#" in do, "what to do, or the paragraph that says it"


def test_it_has_no_paragraph_of_what_does_not_exist() -> None:
    assert set(SECTIONS) == {*ProblemCode, *ALERTS, "Readiness"}
    named = set(re.findall(r"\]\(#(\w+)\)", PAGE))
    assert named <= {name.lower() for name in SECTIONS}


@pytest.mark.parametrize("code", list(ProblemCode))
def test_each_problem_links_to_its_paragraph(code: ProblemCode) -> None:
    file, _, anchor = FleetProblem(code, FLEET, "x", 0.0).runbook.partition("#")
    assert (ROOT / file).read_text() == PAGE
    assert anchor in {name.lower() for name in SECTIONS}


@pytest.mark.parametrize("name", list(ALERTS))
def test_each_alert_links_to_its_paragraph(name: str) -> None:
    assert ALERTS[name]["annotations"]["runbook_url"].endswith(f"docs/runbook.md#{name.lower()}")
