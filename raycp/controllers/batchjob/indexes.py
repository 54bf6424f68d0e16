"""Sets of indexes as ``batch/v1`` Job writes them: ``"0-3,7"``."""

from collections.abc import Iterable


def parse(text: str) -> set[int]:
    """The set. Raises ``ValueError`` for what is not one."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return found


def show(indexes: Iterable[int]) -> str:
    """The shortest form, in order."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
