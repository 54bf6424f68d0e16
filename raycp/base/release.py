"""The release of raycp that a process runs: its version, and a digest of its code.

The version alone does not tell: sources may be edited or pulled under a running fleet. Two processes run the same release where
both are equal. The digest covers contents and names only, so that it is the same on all nodes that have the same code.
"""

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]

OUTSIDE = frozenset({"bench", "cli", "driver", "testkit"})
"""Rooms that no process of a fleet imports: a change there is none of the fleet's."""

UPGRADE = "`raycp upgrade -c FLEET.yaml` brings the fleet to this release"


@functools.cache
def this_release() -> str:
    """``VERSION+DIGEST`` of the code on disk when a process first asks, which it does before it does anything else.

    About 50 ms: it reads all sources.
    """
    try:
        number = version("raycp")
    except PackageNotFoundError:  # run from its sources
        number = "0"
    return f"{number}+{code_digest(PACKAGE)}"


def code_digest(package: Path) -> str:
    """Of the sources of a package as its processes import them."""
    digest = hashlib.blake2b(digest_size=6)
    for room in sorted(package.iterdir()):
        if room.name not in OUTSIDE:
            for file in sorted(room.rglob("*.py")) if room.is_dir() else [room] if room.suffix == ".py" else []:
                if not is_importable(file.relative_to(package)):
                    continue
                content = file.read_bytes()
                digest.update(f"{file.relative_to(package).as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()


def is_importable(source: Path) -> bool:
    """Whether a source at this path, relative to where modules are looked for, may be imported. An editor's lock beside it, which
    may be a link to nowhere, is not."""
    return all(part.isidentifier() for part in source.with_suffix("").parts)


def shown(release: str) -> str:
    """For people; empty is a release that does not tell."""
    number, _, code = release.partition("+")
    return f"raycp {number} (code {code})" if code else "another release of raycp, which does not say which"


def difference(other: str, who: str = "it", here: str = "this is") -> str:
    """That ``who`` runs ``other``, and this process another release; empty where both are the same."""
    return "" if other == this_release() else f"{who} runs {shown(other)}, {here} {shown(this_release())}"
