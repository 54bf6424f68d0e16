"""Every snippet in the documentation is parsed or run; see ``snippets`` for the convention."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from snippets import CHECKED, ROOT, SHOWN, Snippet, documents, snippets

from raycp.cli.main import COMMANDS, available, parser_of
from raycp.config import parse_fleet

ALL = snippets()
_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def of(language: str, *words: str) -> list[object]:
    """The snippets of a language, with those words if given, as parameters that name their place."""
    wanted = [each for each in ALL if each.language == language and set(words) <= set(each.words)]
    return [pytest.param(each, id=str(each)) for each in wanted]


def test_each_block_names_a_language() -> None:
    wrong = [str(each) for each in ALL if each.language not in CHECKED | SHOWN]
    assert not wrong, f"give these blocks a language that tests/docs/snippets.py knows: {wrong}"


def test_links_lead_somewhere() -> None:
    dead = []
    for file in documents():
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", file.read_text()):
            if "://" in target:
                continue
            there = file.parent / target if target else file
            if not there.exists() or (anchor and anchor not in _anchors(there)):
                dead.append(f"{file.name}: {target}#{anchor}")
    assert not dead


def test_pictures_are_well_formed_and_stand_alone() -> None:
    for picture in (ROOT / "docs").rglob("*.svg"):
        root = ElementTree.parse(picture).getroot()
        assert root.get("viewBox"), picture
        assert not [each for each in root.iter() if each.tag.endswith(("}script", "}foreignObject"))], picture
        images = [each for each in root.iter() if each.tag.endswith("}image")]
        assert all(each.get("{http://www.w3.org/1999/xlink}href", "").startswith("data:") for each in images), picture


def _anchors(file: Path) -> set[str]:
    """What headings can be linked as, in the manner of GitHub."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("snippet", of("yaml"))
def test_yaml(snippet: Snippet) -> None:
    list(yaml.safe_load_all(snippet.code))
    if "fleet" in snippet.words:
        parse_fleet(snippet.code, Path("snippet.yaml"))


@pytest.mark.parametrize("snippet", of("json"))
def test_json(snippet: Snippet) -> None:
    json.loads(snippet.code)


@pytest.mark.parametrize("snippet", of("python"))
def test_python(snippet: Snippet, tmp_path: Path) -> None:
    place = f"{snippet}"
    ast.parse(snippet.code, place)
    code = compile("\n" * (snippet.line - 1) + snippet.code, place, "exec")
    if "script" in snippet.words:
        (tmp_path / "snippet.py").write_text(snippet.code)
        _succeeds([sys.executable, "snippet.py"], tmp_path)
    elif "norun" not in snippet.words:
        exec(code, {"__name__": "snippet"})


@pytest.mark.parametrize("snippet", of("sh"))
def test_shell(snippet: Snippet) -> None:
    _succeeds(["bash", "-n", "-c", snippet.code], ROOT)
    for words in _commands(snippet.code):
        if words[0] == "make":
            unknown = {each for each in words[1:] if "=" not in each and not each.startswith("-")} - _TARGETS
            assert not unknown, f"no such target: {unknown}"
        if words[0] == "raycp":
            _takes(words[1:])
        missing = [
            each for each in words if re.match(r"(configs|deploy|docs|scripts|examples)/", each) and not (ROOT / each).exists()
        ]
        assert not missing, f"no such file: {missing}"


@pytest.mark.parametrize("snippet", of("sh", "run"))
def test_shell_runs(snippet: Snippet, tmp_path: Path) -> None:
    for folder in ("configs", "examples"):
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, tmp_path / folder)
    _succeeds(["bash", "-euo", "pipefail", "-c", snippet.code], tmp_path)


def _succeeds(command: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}:{ROOT / '.tools/bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=100, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _commands(code: str) -> Iterator[list[str]]:
    """The simple commands of a script, as words; good enough for what stands in documentation."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"<<'?(\w+)'?.*?^\1$", "", code, flags=re.DOTALL | re.MULTILINE))
    for line in joined.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for word in lexer:
            if set(word) <= set("|&;()"):
                if words:
                    yield words
                words = []
            elif set(word) <= set("<>"):
                skip = True
            elif skip:
                skip = False
            elif words or not re.fullmatch(r"[A-Za-z_]\w*=.*", word):
                words.append(word)
        if words:
            yield words


def _takes(words: list[str]) -> None:
    """Whether ``raycp`` has such a command and its parser takes these arguments."""
    if words[0] in ("--help", "--version", "help"):
        return
    assert words[0] in COMMANDS, f"raycp has no command {words[0]!r}"
    if words[0] not in available():
        pytest.skip(f"raycp {words[0]} is not here yet")
    try:
        parser_of(words[0]).parse_args(words)
    except SystemExit as end:
        if end.code != 0:
            pytest.fail(f"raycp {shlex.join(words)}: its parser refuses this")
