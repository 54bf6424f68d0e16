"""Load a fleet file: a ``FleetDoc``, or all problems of the file."""

import errno
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raycp.base.regular_files import read_regular
from raycp.config.clusters import KubeconfigRef
from raycp.config.crosscheck import crosscheck
from raycp.config.files import missing_files
from raycp.config.fleet import API_VERSION, FleetDoc
from raycp.config.kubeconfig import split_paths
from raycp.config.problems import (
    ConfigError,
    Loc,
    Problem,
    Violation,
    dotted,
    from_validation,
    line_of,
    shown,
    value_at,
)
from raycp.config.yamltree import MAX_BYTES, BadYaml, parse

_REMEDIES = {errno.EFBIG: "this is not a fleet file", errno.EINVAL: "a fleet file is read more than once: write it to a file"}


def load_fleet(path: Path, *, check_files: bool = False) -> FleetDoc:
    """Read, validate and cross-check the fleet file at ``path``.

    Kubeconfig and data paths relative to the file's directory become absolute; ``~`` is kept for the node that reads it.
    With ``check_files``, the files that it names must also exist on this machine. Raises ``ConfigError``.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise ConfigError([Problem(str(file), "", "", "is a directory", "name the YAML file in it")])
        text = read_regular(file, MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise ConfigError([Problem(str(file), "", "", "does not exist", "name the fleet file with -c")]) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start})"
        raise ConfigError([Problem(str(file), "", "", message, "save it as UTF-8")]) from None
    except OSError as error:
        message = f"can't be read: {error.strerror or error}"
        remedy = _REMEDIES.get(error.errno or 0, "check its permissions")
        raise ConfigError([Problem(str(file), "", "", message, remedy)]) from None
    return parse_fleet(text, file, check_files=check_files)


def parse_fleet(text: str, file: Path = Path("fleet.yaml"), *, check_files: bool = False) -> FleetDoc:
    """Like ``load_fleet``, from text; ``file`` is its name in messages and the base of relative paths."""
    try:
        content, lines = parse(text)
    except BadYaml as bad:
        raise ConfigError([Problem(str(file), dotted(bad.loc), "", bad.message, bad.remedy, bad.line)]) from None
    _recognise(content, file, lines)
    try:
        doc = FleetDoc.model_validate(content, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigError(from_validation(error, FleetDoc, file, lines)) from None
    violations = crosscheck(doc)
    if not violations:
        doc = _absolute(doc, file.absolute().parent)
        violations = missing_files(doc) if check_files else []
    if violations:
        raise ConfigError([_placed(each, content, file, lines) for each in violations])
    return doc


def _recognise(content: Any, file: Path, lines: dict[Loc, int]) -> None:
    """Report a file of another kind as one problem; otherwise each of its keys would be one."""
    remedy = f"a fleet file begins with apiVersion: {API_VERSION} and kind: Fleet"
    if not isinstance(content, dict):
        raise ConfigError([Problem(str(file), "", shown(content), "is not a mapping", remedy, 1)])
    for key, expected in (("kind", "Fleet"), ("apiVersion", API_VERSION)):
        if key in content and content[key] != expected:
            line = line_of((key,), lines)
            raise ConfigError([Problem(str(file), key, shown(content[key]), f"is not {expected}", remedy, line)])


def _placed(violation: Violation, content: Any, file: Path, lines: dict[Loc, int]) -> Problem:
    value = value_at(content, violation.loc)
    text = "" if value is None or isinstance(value, dict | list) else shown(value)
    line = line_of(violation.loc, lines)
    return Problem(str(file), dotted(violation.loc), text, violation.message, violation.remedy, line)


def _absolute(doc: FleetDoc, base: Path) -> FleetDoc:
    clusters = []
    for cluster in doc.spec.clusters:
        update: dict[str, Any] = {}
        if cluster.kubeconfig:
            update["kubeconfig"] = _absolute_paths(base, cluster.kubeconfig)
        if cluster.embedded:
            spec = cluster.embedded
            update["embedded"] = spec.model_copy(
                update={
                    "data_dir": Path(_from(base, str(spec.data_dir))) if spec.data_dir else None,
                    "stages": [Path(_from(base, str(stage))) for stage in spec.stages],
                }
            )
        clusters.append(cluster.model_copy(update=update))
    controllers = [
        each.model_copy(update={"credentials": {name: _absolute_paths(base, ref) for name, ref in each.credentials.items()}})
        for each in doc.spec.controllers
    ]
    return doc.model_copy(update={"spec": doc.spec.model_copy(update={"clusters": clusters, "controllers": controllers})})


def _absolute_paths(base: Path, reference: KubeconfigRef) -> KubeconfigRef:
    paths = os.pathsep.join(_from(base, path) for path in split_paths(reference.path))
    return reference.model_copy(update={"path": paths})


def _from(base: Path, path: str) -> str:
    return path if path.startswith("~") or Path(path).is_absolute() else str(base / path)
