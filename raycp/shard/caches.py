"""The shard's watched clusters and their informers, and the reads of their caches."""

from collections.abc import Iterable, Iterator

from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.base.tasks import Written
from raycp.shard.routes import Routes
from raycp.shard.watched_cluster import Informer, WatchedCluster


class Caches:
    """One shard's. A key's object is looked up by its controller's kind, as the newest plan says."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self.clusters: dict[str, WatchedCluster] = {}

    def __contains__(self, cluster: str) -> bool:
        return cluster in self.clusters

    def __iter__(self) -> Iterator[WatchedCluster]:
        return iter(list(self.clusters.values()))

    def add(self, watched: WatchedCluster) -> None:
        """Watch another cluster."""
        self.clusters[watched.name] = watched

    def remove(self, cluster: str) -> WatchedCluster:
        """Read this cluster's caches no longer; the caller closes it. Raises ``KeyError``."""
        return self.clusters.pop(cluster)

    def cluster(self, name: str) -> WatchedCluster | None:
        """A watched cluster; None if it is not this shard's."""
        return self.clusters.get(name)

    def informer(self, cluster: str, kind: GVK) -> Informer | None:
        """The informer of a kind; None where the kind is not watched."""
        watched = self.clusters.get(cluster)
        return watched.informers.get(kind) if watched is not None else None

    def informer_of(self, key: RequestKey) -> Informer | None:
        """The informer whose store has the key's object; None where its cluster or controller has left."""
        watched, kind = self.clusters.get(key.cluster), self._routes.kind_of.get(key.controller)
        return watched.informers.get(kind) if watched is not None and kind is not None else None

    def informers(self) -> Iterable[tuple[str, GVK, Informer]]:
        """(cluster, kind, informer) of everything that is watched."""
        return [(name, kind, informer) for name, watched in self.clusters.items() for kind, informer in watched.informers.items()]

    def object(self, key: RequestKey) -> Obj | None:
        """The key's object as it is cached."""
        informer = self.informer_of(key)
        return informer.store.get(key.namespace, key.name) if informer is not None else None

    def skew(self, cluster: str) -> float:
        """Seconds that the cluster's wall clock is ahead of ours; 0 where that is not known."""
        watched = self.clusters.get(cluster)
        return watched.skew() if watched is not None else 0.0

    def version_after(self, key: RequestKey, writes: Iterable[Written]) -> int | None:
        """The version that the key's object has if one of ``writes`` left it as it is cached now; None otherwise."""
        obj = self.object(key)
        if obj is None:
            return None
        for write in writes:
            if 0 < write.rv == obj.rv and write.uid == obj.meta.uid and write.cluster == key.cluster:
                return obj.version
        return None
