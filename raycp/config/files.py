"""Checks that the files that a fleet file names exist on this machine and have the required content."""

import os
from pathlib import Path

from raycp.config.clusters import KubeconfigRef
from raycp.config.fleet import FleetDoc
from raycp.config.kubeconfig import KubeconfigError, read_kubeconfigs, split_paths
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
            found += _kubeconfig(cluster.kubeconfig, (*loc, "kubeconfig"))
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
    for index, controller in enumerate(doc.spec.controllers):
        for name, reference in controller.credentials.items():
            found += _kubeconfig(reference, ("spec", "controllers", index, "credentials", name))
    return found


def _kubeconfig(reference: KubeconfigRef, loc: Loc) -> list[Violation]:
    try:
        read_kubeconfigs([os.path.expanduser(path) for path in split_paths(reference.path)]).select(reference.context)
    except KubeconfigError as error:
        named = error.of_context and reference.context is not None
        return [Violation((*loc, "context" if named else "path"), f"cannot be used: {error.problem}", error.remedy)]
    return []
