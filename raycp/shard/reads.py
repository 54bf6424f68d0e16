"""Reads of a shard's caches for workers and other shards."""

from collections.abc import Iterable

from raycp.base.keys import GVK
from raycp.base.objects import Obj
from raycp.base.owner_marks import MarkKeys
from raycp.base.tasks import FOREIGN_SHOWN, Child
from raycp.cache import Selector
from raycp.protocol.control import CacheContent, ReadCache
from raycp.protocol.frames import Read, Reply, ReplyCode
from raycp.shard.caches import Caches
from raycp.shard.owned_objects import names_of, owned_objects, owner_rows, uid_rows


def answer_read(caches: Caches, read: Read, marks: MarkKeys | None) -> Reply:
    """The answer to a ``Read``. ``code`` is ``UNWATCHED`` where the cache can't answer; clusters not synced are in
    ``unknown_clusters``, and without ``marks`` those with objects that claim the owner who is asked for."""
    reply = Reply(read.id, [], [])
    try:
        selector = Selector.parse(read.selector)
    except ValueError as error:
        reply.error, reply.code = str(error), ReplyCode.INVALID
        return reply
    for cluster in read.clusters or list(caches.clusters):
        watched = caches.cluster(cluster)
        if watched is None:
            reply.unknown_clusters.append(cluster)
            continue
        for kind in read.kinds:
            informer = watched.informers.get(GVK.parse(kind))
            whole = informer is not None and not (informer.route.label_selector or informer.route.field_selector)
            if informer is None or not (whole or read.op in ("owned", "owners")):
                # A cache that was filtered at the server knows only a part.
                reply.error, reply.code = f"the cache does not hold all of {kind} in {cluster}", ReplyCode.UNWATCHED
                return reply
            if not informer.synced:
                reply.unknown_clusters.append(cluster)
                continue
            if read.op == "owners":
                if marks is None:
                    reply.unknown_clusters.append(cluster)
                reply.found += owner_rows(informer.store, cluster, kind)
                continue
            if read.op == "uids":
                reply.found += uid_rows(informer.store, cluster, kind)
                continue
            found: Iterable[Obj]
            if read.op == "get":
                obj = informer.store.get(read.namespace, read.name)
                found = [obj] if obj is not None else []
            elif read.op == "owned":
                owned, claims = owned_objects(informer.store, read.name, references=read.references, namespace=read.namespace)
                found = [obj for obj in owned if selector.matches(obj.meta.labels)]
                if claims and marks is None:
                    reply.unknown_clusters.append(cluster)
                elif claims:
                    reply.foreign = [*reply.foreign, *names_of(cluster, claims)][:FOREIGN_SHOWN]
            else:
                found = informer.store.select(read.namespace or None, selector)
            reply.found.extend(Child(cluster, kind, obj.raw) for obj in found)
    return reply


def answer_cache(caches: Caches, asked: ReadCache) -> CacheContent:
    """All objects of one kind in the cache of a primary or a standby."""
    informer = caches.informer(asked.cluster, GVK.parse(asked.kind))
    if informer is None or not informer.synced:
        return CacheContent(False)
    objects = [obj.raw for obj in informer.store.select(None, Selector.parse(""))]
    return CacheContent(True, informer.store.rv, informer.route.label_selector, objects)
