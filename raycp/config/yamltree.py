"""Parse YAML to plain values, with the line of each.

Of YAML 1.1's implicit types only ``true``, ``false``, ``null`` and numbers are kept: ``no``, ``1:30`` and dates are text.
A duplicate key in a mapping is refused, and so is a document that its aliases expand beyond bounds.
"""

import re
from typing import Any

import yaml

from raycp.config.problems import Loc

MAX_BYTES = 4 * 1024 * 1024
"""The largest fleet file: a cluster's entry has some hundred bytes."""
_MAX_VALUES = 500_000
_MAX_DEPTH = 100

_TAGS = {"str", "int", "float", "bool", "null", "map", "seq", "timestamp", "value"}

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class BadYaml(Exception):
    """Text that is not one YAML document. ``line`` counts from 1; ``loc`` is the path, if there is one."""

    def __init__(self, message: str, line: int, remedy: str, loc: Loc = ()) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.remedy = remedy
        self.loc = loc


def parse(text: str) -> tuple[Any, dict[Loc, int]]:
    """The only document in ``text``, and the line of each of its values. Raises ``BadYaml``."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = list(yaml.compose_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "is not YAML"
        line = mark.line + 1 if mark else 0
        raise BadYaml(f"is not YAML: {problem}", line, _yaml_remedy(problem)) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise BadYaml(f"is not YAML: {str(error).splitlines()[0]}", 0, "save it as UTF-8 text") from None
    documents = [document for document in documents if document is not None]
    if not documents:
        raise BadYaml("is empty", 0, "begin with apiVersion: raycp.io/v1alpha1 and kind: Fleet")
    if len(documents) > 1:
        line = documents[1].start_mark.line + 1
        raise BadYaml("has more than one document", line, "one file describes one fleet: remove what follows '---'")
    builder = _Builder()
    return builder.build(documents[0], (), 0), builder.lines


def _yaml_remedy(problem: str) -> str:
    if "\\t" in problem or "tab" in problem:
        return "indent with spaces: YAML takes no tabs"
    return "check indentation, quotes and brackets in this line and the one above"


class _Builder:
    def __init__(self) -> None:
        self.lines: dict[Loc, int] = {}
        self._values = 0

    def build(self, node: yaml.Node, loc: Loc, depth: int) -> Any:
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > _MAX_VALUES or depth > _MAX_DEPTH:
            raise BadYaml("has too many values, or an alias that holds itself", line, "write it without aliases", loc)
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
            raise BadYaml(f"has the tag {node.tag}", line, "write plain values", loc)
        self.lines.setdefault(loc, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(each, (*loc, index), depth + 1) for index, each in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if "\0" in node.value:
            raise BadYaml("has a NUL character", line, "remove it: no name and no path can have one", loc)
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, loc: Loc, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = self._merge(value_node, loc, depth) | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise BadYaml("has a key that is not text", line, "keys are plain words", loc)
            key = key_node.value
            if key in values:
                raise BadYaml("is a duplicate key", line, "keep one of them", (*loc, key))
            self.lines[(*loc, key)] = line
            values[key] = self.build(value_node, (*loc, key), depth + 1)
        return merged | values

    def _merge(self, node: yaml.Node, loc: Loc, depth: int) -> dict[str, Any]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise BadYaml("merges something that is not a mapping", node.start_mark.line + 1, "write it out", loc)
            merged = self._mapping(source, loc, depth + 1) | merged
        return merged


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    plain = not node.style  # None or "", by loader
    tag = node.tag.removeprefix("tag:yaml.org,2002:")
    if tag == "str" and not plain:
        return text
    if not plain or text == "":
        return None if text == "" and plain else text
    if text in ("null", "~", "Null", "NULL"):
        return None
    if text.lower() in ("true", "false") and text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text) if len(text) < 20 else float(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in (".inf", "+.inf", "-.inf"):
        return float("-inf") if text.startswith("-") else float("inf")
    if text.lower() == ".nan":
        return float("nan")
    return text
