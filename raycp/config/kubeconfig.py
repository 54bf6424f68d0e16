"""Kubeconfig files as kubectl understands them: read, merged, and one context of them selected (client-go, ``tools/clientcmd``).

- Of several files the first one that has an entry of a name, or a current context, wins; a file that does not exist is left out.
- Paths in a file are relative to its directory: certificates, keys, token files, and a plugin's command that contains a ``/``.
- What is wrong with another context's entries is wrong with the file only where its types are.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from raycp.base.regular_files import read_regular
from raycp.config.kubeconfig_model import (
    KubeconfigCluster,
    KubeconfigContext,
    KubeconfigDocument,
    KubeconfigUser,
    kubeconfig_document,
)
from raycp.config.kubeconfig_yaml import parse_kubectl_yaml
from raycp.config.names import nearest
from raycp.config.strict import InvalidValue
from raycp.config.yamltree import BadYaml

KUBECONFIG_BYTES = 4 << 20
"""The largest kubeconfig file. An entry of a cluster with a client certificate has some 6 KB."""


class KubeconfigError(Exception):
    """Kubeconfig files that cannot be used: ``problem`` and ``remedy``; ``of_context`` if another context may be fine.

    No text contains a secret.
    """

    def __init__(self, problem: str, remedy: str, *, of_context: bool = False) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy
        self.of_context = of_context


@dataclass(frozen=True)
class SelectedContext:
    """A context and what it names. All paths are absolute."""

    name: str
    cluster: KubeconfigCluster
    user: KubeconfigUser
    user_name: str
    known_user: bool
    """False: there is no such user, and ``user`` is empty."""


@dataclass
class Kubeconfigs:
    """Some files, merged. ``files`` are those that exist."""

    files: list[str] = field(default_factory=list)
    current: str = ""
    clusters: dict[str, KubeconfigCluster] = field(default_factory=dict)
    users: dict[str, KubeconfigUser] = field(default_factory=dict)
    contexts: dict[str, KubeconfigContext] = field(default_factory=dict)

    def select(self, context: str | None) -> SelectedContext:
        """The context of that name; None or empty: the current one. Raises ``KubeconfigError``."""
        name, where = context or self.current, os.pathsep.join(self.files)
        known = ", ".join(sorted(filter(None, self.contexts))) or "none"
        if not name:
            raise KubeconfigError(f"{where} has no current-context", f"name one of its contexts: {known}")
        found = self.contexts.get(name)
        if found is None:
            close = nearest(name, self.contexts)
            remedy = (f"did you mean {close!r}? " if close else "") + f"known contexts: {known}"
            raise KubeconfigError(f"context {name!r} is not in {where}", remedy, of_context=True)
        cluster = self.clusters.get(found.cluster)
        if cluster is None:
            problem = f"context {name!r} of {where} names the cluster {found.cluster!r}, which does not exist"
            raise KubeconfigError(problem, f"known clusters: {', '.join(sorted(self.clusters)) or 'none'}", of_context=True)
        user = self.users.get(found.user)
        return SelectedContext(name, cluster, user or KubeconfigUser(), found.user, user is not None)

    def add(self, file: str, document: KubeconfigDocument) -> None:
        """Merge another file: what is known already wins."""
        base = os.path.dirname(os.path.abspath(file))
        self.files.append(file)
        self.current = self.current or document.current_context
        for cluster in document.clusters:
            self.clusters.setdefault(cluster.name, _cluster_at(base, cluster.cluster))
        for user in document.users:
            self.users.setdefault(user.name, _user_at(base, user.user))
        for context in document.contexts:
            self.contexts.setdefault(context.name, context.context)


def read_kubeconfigs(paths: Sequence[str]) -> Kubeconfigs:
    """The merged files. Raises ``KubeconfigError``: none exists, or one that exists cannot be read."""
    merged = Kubeconfigs()
    for path in dict.fromkeys(paths):
        document = _read(path)
        if document is not None:
            merged.add(path, document)
    if not merged.files:
        raise KubeconfigError(
            f"kubeconfig {os.pathsep.join(paths)} does not exist on {os.uname().nodename}",
            "paths are read on the node where the actor runs: put the file there, or correct `path`",
        )
    return merged


def split_paths(text: str) -> list[str]:
    """The files in a text such as that of ``$KUBECONFIG``."""
    return [part for part in text.split(os.pathsep) if part]


def _read(path: str) -> KubeconfigDocument | None:
    try:
        content = read_regular(path, KUBECONFIG_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = error.strerror or "" if isinstance(error, OSError) else "its name is none"
        raise KubeconfigError(
            f"kubeconfig {path} on {os.uname().nodename} cannot be read: {why}",
            "a kubeconfig is a file of at most 4 MiB that the user that runs Ray may read",
        ) from None
    try:
        return _document(content)
    except BadYaml as bad:
        where = f"{path}:{bad.line}" if bad.line else path
        raise KubeconfigError(f"kubeconfig {where} {bad.message}", bad.remedy) from None
    except InvalidValue as invalid:
        raise KubeconfigError(f"kubeconfig {path}: {invalid}", invalid.remedy) from None


@functools.lru_cache(maxsize=8)  # a fleet may have each of its clusters in one large file
def _document(content: bytes) -> KubeconfigDocument:
    return kubeconfig_document(parse_kubectl_yaml(content))


def _cluster_at(base: str, cluster: KubeconfigCluster) -> KubeconfigCluster:
    if not cluster.certificate_authority:
        return cluster
    return cluster.model_copy(update={"certificate_authority": _at(base, cluster.certificate_authority)})


def _user_at(base: str, user: KubeconfigUser) -> KubeconfigUser:
    names = ("client_certificate", "client_key", "token_file")
    update: dict[str, object] = {name: _at(base, getattr(user, name)) for name in names}
    if user.exec_ is not None and os.sep in user.exec_.command:
        update["exec_"] = user.exec_.model_copy(update={"command": _at(base, user.exec_.command)})
    return user.model_copy(update=update)


def _at(base: str, path: str) -> str:
    return os.path.normpath(os.path.join(base, path)) if path and not os.path.isabs(path) else path
