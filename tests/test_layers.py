"""The house's rules on imports (pyproject.toml, [tool.importlinter]), and the one that import-linter can't say."""

import ast
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raycp"


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
    code = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_only_the_runtime_imports_ray() -> None:
    found = {
        str(file.relative_to(ROOT))
        for file in PACKAGE.rglob("*.py")
        if file.relative_to(PACKAGE).parts[0] != "runtime"
        and any(name == "ray" or name.startswith("ray.") for name in _imports(file))
    }
    assert not found


def test_every_package_has_its_map() -> None:
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


def test_every_file_says_what_it_is() -> None:
    silent = [str(file.relative_to(ROOT)) for file in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(file.read_text()))]
    assert not silent
