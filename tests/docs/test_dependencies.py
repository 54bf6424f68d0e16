"""docs/dependencies.md, pyproject.toml, the lock files and the imports under raycp/ say the same."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/dependencies.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ["requirements.lock", "requirements-dev.lock"]
SBOM_LOCK = "requirements-sbom.lock"
EXTRA_ROOMS = {"bench": {"bench", "test"}, "testkit": {"test"}}
"""Rooms of raycp that may import what these extras declare."""


def declared(*extras: str) -> dict[str, Requirement]:
    """The dependencies by canonical name: of raycp itself without ``extras``, else of those."""
    optional = PROJECT["project"]["optional-dependencies"]
    texts = [text for extra in extras for text in optional[extra]] if extras else PROJECT["project"]["dependencies"]
    return {canonicalize_name(found.name): found for found in map(Requirement, texts)}


EXTRAS = tuple(PROJECT["project"]["optional-dependencies"])
ALL = declared() | declared(*EXTRAS)
SBOM = {canonicalize_name(found.name): found for found in map(Requirement, PROJECT["dependency-groups"]["sbom"])}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def listed(title: str) -> set[str]:
    """The packages in the first column of the section's table."""
    cells = re.findall(r"^\| ([^|]+) \|", section(title), re.MULTILINE)
    return {canonicalize_name(name) for cell in cells for name in re.findall(r"`([\w.-]+)`", cell)}


NAMESPACES = {
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.trace": "opentelemetry-api",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
}
"""Modules that several packages share the top of."""


def top(module: str) -> str:
    """The part of a module's name that says which package has it."""
    return next((name for name in NAMESPACES if f"{module}.".startswith(f"{name}.")), module.split(".")[0])


def imports(file: Path) -> set[str]:
    """Top-level modules that a file imports, or locates with ``find_spec``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {top(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(top(node.module or ""))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec") and isinstance(node.args[0], ast.Constant):
            found.add(str(node.args[0].value).split(".")[0])
    return found


def package(module: str) -> str:
    """The package that has a module: mostly of the same name."""
    return {"yaml": "pyyaml", "grpc": "grpcio", "re2": "google-re2", **NAMESPACES}.get(module, canonicalize_name(module))


IMPORTS = {
    (file, module)
    for file in (ROOT / "raycp").rglob("*.py")
    for module in imports(file) - {"raycp", "__future__"} - set(sys.stdlib_module_names)
}


def pins(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and digests of each package in a lock file."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found: dict[str, tuple[str, list[str]]] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        pinned = re.match(r"([\w.-]+)==(\S+)( ; .*?)?((?: +--hash=sha256:[0-9a-f]{64})+)$", line)
        assert pinned, f"{name}: {line[:100]}"
        found[canonicalize_name(pinned[1])] = pinned[2], re.findall(r"sha256:([0-9a-f]{64})", pinned[4])
    return found


def test_the_page_lists_what_is_declared() -> None:
    assert listed("To run") == set(declared())
    assert listed("To develop") == set(declared(*EXTRAS)) | set(SBOM)


def test_each_dependency_has_a_reason() -> None:
    for title in ("To run", "Written by hand"):
        rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("| ")][1:]
        assert all(len(row) == 3 and len(row[2].split()) >= 3 for row in rows), title


def test_each_dependency_is_imported() -> None:
    idle = set(declared()) - {package(module) for _, module in IMPORTS}
    assert not idle, "import it, or remove it here, from pyproject.toml, from docs/dependencies.md, and run `make lock`"


def test_each_import_is_declared() -> None:
    wrong = []
    for file, module in IMPORTS:
        extras = EXTRA_ROOMS.get(file.relative_to(ROOT / "raycp").parts[0], set())
        if package(module) not in set(declared()) | set(declared(*extras) if extras else ()):
            wrong.append(f"{file.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_what_is_written_by_hand_exists() -> None:
    rows = re.findall(r"^\| [^|]+ \| (`raycp/[^|]+) \|", section("Written by hand"), re.MULTILINE)
    paths = [path for row in rows for path in re.findall(r"`(raycp/[\w/.]+)`", row)]
    assert len(rows) > 15
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("name", [*LOCKS, SBOM_LOCK])
def test_the_lock_holds_what_is_declared(name: str) -> None:
    found = pins(name)
    build = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["build-system"]["requires"])}
    wanted_by = {LOCKS[0]: declared() | build, LOCKS[1]: ALL | build, SBOM_LOCK: SBOM}
    for wanted, requirement in wanted_by[name].items():
        assert wanted in found, f"{name} lacks {wanted}: run `make lock`"
        assert requirement.specifier.contains(found[wanted][0], prereleases=True), f"{name}: {requirement}: run `make lock`"


@pytest.mark.parametrize("name", [*LOCKS, SBOM_LOCK])
def test_the_lock_has_digests_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "index" not in re.sub(r"^\S+==", "", text, flags=re.MULTILINE)
    assert all(digests and len(set(digests)) == len(digests) for _, digests in pins(name).values())


def test_the_environment_of_the_tests_runs_what_the_image_runs() -> None:
    run, develop = map(pins, LOCKS)
    assert {name: develop.get(name) for name in run} == run


def test_no_tool_makes_each_process_of_ray_start_slowly() -> None:
    """``import ray`` imports ``jsonschema``, which imports every checker of formats that it finds; one of them compiles a grammar
    with ``lark`` for five seconds of CPU, in each worker process."""
    shown = subprocess.run(
        [sys.executable, "-c", "import ray, sys; print(*sys.modules)"], capture_output=True, text=True, check=True, timeout=120
    )
    assert {"ray", "jsonschema"} <= set(shown.stdout.split())
    assert "lark" not in shown.stdout.split()


def test_downloaded_tools_have_digests() -> None:
    lines = [line for line in (ROOT / "scripts/tools.lock").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    for script in (ROOT / "scripts").glob("*.sh"):
        for command in re.findall(r"(?:pip(?:_install)?|-m pip) (?:download|install|--require-hashes)[^&|;]*", script.read_text()):
            verified = "--require-hashes" in command or "--no-deps --no-build-isolation" in command or "$@" in command
            assert verified, f"{script.name}: {command}"


def test_the_license_is_there() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()
