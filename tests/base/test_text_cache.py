"""Caches of what texts from outside mean: their number is bounded, and so is what each of them takes."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import raycp
from raycp.base.text_cache import LONGEST, cached_by_text
from raycp.embedded.options import list_options, parse_query, write_options
from raycp.embedded.selectors import parse_fields, parse_labels
from raycp.embedded.strategy.names import dns_label

ROOT = Path(raycp.__file__).parent

OTHERWISE_BOUNDED = {
    "base/owner_marks.py:_fits",  # proof looks at the lengths first
    "base/owner_marks.py:_moved",  # a time of the fleet's own
    "config/kubeconfig.py:_document",  # files of this machine's user, eight of them
    "embedded/life/evaluator.py:check",  # stages: files of this machine's user
    "embedded/life/gofuncs.py:node_ip",  # names of nodes that are stored: at most 253 characters
    "embedded/life/jqpath.py:compile_path",
    "embedded/life/render.py:_parse",
    "embedded/strategy/__init__.py:body_decoder",  # called with constants
    "embedded/strategy/cel/__init__.py:compile_rule",  # of CRDs that are stored; an expression's length is bounded
    "embedded/strategy/kind_schemas.py:_expanded",  # names of shipped schemas
    "embedded/strategy/schemas.py:definition",
    "metrics/recorder/scrubber.py:_scrub",  # cut before
    "protocol/control/codec.py:_answer_type",  # types
    "protocol/control/codec.py:_decoder",
    "slo/objectives.py:_name",  # of the fleet file
}


def test_a_long_text_is_computed_and_not_kept() -> None:
    seen: list[str] = []

    @cached_by_text(8)
    def length(text: str, more: int = 0) -> int:
        seen.append(text[:1])
        return len(text) + more

    for text, expected in (("a" * LONGEST, "a"), ("b" * (LONGEST + 1), "bb")):
        seen.clear()
        assert [length(text, 1), length(text, 1)] == [len(text) + 1] * 2
        assert "".join(seen) == expected


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (parse_query, "a=b&"),
        (list_options, "a=b&"),
        (lambda text: write_options(text, "kubectl/1", "CreateOptions", False), "a=b&"),
        (parse_labels, "a,b,"),
        (parse_fields, "a=b,"),
        (dns_label, "a-"),
    ],
)
def test_who_sends_long_texts_fills_no_cache_of_the_server(call: Callable[[str], Any], part: str) -> None:
    short, long = f"{part}c=d", part * LONGEST + "c=d"
    assert call(short) is call(short)
    assert call(long) is not call(long)


def test_a_long_user_agent_is_no_key() -> None:
    agent = "x" * 100_000
    assert write_options("", agent + "1", "CreateOptions", False) is write_options("", agent + "2", "CreateOptions", False)
    assert write_options("", agent, "CreateOptions", False).manager == "x" * 128


def test_no_cache_is_keyed_by_texts_from_outside_whatever_their_length() -> None:
    found = set[str]()
    for file in ROOT.rglob("*.py"):
        text = file.read_text()
        for node in ast.walk(ast.parse(text)) if "@" in text and "cache" in text else ():
            if isinstance(node, ast.FunctionDef) and node.args.args:
                names = {ast.unparse(each).partition("(")[0].rpartition(".")[2] for each in node.decorator_list}
                if names & {"cache", "lru_cache"}:
                    found.add(f"{file.relative_to(ROOT)}:{node.name}")
    assert found == OTHERWISE_BOUNDED, "use cached_by_text, or say here what bounds the length of its arguments"
