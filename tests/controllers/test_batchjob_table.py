"""The conformance table of ``docs/batchjob.md`` names tests that exist, and all of the conformance tests."""

import re
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "batchjob.md"
MORE = {
    # of a member's lies and of size, which no sentence of the Job documentation is about
    "test_a_finish_time_of_the_future_or_before_the_pod_is_not_believed",
    "test_a_job_of_thousands_of_millions_of_completions_is_planned_like_any_other",
    "test_uncounted_pods_are_none_and_indexes_of_thousands_of_millions_cost_nothing",
}


def names_in(*files: str) -> set[str]:
    return {name for file in files for name in re.findall(r"def (test_\w+)", (HERE / file).read_text())}


def test_the_table_names_tests_that_exist_and_none_is_missing() -> None:
    section = DOCUMENT.read_text().split("## Conformance", 1)[1]
    named = set(re.findall(r"\| `(test_\w+)` \|", section))
    assert named <= names_in(*(file.name for file in HERE.glob("test_*.py"))), "renamed or gone"
    assert names_in("test_batchjob_conformance.py") - named == MORE, "missing in the table"
