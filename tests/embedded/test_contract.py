"""The contract: every case of ``contract/*.yaml`` on an embedded cluster, or on the server of RAYCP_CONTRACT_KUBECONFIG."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.testkit.clusters import EmbeddedHost
from raycp.testkit.contract import Runner, differences, load_cases

CASES = load_cases(Path(__file__).parent / "contract")


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    real = os.environ.get("RAYCP_CONTRACT_KUBECONFIG")
    if real:
        yield Path(real)
        return
    host = EmbeddedHost(tmp_path_factory.mktemp("contract"))
    yield host.start("bare", EmbeddedSpec(controllers=EmbeddedControllers.none())).kubeconfig
    host.close()


@pytest.mark.parametrize("name", CASES)
async def test_contract(name: str, kubeconfig: Path) -> None:
    async with Runner(kubeconfig) as runner:
        problems = await runner.run(CASES[name])
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("wanted", "got", "same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": "<none>"}, {"b": 2}, True),
        ({"a": "<any>"}, {"b": 2}, False),
        ([1], [1, 2], False),
        ({"a": "~^x+$"}, {"a": "xxx"}, True),
        ({"a": "~^x+$"}, {"a": "xyx"}, False),
        ({"a": {"b": 1}}, {"a": None}, False),
    ],
)
def test_comparison_of_contract_answers(wanted: object, got: object, same: bool) -> None:
    assert (not differences(wanted, got, "body")) is same
