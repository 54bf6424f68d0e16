"""Code in the documentation, and how each piece is checked.

Every fenced block in README.md, CONTRIBUTING.md and docs/*.md names its language, and a second word where it wants more:

- ``sh``: bash parses it; each ``raycp ...`` is a command with arguments that its parser takes, each ``make ...`` is a
  target, each file of the repository that it names exists;
- ``sh run``: is also executed, in a copy of configs/ and examples/, with the virtual environment on PATH, and exits 0;
- ``yaml``: parses; ``yaml fleet``: is a whole fleet file, and ``load_fleet`` takes it;
- ``python``: is executed as a module (definitions, quick); ``python norun``: is compiled only; ``python script``: runs
  as a program of its own and exits 0;
- ``json``: parses; ``text``, ``console``, ``promql``: are shown, not checked.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHECKED = {"sh", "yaml", "python", "json"}
SHOWN = {"text", "console", "promql"}


@dataclass(frozen=True)
class Snippet:
    """One fenced block; ``line`` is that of its first line of code."""

    file: Path
    line: int
    language: str
    words: tuple[str, ...]
    code: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """The files of the documentation."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets() -> list[Snippet]:
    """All blocks of the documentation."""
    return [
        each
        for file in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
        for each in _of(file)
    ]


def _of(file: Path) -> list[Snippet]:
    found: list[Snippet] = []
    fence = ""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        opening = re.fullmatch(r"( *)(`{3,})(.*)", line)
        if not fence and opening:
            indent, fence, info = len(opening[1]), opening[2], opening[3].split()
            start, lines = number + 1, []
        elif fence and line.strip() == fence:
            found.append(Snippet(file, start, info[0] if info else "", tuple(info[1:]), "\n".join(lines) + "\n"))
            fence = ""
        elif fence:
            lines.append(line[indent:] if not line[:indent].strip() else line)
    return found
