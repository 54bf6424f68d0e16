"""Checks that the files that a fleet file names exist on this machine and have the required content."""

from pathlib import Path
from typing import Any

import yaml

from raycp.config.fleet import FleetDoc
from raycp.config.names import nearest
from raycp.config.problems import Loc, Violation

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def missing_files(doc: FleetDoc) -> list[Violation]:
    """Files that are missing on this machine: kubeconfig files and contexts, stage files, a service account's token.

    Paths are those of ``load_fleet``: absolute, or beginning with ``~``.
    """
    found: list[Violation] = []
    for index, cluster in enumerate(doc.spec.clusters):
        loc: Loc = ("spec", "clusters", index)
        if cluster.kubeconfig:
            where = (*loc, "kubeconfig")
            found += _kubeconfig(Path(cluster.kubeconfig.path).expanduser(), cluster.kubeconfig.context, where)
        elif cluster.in_cluster and not _SERVICE_ACCOUNT.is_file():
            found.append(
                Violation(
                    (*loc, "inCluster"),
                    f"needs a Pod's service account, but {_SERVICE_ACCOUNT} does not exist on this machine",
                    "run this inside a Pod of that cluster, or name a kubeconfig",
                )
            )
        elif cluster.embedded:
            for position, stage in enumerate(cluster.embedded.stages):
                if not Path(stage).expanduser().is_file():
                    found.append(Violation((*loc, "embedded", "stages", position), "does not exist", "name a kwok Stage file"))
    return found


def _kubeconfig(path: Path, context: str | None, loc: Loc) -> list[Violation]:
    here = (*loc, "path")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [Violation(here, f"does not exist on this machine (looked at {path})", "name a kubeconfig file")]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        return [Violation(here, f"can't be read: {reason}", "check its permissions")]
    except yaml.YAMLError:
        return [Violation(here, "is not YAML", "name a kubeconfig file")]
    if not isinstance(content, dict) or not isinstance(content.get("contexts"), list):
        return [Violation(here, "is not a kubeconfig: it has no contexts", "name a kubeconfig file")]
    contexts = [str(each.get("name")) for each in content["contexts"] if isinstance(each, dict)]
    if context is not None and context not in contexts:
        close = nearest(context, contexts)
        remedy = f"did you mean {close!r}?" if close else f"it has: {', '.join(contexts) or 'none'}"
        return [Violation((*loc, "context"), f"is not a context of {path}", remedy)]
    if context is None and not content.get("current-context"):
        return [Violation(here, "has no current context", f"name one of its contexts: {', '.join(contexts)}")]
    return []
