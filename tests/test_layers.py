"""Rules on imports (pyproject.toml, [tool.importlinter]), on the names, maps and sizes of modules, and on type names."""

import ast
import logging.config
import re
from collections import defaultdict
from pathlib import Path
from statistics import median

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raycp"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 450
MEDIAN_FILE = 130
GERUND_ROOMS = {"queueing", "scheduling"}
MAP_ITEM = re.compile(r"^- ((?:``[^`]+``(?:, | and )?)+)", re.MULTILINE)
MAP_NAME = re.compile(r"``([^`]+?)/?``")


def _imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return names


def test_contracts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(logging.config, "dictConfig", lambda _: None)  # it would disable all loggers that exist
    code = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_only_the_runtime_imports_ray() -> None:
    found = {
        str(file.relative_to(ROOT))
        for file in FILES
        if file.relative_to(PACKAGE).parts[0] != "runtime"
        and any(name == "ray" or name.startswith("ray.") for name in _imports(file))
    }
    assert not found


def test_every_package_has_a_docstring() -> None:
    silent = [
        str(file.relative_to(ROOT)) for file in PACKAGE.rglob("__init__.py") if not ast.get_docstring(ast.parse(file.read_text()))
    ]
    bare = [
        str(folder.relative_to(ROOT))
        for folder in PACKAGE.rglob("*")
        if folder.is_dir() and list(folder.glob("*.py")) and not (folder / "__init__.py").exists()
    ]
    assert not silent
    assert not bare


def mapped_names(package: Path) -> list[str]:
    """The names at the heads of list items in a package's docstring: "- ``store``, ``watch``: ..."."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    return [name for item in MAP_ITEM.findall(text) for name in MAP_NAME.findall(item)]


def test_package_maps_name_modules_that_exist() -> None:
    """A list without any module of its package is not a map: the kinds of locks, the fixtures of the test kit."""
    absent: dict[str, list[str]] = {}
    maps = 0
    for package in sorted(file.parent for file in FILES if file.name == "__init__.py"):
        names = mapped_names(package)
        unknown = [name for name in names if not (package / f"{name}.py").exists() and not (package / name).is_dir()]
        if len(unknown) < len(names):
            maps += 1
            if unknown:
                absent[str(package.relative_to(ROOT))] = unknown
    assert absent == {}
    assert maps > 10


def test_every_file_has_a_docstring() -> None:
    silent = [str(file.relative_to(ROOT)) for file in FILES if not ast.get_docstring(ast.parse(file.read_text()))]
    assert not silent


def test_module_names_are_nouns() -> None:
    gerunds = [
        str(path.relative_to(ROOT))
        for path in [*FILES, *(file.parent for file in FILES if file.name == "__init__.py")]
        if path.stem.endswith("ing") and not (path.parent == PACKAGE and path.name in GERUND_ROOMS)
    ]
    assert gerunds == []


def test_files_are_short() -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}
    assert {file: count for file, count in lines.items() if count > LONGEST_FILE} == {}
    assert median(lines.values()) <= MEDIAN_FILE


def test_public_type_names_are_unique() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_test_file_names_are_unique() -> None:
    """pytest imports test files of folders that are no packages by their bare names: two of one name fail as they are collected."""
    homes: dict[str, list[str]] = defaultdict(list)
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        homes[file.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
