"""kubectl is the oracle: each kubeconfig of the table lets raycp in where it lets kubectl in, and as the same user."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from doormen import TOKEN, Doormen
from kubeconfig_rows import Row
from kubeconfig_table import ROWS

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectError, ConnectSpec

ROOT = Path(__file__).parents[2]
PROXY_VARIABLES = [name for each in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY") for name in (each, each.lower())]


@pytest.fixture(scope="module")
def kubectl() -> str:
    found = shutil.which("kubectl", path=f"{ROOT / '.tools/bin'}:{os.environ['PATH']}")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no kubectl: make tools")
    return str(Path(str(found)).absolute())


@pytest.fixture(scope="module")
def doormen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doormen]:
    with Doormen(tmp_path_factory.mktemp("doormen")) as found:
        yield found


def test_the_table_has_sixty_rows_of_different_names() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
async def test_raycp_gets_in_where_kubectl_does(
    row: Row, kubectl: str, doormen: Doormen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for player in ("kubectl", "raycp"):
        folder = tmp_path / player
        folder.mkdir()
        env = row.write(folder, doormen)
        doormen.forget()
        if player == "kubectl":
            entered, said = by_kubectl([kubectl, *row.command], folder, env)
            assert entered == row.enters, f"the table is wrong: {said}"
        else:
            entered, said = await by_raycp(folder, env, monkeypatch)
        # A kubectl that picks the version of itself (Google's) asks for the server's before it looks at the user.
        shown = {visit for visit in doormen.visits if entered or visit.authorization or visit.certificate}
        outcomes.append((entered, shown, set(doormen.tunnels)))
    assert outcomes[1] == outcomes[0], said
    secrets = (TOKEN, "renew-me", "p%40ss", "me:no", "me:pw", *doormen.texts["key"].splitlines()[1:-1])
    assert not [secret for secret in secrets if secret in said]


def by_kubectl(command: list[str], folder: Path, env: dict[str, str]) -> tuple[bool, str]:
    played = subprocess.run(
        [*command, "--request-timeout=10s"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return played.returncode == 0, played.stderr


async def by_raycp(folder: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[bool, str]:
    monkeypatch.chdir(folder)
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(folder), **env}.items():
        monkeypatch.setenv(name, value)
    try:
        client = await ClusterClient.connect(ConnectSpec(name="c1", timeout=10.0), SystemClock())
    except ConnectError as error:
        return False, str(error)
    await client.close()
    return True, ""
