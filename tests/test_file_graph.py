"""No file of raycp imports another in a circle, and no ``TYPE_CHECKING`` import crosses rooms.

import-linter sees packages; this graph has the files. Imports under ``TYPE_CHECKING`` and inside functions are edges
like any other, since they are how a circle is hidden.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raycp"


class ImportEdge(NamedTuple):
    """``source`` imports ``target``, both as module names."""

    source: str
    target: str
    type_checking: bool


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str | None:
    """The room of a module. The package itself belongs to none: it only re-exports the SDK."""
    return module.split(".")[1] if "." in module else None


def absolute(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def targets(node: ast.AST, module: str) -> Iterator[str]:
    """The modules of raycp that an import statement names: ``from package import module`` is an edge to the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in MODULES)
    elif isinstance(node, ast.ImportFrom):
        base = absolute(node, module)
        for alias in node.names:
            if f"{base}.{alias.name}" in MODULES:
                yield f"{base}.{alias.name}"
            elif base in MODULES:
                yield base


def import_edges(module: str) -> Iterator[ImportEdge]:
    tree = ast.parse(MODULES[module].read_text())
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        for target in targets(node, module):
            if target != module:
                yield ImportEdge(module, target, node in guarded)


EDGES = [edge for module in MODULES for edge in import_edges(module)]


def reachable(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        for target in graph.get(pending.pop(), ()):
            if target not in found:
                found.add(target)
                pending.append(target)
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module."""
    reach = {module: reachable(module, graph) for module in graph}
    found: list[list[str]] = []
    for module in graph:
        circle = sorted({module, *(other for other in reach[module] if module in reach.get(other, ()))})
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def test_circles_finds_a_circle_and_leaves_out_what_only_leads_to_it() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_the_files_form_no_import_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for edge in EDGES:
        graph[edge.source].add(edge.target)
    assert circles(graph) == []


def test_no_type_checking_import_crosses_rooms() -> None:
    crossing = [edge for edge in EDGES if edge.type_checking and room(edge.source) not in (None, room(edge.target))]
    assert crossing == []
