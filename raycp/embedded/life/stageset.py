"""The stages of one cluster: those of its stage files, and the shipped ones for the kinds that the files do not name."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from raycp.base.regular_files import read_regular
from raycp.config import FleetDoc
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.life.gofuncs import GENERIC, node_ip
from raycp.embedded.life.gotemplate import Functions
from raycp.embedded.life.seams import Object, iso
from raycp.embedded.life.stagefile import LifeStage, StageError, load_stages

VERSION = "v1.36.0-raycp"
"""the kubelet version that simulated nodes report"""


STAGE_BYTES = 4 << 20
"""The largest stage file: a stage has about a thousand bytes."""


def stage_functions(wall: Callable[[], float], rendered: Callable[[], Object]) -> Functions:
    """The functions of templates. ``rendered`` is the object that is being rendered."""
    began = iso(wall())
    return {
        **GENERIC,
        "Now": lambda: iso(wall()),
        "StartTime": lambda: began,
        "Version": lambda: VERSION,
        "ContainerID": lambda uid, name, restarts: f"embedded://{uid}-{name}-{restarts or 0}",
        "NodeIP": lambda: node_ip(rendered()["metadata"]["name"]),
        "NodeName": lambda: rendered()["metadata"]["name"],
        "NodePort": lambda: 10250,
        "PodIP": lambda: rendered()["raycp"]["ip"],
    }


def cluster_stages(spec: EmbeddedSpec, functions: Functions) -> list[LifeStage]:
    """The stages of a cluster. Raises ``StageError`` for a stage file that can't be used."""
    given = [stage for path in spec.stages for stage in load_stages(_read(Path(path)), str(path), functions)]
    shipped = resources.files("raycp.embedded.life") / "stages"
    for name in ("pod.yaml", "node.yaml"):
        ours = load_stages((shipped / name).read_text(), name, functions)
        given += [stage for stage in ours if stage.kind not in {each.kind for each in given if each.source != name}]
    return given


def _read(path: Path) -> str:
    try:
        return read_regular(path, STAGE_BYTES).decode()
    except OSError as error:
        raise StageError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StageError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def check_stages(doc: FleetDoc) -> None:
    """Read the stage files that the fleet file names and this machine has. Raises ``StageError``."""
    nothing: dict[str, Any] = {}
    for cluster in doc.spec.clusters:
        for path in cluster.embedded.stages if cluster.embedded is not None else ():
            if path.exists():
                load_stages(_read(path), str(path), stage_functions(lambda: 0.0, lambda: nothing))
