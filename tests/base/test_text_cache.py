"""Caches of what texts from outside mean: their number is bounded, and so is what each of them takes."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import raycp
from raycp.base import text_cache
from raycp.base.text_cache import HELD, LONGEST, cached_by_text
from raycp.embedded.options import list_options, parse_query, write_options
from raycp.embedded.selectors import field_predicate, parse_fields, parse_labels
from raycp.embedded.strategy.names import dns_label
from raycp.embedded.strategy.scalars import milli

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
    "kube/codec.py:_seconds_of",  # parse_time looks at the length first
    "metrics/recorder/scrubber.py:_scrub",  # cut before
    "protocol/control/codec.py:_answer_type",  # types
    "protocol/control/codec.py:_decoder",
    "slo/objectives.py:_name",  # of the fleet file
}


def test_of_long_texts_few_are_kept() -> None:
    seen: list[str] = []

    @cached_by_text(1000)
    def length(text: str, *more: tuple[str, ...]) -> int:
        seen.append(text[:1])
        return len(text)

    assert [length("a" * LONGEST), length("a" * LONGEST)] == [LONGEST] * 2
    assert seen == ["a"]
    for number in range(500):
        assert length(f"{number}" + "b" * LONGEST) > LONGEST
        assert length("c", (f"{number}" + "b" * LONGEST,)) == 1
        assert length.cache_info().currsize <= HELD // LONGEST + 2
    large = 2 * HELD
    assert [length("d" * large), length("e" * large), length("e" * large)] == [large] * 3
    assert length.cache_info().currsize == 1


@pytest.mark.parametrize(
    ("cache", "call", "part"),
    [
        (parse_query, parse_query, "a=b&"),
        (list_options, list_options, "a=b&"),
        (write_options, lambda text: write_options(text, "kubectl/1", "CreateOptions", False), "a=b&"),
        (write_options, lambda text: write_options("", text, "CreateOptions", False), "agent"),
        (parse_labels, parse_labels, "a,b,"),
        (parse_fields, parse_fields, "a=b,"),
        (field_predicate, lambda text: field_predicate("", "pods", (), text), "metadata.name=b,"),
        (dns_label, dns_label, "a-"),
        (milli, lambda text: milli(f"1{text}"), "0"),
    ],
)
def test_who_sends_long_texts_fills_no_cache_of_the_server(
    cache: Any, call: Callable[[str], Any], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_cache, "HELD", 8192)
    for number in range(1, 20):
        call(part * (8192 // len(part) + number) + ("" if part in ("0", "a-") else "metadata.name=d"))
    assert cache.cache_info().currsize <= 2


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
