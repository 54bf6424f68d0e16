"""``dataDir`` on a disk that is full, fails or was left by a killed process: what was acknowledged is there, and nothing else."""

import asyncio
import contextlib
import errno
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import until
from test_server_http import CMS, Api, config_map, spec

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded import appender, persist
from raycp.embedded.appender import DiskFile
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError
from raycp.embedded.files import write_whole
from raycp.embedded.persist import Journal, UnusableDirectory
from raycp.embedded.records import MARK, read_records, record
from raycp.embedded.store import ObjectStore


class Disk:
    """A disk with ``room`` bytes for all its files; None is no limit. ``stuck``: nothing can be cut off either."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.stuck = False

    def open(self, path: Path) -> "DiskOf":
        return DiskOf(self, path)


class DiskOf(DiskFile):
    """A file on it: a write is short where there is room for a part, as POSIX has it."""

    def __init__(self, disk: Disk, path: Path) -> None:
        super().__init__(path)
        self._disk, self._path = disk, path

    def write(self, data: bytes) -> int:
        room = self._disk.room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = super().write(data if room is None else data[:room])
        if room is not None:
            self._disk.room = room - done
        return done

    def truncate(self, size: int) -> None:
        if self._disk.stuck:
            raise OSError(errno.EIO, "Input/output error")
        freed = self._path.stat().st_size - size
        super().truncate(size)
        if self._disk.room is not None:
            self._disk.room += freed


@contextlib.contextmanager
def journal(directory: Path, disk: Disk) -> Iterator[ObjectStore]:
    """A store that is logged in ``directory``, until it is killed."""
    store, made = ObjectStore(), Journal(directory, disk.open)
    made.load(store)
    made.follow(store)
    yield store
    store.write_ahead = None


def found(directory: Path) -> dict[str, bytes]:
    """What a process that starts in a copy of the directory finds; the first one was killed."""
    copy = directory.with_name(directory.name + "-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    store = ObjectStore()
    made = Journal(copy)
    made.load(store)
    made.close(store)
    return state(store)


def state(store: ObjectStore) -> dict[str, bytes]:
    return {one.name: one.raw for one in store.table("", "things").records("ns")}


def put(store: ObjectStore, name: str, size: int = 10) -> None:
    raw = b'{"metadata":{"resourceVersion":"%d"},"x":"%b"}' % (store.revision + 1, name.encode() * size)
    store.put(store.table("", "things"), "ns", name, "uid", raw)


steps = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "fill", "free", "stick", "loosen"]), st.sampled_from("abcd"), st.integers(0, 300)),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_what_is_acknowledged_is_what_is_seen_and_what_is_found(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    directory, disk = tmp_path_factory.mktemp("data"), Disk()
    told: list[tuple[str, str]] = []
    acknowledged: list[tuple[str, str]] = []
    with journal(directory, disk) as store:
        table = store.table("", "things")
        table.subscribe("", lambda change: told.append((change.type, change.record.name)))
        for what, name, number in steps:
            before, revision, known = state(store), store.revision, table.get("ns", name)
            try:
                if what == "put":
                    put(store, name, number)
                    acknowledged.append(("ADDED" if known is None else "MODIFIED", name))
                elif what == "delete" and known is not None:
                    store.delete(table, known)
                    acknowledged.append(("DELETED", name))
            except StatusError:
                assert (state(store), store.revision) == (before, revision), "nothing unwritten is visible"
            if what in ("fill", "free"):
                disk.room = number if what == "fill" else None
            if what in ("stick", "loosen"):
                disk.stuck = what == "stick"
            assert told == acknowledged, "watchers are told what was written"
        assert found(directory) == state(store), "and what was written is found"


def test_a_torn_record_hides_no_other(tmp_path: Path) -> None:
    disk = Disk()
    with journal(tmp_path / "d", disk) as store:
        put(store, "a")
        disk.room, disk.stuck = 30, True
        with pytest.raises(StatusError):
            put(store, "torn")
        disk.room = None
        put(store, "b")
        put(store, "c")
    assert sorted(found(tmp_path / "d")) == ["a", "b", "c"]


@pytest.mark.parametrize("tear", ["start", "middle", "end"])
def test_torn_bytes_end_recovery_at_themselves_only(tmp_path: Path, tear: str) -> None:
    with journal(tmp_path / "d", Disk()) as store:
        for name in "abc":
            put(store, name)
    log = tmp_path / "d" / "objects.log"
    data = bytearray(log.read_bytes())
    offsets = [at for at, _ in read_records(bytes(data))]
    if tear == "end":
        del data[offsets[2] + 20 :]
    else:
        at = offsets[0 if tear == "start" else 1]
        data[at + 15 : at + 40] = bytes(25)
    log.write_bytes(data)
    assert sorted(found(tmp_path / "d")) == {"start": ["b", "c"], "middle": ["a", "c"], "end": ["a", "b"]}[tear]


def test_no_object_holds_a_record_that_is_found_in_a_torn_one(tmp_path: Path) -> None:
    with pytest.raises(UnicodeDecodeError):
        MARK.decode()
    with journal(tmp_path / "d", Disk()) as store:
        put(store, "evil")
    (_, body), *_ = read_records((tmp_path / "d" / "objects.log").read_bytes())
    with journal(tmp_path / "e", Disk()) as store:
        forged = record(body).decode("latin-1")
        store.put(store.table("", "things"), "ns", "b", "uid", ('{"x":"' + forged + '"}').encode())
    log = tmp_path / "e" / "objects.log"
    log.write_bytes(log.read_bytes()[:-1])
    assert found(tmp_path / "e") == {}


# ---- snapshots


def test_a_log_that_grows_is_replaced_while_the_cluster_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persist, "_SNAPSHOT_FROM", 5_000)
    with journal(tmp_path / "d", Disk()) as store:
        store.write_ahead = None
    shutil.rmtree(tmp_path / "d")
    with journal(tmp_path / "d", Disk()) as store:
        for number in range(500):
            put(store, "abcd"[number % 4])
            assert (tmp_path / "d" / "objects.log").stat().st_size < 80_000
        put(store, "last")
        assert found(tmp_path / "d") == state(store)


def test_a_snapshot_without_room_leaves_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    with journal(tmp_path / "d", disk) as store:
        put(store, "a")
        kept = state(store)
    log = tmp_path / "d" / "objects.log"
    log.write_bytes(log.read_bytes() + MARK + b"torn")  # so that the next start wants a snapshot
    disk.room = 0
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "d", copy)
    with journal(copy, disk) as store:
        assert state(store) == kept
        with pytest.raises(StatusError):
            put(store, "b")
        disk.room = None
        put(store, "b")
        kept = state(store)
    assert not list(copy.glob("*.new"))
    assert found(copy) == kept


# ---- the directory


def test_a_directory_is_of_one_cluster_at_a_time(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    with pytest.raises(UnusableDirectory, match="in use by another cluster"):
        Journal(tmp_path)
    first.close(ObjectStore())
    Journal(tmp_path).close(ObjectStore())


@pytest.mark.parametrize("content", [b"\0\0\0\x10something else", b"{}"])
def test_what_is_no_log_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "objects.log").write_bytes(content)
    with pytest.raises(UnusableDirectory, match="is no log of this release"):
        Journal(tmp_path).load(ObjectStore())
    assert (tmp_path / "objects.log").read_bytes() == content


def test_a_small_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    write_whole(path, b"first")
    with pytest.raises(OSError, match="too long") as caught:
        write_whole(tmp_path / ("x" * 300), b"second")
    assert caught.value.filename
    assert [one.name for one in tmp_path.iterdir()] == ["admin.token"]
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600


# ---- through the server


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk of clusters that are made from now on."""
    made = Disk()
    monkeypatch.setattr(Journal.__init__, "__defaults__", (made.open,))
    return made


@pytest.fixture
async def api(tmp_path: Path, disk: Disk) -> AsyncIterator[Api]:
    cluster = EmbeddedCluster("t", spec(data_dir=tmp_path / "d"))
    await cluster.start()
    client = Api(cluster)
    yield client
    await client.http.close()
    await cluster.stop()


async def test_writes_on_a_full_disk_are_refused_and_never_seen(api: Api, disk: Disk, tmp_path: Path) -> None:
    revision = api.cluster.store.revision
    watch = asyncio.ensure_future(api.watch(f"{CMS}?watch=1&resourceVersion={revision}", 2))
    assert (await api.ask("POST", CMS, config_map("before")))[0] == 201
    for method, path, body in (
        ("POST", CMS, config_map("none")),
        ("PUT", CMS + "/before", {**config_map("before"), "data": {"a": "b"}}),
        ("DELETE", CMS + "/before", None),
    ):
        disk.room = 50
        status, told = await api.ask(method, path, body)
        assert (status, told["message"]) == (500, "etcdserver: mvcc: database space exceeded")
    assert (await api.ask("GET", CMS + "/none"))[0] == 404
    assert "data" not in (await api.ask("GET", CMS + "/before"))[1]
    disk.room = None
    assert (await api.ask("POST", CMS, config_map("after")))[0] == 201
    assert [(kind, obj["metadata"]["name"]) for kind, obj in await watch] == [("ADDED", "before"), ("ADDED", "after")]
    shutil.copytree(tmp_path / "d", tmp_path / "killed")
    again = EmbeddedCluster("t", spec(data_dir=tmp_path / "killed"))
    assert sorted(one["metadata"]["name"] for one in again.api.list("configmaps", "default")[0]) == ["after", "before"]


async def test_a_cluster_that_finds_no_room_says_where(tmp_path: Path, disk: Disk) -> None:
    disk.room = 0
    cluster = EmbeddedCluster("t", spec(data_dir=tmp_path))
    with pytest.raises(OSError, match="No space left on device") as caught:
        await cluster.start()
    assert caught.value.filename == str(tmp_path)


async def test_controllers_go_on_when_there_is_room_again(tmp_path: Path, disk: Disk) -> None:
    life = EmbeddedSpec(controllers=EmbeddedControllers(), nodes=2, pod_runtime=0.1, data_dir=tmp_path)
    cluster = EmbeddedCluster("t", life)
    await cluster.start()
    try:
        pod = {"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
        await cluster.api.create("pods", pod, "default")
        disk.room = 0
        await asyncio.sleep(1.0)  # whatever they try meanwhile fails
        disk.room = None

        def phase() -> str:
            found = cluster.api.get("pods", "default", "p")
            return str(found["status"]["phase"]) if found is not None else ""

        await until(lambda: phase() == "Succeeded")
        await cluster.api.create("namespaces", {"metadata": {"name": "n"}})
        await until(lambda: cluster.api.get("serviceaccounts", "n", "default"))
    finally:
        await cluster.stop()


def test_a_write_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    class Deaf(DiskFile):
        def write(self, data: bytes) -> int:
            return 0

    with pytest.raises(OSError, match="No space"):
        appender.Appender(Deaf(tmp_path / "x")).append(b"y")
