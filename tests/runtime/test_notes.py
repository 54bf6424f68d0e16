"""What is kept for a fleet's later leaders: in Ray's key-value store and in a file, either of which may be lost. Without a Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.experimental import internal_kv

from raycp.protocol.substrate import MemberUnavailable
from raycp.runtime import notes

NAMESPACE = "raycp-t"


class Kv:
    """Ray's key-value store; ``down``: its head is away."""

    def __init__(self) -> None:
        self.content: dict[tuple[bytes, bytes], bytes] = {}
        self.down = False

    def put(self, key: bytes, value: bytes, overwrite: bool, *, namespace: bytes) -> bool:
        self._answer()
        self.content[namespace, key] = value
        return True

    def get(self, key: bytes, *, namespace: bytes) -> bytes | None:
        self._answer()
        return self.content.get((namespace, key))

    def _answer(self) -> None:
        if self.down:
            raise RuntimeError("failed to connect to GCS")


@pytest.fixture
def kv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kv:
    made = Kv()
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))
    monkeypatch.setattr(internal_kv, "_internal_kv_put", made.put)
    monkeypatch.setattr(internal_kv, "_internal_kv_get", made.get)
    return made


def file(tmp_path: Path) -> Path:
    return tmp_path / NAMESPACE / "plan.json"


async def test_nothing_was_kept(kv: Kv) -> None:
    assert await notes.read_note(NAMESPACE) is None


async def test_a_note_is_in_both_places_and_the_file_is_its_owners(kv: Kv, tmp_path: Path) -> None:
    await notes.keep_note(NAMESPACE, b"one")
    await notes.keep_note(NAMESPACE, b"two")
    assert await notes.read_note(NAMESPACE) == b"two"
    assert file(tmp_path).read_bytes() == b"two"
    assert file(tmp_path).stat().st_mode & 0o077 == 0
    assert file(tmp_path).parent.stat().st_mode & 0o077 == 0
    assert [path.name for path in file(tmp_path).parent.iterdir()] == ["plan.json"], "nothing half written"


def lose_store(kv: Kv, tmp_path: Path) -> None:
    kv.content.clear()


def head_away(kv: Kv, tmp_path: Path) -> None:
    kv.down = True


def lose_file(kv: Kv, tmp_path: Path) -> None:
    file(tmp_path).unlink()


@pytest.mark.parametrize("lose", [lose_store, head_away, lose_file])
async def test_one_place_is_enough(kv: Kv, tmp_path: Path, lose: Callable[[Kv, Path], None]) -> None:
    await notes.keep_note(NAMESPACE, b"one")
    lose(kv, tmp_path)
    assert await notes.read_note(NAMESPACE) == b"one"


async def test_a_note_that_was_dropped_is_not_found_in_another_nodes_file(kv: Kv, tmp_path: Path) -> None:
    await notes.keep_note(NAMESPACE, b"one")
    left = file(tmp_path).read_bytes()
    await notes.keep_note(NAMESPACE, None)
    assert not file(tmp_path).exists()
    file(tmp_path).write_bytes(left)
    assert await notes.read_note(NAMESPACE) is None, "the store says that it is out of date"


async def test_while_neither_place_answers_it_is_not_known(kv: Kv, tmp_path: Path) -> None:
    kv.down = True
    with pytest.raises(MemberUnavailable, match="key-value store does not answer"):
        await notes.read_note(NAMESPACE)


async def test_a_directory_that_can_not_be_written_is_no_problem_while_the_store_takes_it(
    kv: Kv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "home"))
    await notes.keep_note(NAMESPACE, b"one")
    assert await notes.read_note(NAMESPACE) == b"one"
    kv.down = True
    with pytest.raises(MemberUnavailable, match=r"plan\.json"):
        await notes.keep_note(NAMESPACE, b"two")


async def test_a_store_that_hangs_is_not_waited_for(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    released = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        released.wait(10.0)

    monkeypatch.setattr(notes, "WITHIN", 0.1)
    monkeypatch.setattr(internal_kv, "_internal_kv_get", hang)
    with pytest.raises(MemberUnavailable, match="did not answer within"):
        await notes.read_note(NAMESPACE)
    released.set()
